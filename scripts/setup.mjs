// Makes a checkout ready to run, from Node alone: a Node 24 runtime where the installed one is older, the npm packages, and
// with --full a Vulkan driver (scripts/vulkan.mjs). Entry: setup(). Runs on Node 18 and later without any package, so it is
// plain JavaScript. Everything it makes lies in .tools and node_modules; a second run finds nothing to do in about 0.1 s.
// One process at a time does the work (.tools/setup.lock); others wait for it and then find it done.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The runtime that is fetched when the installed Node is older; @types/node follows its major. */
export const NODE_VERSION = '24.21.0'
const NODE_MAJOR = 24

/** A set-up that takes longer than this is taken for dead by the processes that wait for it (npm ci on a slow line: minutes). */
const LOCK_WAIT_MS = 20 * 60 * 1000

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const windows = process.platform === 'win32'
const nodeFile = windows ? 'node.exe' : 'node'
/** An installed package has no lock file of its own and may lie in a read-only folder: its runtime goes to the user's cache. */
const isCheckout = fs.existsSync(join(root, 'package-lock.json')) && !root.includes(`${sep}node_modules${sep}`)
const tools = isCheckout ? join(root, '.tools') : (userCache() ?? join(root, '.tools'))

/** The cache folder of this user; null where there is neither HOME nor an entry in /etc/passwd. */
export function userCache() {
  try {
    return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'tensorpress')
  } catch {
    return null
  }
}

const runtimePackage = [
  process.platform === 'darwin' && process.arch === 'arm64' ? 'node-bin' : 'node',
  windows ? 'win' : process.platform,
  process.arch,
].join('-')
const runtimeHome = join(tools, `node-${NODE_VERSION}`)
const runtimePath = join(runtimeHome, 'node_modules', runtimePackage, 'bin', nodeFile)

/** Whether the Node that runs this file is the one the product needs. */
export const newEnough = Number.parseInt(process.versions.node, 10) >= NODE_MAJOR

/**
 * Whether npm scripts must find the runtime of .tools first. In a script of npm this file itself is run by that runtime, which
 * is new enough: the link it came by is needed again after `npm ci` has wiped it.
 */
const linksRuntime = !newEnough || isSame(process.execPath, runtimePath)

/**
 * @param {string} path
 * @param {string} other
 */
function isSame(path, other) {
  return fs.existsSync(other) && fs.realpathSync(path) === fs.realpathSync(other)
}

/** @param {string} text */
const say = (text) => process.stderr.write(`setup: ${text}\n`)

/**
 * Runs npm, with its output on stderr so that stdout stays the product's own.
 * @param {string} node the Node that runs npm
 * @param {string} cwd
 * @param {string[]} args
 * @returns {boolean} whether it ended with 0
 */
function npm(node, cwd, args) {
  // The settings of an npm that started this script belong to that call and must not leak into the inner one.
  const outer =
    /^npm_(package|lifecycle|command|config_(local_prefix|prefix|global|omit|include|workspace|dry_run|ignore_scripts))/i
  const env = {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !outer.test(name))),
    // onnxruntime-node's post-install would download CUDA libraries; npm 11 and later read allowScripts, npm 10 reads this.
    ONNXRUNTIME_NODE_INSTALL: 'skip',
    TENSORPRESS_SETUP_LOCK: 'held',
    // npm itself is then run by this Node, and finds its version good.
    PATH: [dirname(node), process.env['PATH']].join(delimiter),
  }
  /** @type {import('node:child_process').SpawnSyncOptions} */
  const options = { cwd, env, stdio: ['ignore', 2, 2] }
  const script = process.env['npm_execpath'] ?? ''
  const result = /npm-cli\.js$/.test(script)
    ? spawnSync(node, [script, ...args], options)
    : spawnSync('npm', args, { ...options, shell: windows })
  if (result.error) say(`npm could not be started: ${result.error.message}`)
  return result.status === 0
}

/**
 * A Node of at least NODE_MAJOR: this one, or one from the npm registry that is kept in .tools.
 * @returns {string} its path
 */
export function ensureNode() {
  if (newEnough) return process.execPath
  if (fs.existsSync(runtimePath)) return runtimePath
  say(
    `Node ${process.versions.node} is installed, ${NODE_MAJOR} or later is needed: fetching ${runtimePackage}@${NODE_VERSION}`,
  )
  try {
    return fetchNode()
  } catch (error) {
    throw new Error(
      `Node ${process.versions.node} is too old and ${error instanceof Error ? error.message : error}. Install Node ${NODE_MAJOR} or later yourself (https://nodejs.org), then try again.`,
    )
  }
}

/**
 * Node NODE_VERSION as its makers build it, from the npm registry, kept in .tools.
 * @returns {string} its path
 */
export function fetchNode() {
  if (fs.existsSync(runtimePath)) return runtimePath
  const temporary = `${runtimeHome}.${process.pid}`
  fs.mkdirSync(temporary, { recursive: true })
  fs.writeFileSync(join(temporary, 'package.json'), '{"private":true}\n')
  const flags = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
  const installed = npm(process.execPath, temporary, ['install', ...flags, `${runtimePackage}@${NODE_VERSION}`])
  const candidate = join(temporary, 'node_modules', runtimePackage, 'bin', nodeFile)
  const runs = installed && spawnSync(candidate, ['-v'], { encoding: 'utf8' }).stdout?.trim() === `v${NODE_VERSION}`
  try {
    if (runs) fs.renameSync(temporary, runtimeHome)
  } catch {
    // Another process put its own copy there first.
  }
  fs.rmSync(temporary, { recursive: true, force: true })
  if (fs.existsSync(runtimePath)) return runtimePath
  throw new Error(`${runtimePackage}@${NODE_VERSION} could not be installed from the npm registry`)
}

/** @param {string} file relative to the checkout */
const modifiedMs = (file) => fs.statSync(join(root, file), { throwIfNoEntry: false })?.mtimeMs ?? 0

/** Identity of the package lock that node_modules was installed from. */
const lockDigest = () =>
  createHash('sha256')
    .update(fs.readFileSync(join(root, 'package-lock.json')))
    .digest('hex')

const stampPath = join(root, 'node_modules', '.tensorpress-lock')

/** Why `npm ci` has to run, or null. Switching branches touches the lock file without changing it: then its digest decides. */
function packagesStale() {
  const installed = modifiedMs('node_modules/.package-lock.json')
  if (installed === 0) return 'node_modules is missing'
  if (installed >= modifiedMs('package-lock.json')) return null
  const stamp = fs.existsSync(stampPath) ? fs.readFileSync(stampPath, 'utf8').trim() : ''
  return stamp === lockDigest() ? null : 'package-lock.json is newer than node_modules'
}

/** Whether node_modules/.bin has what npm scripts need: a `node` of the right major, and on Windows the word `exec`. */
function linksMissing() {
  const bin = join(root, 'node_modules', '.bin')
  return (linksRuntime && !fs.existsSync(join(bin, nodeFile))) || (windows && !fs.existsSync(join(bin, 'exec.cmd')))
}

/** npm puts node_modules/.bin first on PATH: `node` in its scripts is then the new one. `npm ci` wipes the folder. */
function makeLinks() {
  const bin = join(root, 'node_modules', '.bin')
  fs.mkdirSync(bin, { recursive: true })
  // "exec" in the start script lets signals reach the server itself; cmd.exe has no such word.
  if (windows) fs.writeFileSync(join(bin, 'exec.cmd'), '@%*\r\n')
  if (!linksRuntime || fs.existsSync(join(bin, nodeFile))) return
  const runtime = newEnough ? runtimePath : ensureNode()
  const temporary = join(bin, `.${nodeFile}.${process.pid}`)
  if (windows) fs.copyFileSync(runtime, temporary)
  else fs.symlinkSync(relative(bin, runtime), temporary)
  fs.renameSync(temporary, join(bin, nodeFile))
}

/** @param {number} pid */
function alive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM'
  }
}

/**
 * Runs `work` while no other process of this checkout does. The lock file holds the owner's pid; a dead owner's lock is void.
 * @param {() => void} work
 */
function withLock(work) {
  // npm ci, started below, runs the `prepare` script of this checkout: it already owns the lock through its parent.
  if (process.env['TENSORPRESS_SETUP_LOCK'] === 'held') return work()
  fs.mkdirSync(tools, { recursive: true })
  const lock = join(tools, 'setup.lock')
  const deadline = Date.now() + LOCK_WAIT_MS
  let told = false
  for (;;) {
    try {
      fs.writeFileSync(lock, `${process.pid}\n`, { flag: 'wx' })
      break
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error
    }
    const owner = Number.parseInt(readOr(lock, ''), 10)
    const ageMs = Date.now() - (fs.statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now())
    // A file without a pid is being written at this instant, unless it has been so for a while.
    const dead = Number.isNaN(owner) ? ageMs > 5000 : !alive(owner)
    if (dead) {
      breakLock(lock, owner)
      continue
    }
    if (Date.now() > deadline)
      throw new Error(`${lock} has been held by process ${owner} for too long; end it or remove the file`)
    if (!told) say(`another set-up of this checkout is running (process ${owner}); waiting for it`)
    told = true
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
  }
  try {
    work()
  } finally {
    fs.rmSync(lock, { force: true })
  }
}

/**
 * @param {string} path
 * @param {string} otherwise
 */
function readOr(path, otherwise) {
  try {
    return fs.readFileSync(path, 'utf8')
  } catch {
    return otherwise
  }
}

/**
 * Takes a dead owner's lock away. Two waiters may see it at once: the rename picks one, and a lock that turns out to belong
 * to somebody else is put back.
 * @param {string} lock
 * @param {number} owner
 */
function breakLock(lock, owner) {
  const aside = `${lock}.${process.pid}`
  try {
    fs.renameSync(lock, aside)
    const found = Number.parseInt(readOr(aside, ''), 10)
    if (found !== owner && !Number.isNaN(found) && alive(found)) fs.linkSync(aside, lock)
  } catch {
    // Gone already, or a new owner was faster.
  }
  fs.rmSync(aside, { force: true })
}

function preparePackages() {
  const stale = packagesStale()
  if (stale !== null) {
    const node = ensureNode()
    say(`${stale}: running npm ci`)
    if (!npm(node, root, ['ci', '--no-audit', '--no-fund'])) throw new Error('npm ci failed; its own message is above')
    fs.writeFileSync(stampPath, `${lockDigest()}\n`)
  }
  if (linksMissing()) makeLinks()
}

/** Packages and runtime of this checkout, whatever is missing of them. Nothing to do in an installed package. */
export function setup() {
  if (!isCheckout) return
  if (process.env['npm_lifecycle_event'] === 'prepare') {
    // npm is installing at this moment, by itself or for the call above.
    if (linksMissing()) makeLinks()
  } else if (packagesStale() !== null || linksMissing()) {
    withLock(preparePackages)
    say('packages ready')
  }
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    setup()
    if (process.argv.includes('--full')) {
      const { ensureVulkan } = await import('./vulkan.mjs')
      await ensureVulkan({ stateFolder: tools, askAgain: process.env['npm_lifecycle_event'] === 'setup' })
    }
  } catch (error) {
    say(error instanceof Error ? error.message : String(error))
    process.exitCode = 1
  }
}
