// Finds a Vulkan driver that Dawn accepts, and installs one where there is none and the system allows it. Entry:
// ensureVulkan(). Accepted: a GPU's own driver, or Mesa's software driver lavapipe from Mesa 24 on (Dawn refuses the 22.3 of
// Debian 12). Only Debian and Ubuntu as root are changed; all else gets advice, and the product goes on with its reference
// device. Plain JavaScript without packages, as scripts/setup.mjs is; decisions are pure functions of a SystemFacts record.

import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline/promises'

/** Older lavapipe lacks what Dawn asks for. */
const MESA_MAJOR = 24
const PACKAGES = ['mesa-vulkan-drivers', 'libvulkan1']
const BACKPORTS_FILE = '/etc/apt/sources.list.d/tensorpress-backports.sources'
/** How long apt may wait for another package manager (unattended-upgrades on a fresh cloud machine takes minutes). */
const APT_LOCK_WAIT_S = 300
/** After a failed or declined installation `npm start` does not try again for a day; `npm run setup` always does. */
const RETRY_AFTER_MS = 24 * 60 * 60 * 1000

/**
 * Which driver libraries serve a GPU, by PCI vendor id. Distributions install the drivers of all vendors together, so a
 * manifest says nothing about the hardware.
 * @type {Record<string, RegExp>}
 */
const GPU_DRIVERS = {
  '0x1002': /radeon|amdvlk/i,
  '0x8086': /intel/i,
  '0x10de': /nvidia|nouveau/i,
  wsl: /dzn/i,
}
/** Drivers that cannot be that of a GPU outside of GPU_DRIVERS (Raspberry Pi, Mali, Adreno, Apple...). */
const NOT_FOR_OTHERS = /radeon|amdvlk|intel|nvidia|nouveau|dzn|lvp|gfxstream|virtio/i

/**
 * @typedef {object} SystemFacts What the decisions need to know about the machine.
 * @property {string} platform process.platform
 * @property {boolean} loader whether libvulkan.so.1 is installed
 * @property {{path: string, library: string}[]} drivers the ICD manifests found
 * @property {string[]} gpus PCI vendor ids of the GPUs (`0x1002`), `other` for one without, `wsl` for the one of WSL
 * @property {string | null} mesaVersion Debian version of mesa-vulkan-drivers; null: not a Debian package
 * @property {string} distribution ID of /etc/os-release
 * @property {string} distributionVersion VERSION_ID of /etc/os-release
 * @property {string} codename VERSION_CODENAME of /etc/os-release
 * @property {boolean} apt whether apt-get is there
 * @property {boolean} root whether this process may change the system
 * @property {string} sources text of all apt source files
 */

/**
 * Whether Dawn will find a driver, and which.
 * @param {SystemFacts} facts
 * @returns {{usable: boolean, driver: string}} driver: its name, or why there is none
 */
export function judgeDriver(facts) {
  if (facts.platform !== 'linux') return { usable: true, driver: 'the graphics API of the system' }
  if (!facts.loader) return { usable: false, driver: 'the Vulkan loader (libvulkan.so.1) is not installed' }
  const named = (/** @type {RegExp} */ pattern) => facts.drivers.find((driver) => pattern.test(driver.library))
  for (const gpu of facts.gpus) {
    const known = GPU_DRIVERS[gpu]
    const driver = known ? named(known) : facts.drivers.find(({ library }) => !NOT_FOR_OTHERS.test(library))
    if (driver) return { usable: true, driver: `a GPU driver (${driver.path})` }
  }
  const software = named(/lvp/i)
  if (!software) return { usable: false, driver: 'no Vulkan driver is installed for the hardware of this machine' }
  if (facts.mesaVersion === null) return { usable: true, driver: `lavapipe (${software.path})` }
  if (mesaMajor(facts.mesaVersion) >= MESA_MAJOR) return { usable: true, driver: `lavapipe, Mesa ${facts.mesaVersion}` }
  return { usable: false, driver: `lavapipe is Mesa ${facts.mesaVersion}; Dawn needs Mesa ${MESA_MAJOR} or later` }
}

/**
 * Major version of a Debian package version such as `25.0.7-2~bpo12+1` or `1:24.2.8-1`.
 * @param {string} version
 */
export function mesaMajor(version) {
  return Number.parseInt(version.replace(/^\d+:/, ''), 10) || 0
}

/**
 * What has to be done to get lavapipe, or why nothing can be.
 * @param {SystemFacts} facts
 * @returns {{possible: true, sourceFile: string | null, install: string[], unattended: boolean}
 *   | {possible: false, advice: string}} sourceFile: text for BACKPORTS_FILE, null where no source has to be added
 */
export function planInstallation(facts) {
  const isDebian = facts.distribution === 'debian'
  const isUbuntu = facts.distribution === 'ubuntu'
  if (!facts.apt || !(isDebian || isUbuntu)) {
    return {
      possible: false,
      advice: `install a Vulkan driver with the package manager of this system: that of the GPU, or Mesa ${MESA_MAJOR} or later with lavapipe (often called mesa-vulkan-drivers or vulkan-swrast)`,
    }
  }
  const version = Number.parseFloat(facts.distributionVersion)
  if ((isDebian && version < 12) || (isUbuntu && version < 24)) {
    return {
      possible: false,
      advice: `${facts.distribution} ${facts.distributionVersion} has no package of Mesa ${MESA_MAJOR} or later; use Debian 12, Ubuntu 24.04 or later, or a machine with a GPU driver`,
    }
  }
  const backports = isDebian && version === 12
  const suite = `${facts.codename || 'bookworm'}-backports`
  const addsSource = backports && !hasSuite(facts.sources, suite)
  const sourceFile = addsSource ? backportsSource(facts.sources, suite) : null
  if (addsSource && sourceFile === null) {
    return {
      possible: false,
      advice: `apt has no source for ${facts.codename || 'bookworm'} whose mirror could be reused: add ${suite} of your Debian mirror, then start again`,
    }
  }
  return {
    possible: true,
    sourceFile,
    install: ['install', '--yes', '--no-install-recommends', ...(backports ? ['-t', suite] : []), ...PACKAGES],
    unattended: facts.root,
  }
}

/**
 * Whether any source line or stanza that is switched on names the suite.
 * @param {string} sources
 * @param {string} suite
 */
function hasSuite(sources, suite) {
  return sources.split('\n').some((line) => !line.trimStart().startsWith('#') && line.split(/[\s:]+/).includes(suite))
}

/**
 * A deb822 stanza for `suite` from the same mirror, signed by the same key, as the distribution's own entry; null where
 * there is no such entry.
 * @param {string} sources
 * @param {string} suite
 */
export function backportsSource(sources, suite) {
  const base = suite.replace(/-backports$/, '')
  /** @type {string | undefined} */
  let uri
  let key = '/usr/share/keyrings/debian-archive-keyring.gpg'
  for (const stanza of sources.split(/\n\s*\n/)) {
    const field = (/** @type {string} */ name) => new RegExp(`^${name}:[ \\t]*(.+)$`, 'im').exec(stanza)?.[1]?.trim()
    if (!field('Suites')?.split(/\s+/).includes(base)) continue
    uri = field('URIs')?.split(/\s+/)[0] ?? uri
    key = field('Signed-By') ?? key
    break
  }
  const oneLine = new RegExp(`^\\s*deb\\s+(?:\\[(?<options>[^\\]]*)\\]\\s+)?(?<uri>\\S+)\\s+${base}\\s`, 'm').exec(
    sources,
  )
  if (oneLine?.groups) {
    uri = oneLine.groups['uri'] ?? uri
    key = /signed-by=(\S+)/.exec(oneLine.groups['options'] ?? '')?.[1] ?? key
  }
  if (uri === undefined) return null
  return `Types: deb\nURIs: ${uri}\nSuites: ${suite}\nComponents: main\nSigned-By: ${key}\n`
}

/**
 * Looks at the machine. `deep` also asks the package manager, which only the installation needs.
 * @param {boolean} deep
 * @returns {SystemFacts}
 */
export function readSystem(deep) {
  const linux = process.platform === 'linux'
  const release = linux ? parseRelease(readText('/etc/os-release')) : new Map()
  const drivers = linux ? installedDrivers() : []
  return {
    platform: process.platform,
    loader: linux && loaderInstalled(),
    drivers,
    gpus: linux ? installedGpus() : [],
    mesaVersion: linux ? packageVersion('mesa-vulkan-drivers') : null,
    distribution: release.get('ID') ?? '',
    distributionVersion: release.get('VERSION_ID') ?? '',
    codename: release.get('VERSION_CODENAME') ?? '',
    apt: deep && fs.existsSync('/usr/bin/apt-get'),
    root: process.getuid?.() === 0,
    sources: deep ? aptSources() : '',
  }
}

/** GPUs whose device file this process could open: a container may see the hardware in /sys and not have the device. */
function installedGpus() {
  const render = listFolder('/dev/dri').filter((name) => name.startsWith('renderD'))
  const gpus = render.map((name) => readText(`/sys/class/drm/${name}/device/vendor`).trim() || 'other')
  if (listFolder('/dev').some((name) => /^nvidia\d+$/.test(name))) gpus.push('0x10de')
  if (fs.existsSync('/dev/dxg')) gpus.push('wsl')
  return gpus
}

/** @param {string} text */
function parseRelease(text) {
  return new Map(
    text.split('\n').flatMap((line) => {
      const match = /^(\w+)="?([^"]*)"?$/.exec(line.trim())
      return match ? [/** @type {[string, string]} */ ([match[1] ?? '', match[2] ?? ''])] : []
    }),
  )
}

/** @param {string} path */
function readText(path) {
  try {
    return fs.readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** @param {string} folder */
function listFolder(folder) {
  try {
    return fs.readdirSync(folder)
  } catch {
    return []
  }
}

function loaderInstalled() {
  const folders = ['/usr/lib', '/usr/lib64', '/lib', '/lib64', '/usr/local/lib']
  for (const folder of ['/usr/lib', '/lib']) {
    folders.push(...listFolder(folder).flatMap((name) => (name.includes('-linux-') ? [join(folder, name)] : [])))
  }
  folders.push(...(process.env['LD_LIBRARY_PATH'] ?? '').split(delimiter).filter(Boolean))
  return folders.some((folder) => fs.existsSync(join(folder, 'libvulkan.so.1')))
}

/** ICD manifests in the order of the Vulkan loader's documentation; VK_DRIVER_FILES replaces the search. */
function installedDrivers() {
  const explicit = process.env['VK_DRIVER_FILES'] ?? process.env['VK_ICD_FILENAMES']
  const files = explicit
    ? explicit.split(delimiter)
    : [
        join(process.env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config'), 'vulkan/icd.d'),
        '/etc/xdg/vulkan/icd.d',
        '/etc/vulkan/icd.d',
        join(process.env['XDG_DATA_HOME'] ?? join(homedir(), '.local/share'), 'vulkan/icd.d'),
        '/usr/local/share/vulkan/icd.d',
        '/usr/share/vulkan/icd.d',
      ].flatMap((folder) => listFolder(folder).map((name) => join(folder, name)))
  return files.flatMap((path) => {
    const library = /"library_path"\s*:\s*"([^"]+)"/.exec(readText(path))?.[1]
    return path.endsWith('.json') && library ? [{ path, library }] : []
  })
}

/**
 * Version of an installed Debian package, from dpkg's `name:architecture<tab>version` line; null elsewhere.
 * @param {string} name
 */
function packageVersion(name) {
  const result = spawnSync('dpkg-query', ['--show', name], { encoding: 'utf8' })
  return (result.stdout ?? '').trim().split('\n').at(-1)?.split('\t')[1] || null
}

function aptSources() {
  const folder = '/etc/apt/sources.list.d'
  const files = listFolder(folder).filter((name) => /\.(list|sources)$/.test(name))
  return ['/etc/apt/sources.list', ...files.map((name) => join(folder, name))].map(readText).join('\n\n')
}

/** @param {string} text */
function say(text) {
  process.stderr.write(`setup: ${text}\n`)
}

/**
 * @param {string[]} args
 * @returns {string | null} null when it worked, else its last lines
 */
function apt(args) {
  const log = join(fs.mkdtempSync(join(tmpdir(), 'tensorpress-apt-')), 'apt.log')
  const output = fs.openSync(log, 'w')
  const deadline = Date.now() + APT_LOCK_WAIT_S * 1000
  try {
    for (;;) {
      const result = spawnSync('apt-get', ['-q', '-o', `DPkg::Lock::Timeout=${APT_LOCK_WAIT_S}`, ...args], {
        stdio: ['ignore', output, output],
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
      })
      if (result.status === 0) return null
      const text = readText(log)
      // The lock of the package lists has no waiting option of its own.
      if (/Could not get lock \/var\/lib\/apt\/lists/.test(text.slice(-2000)) && Date.now() < deadline) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000)
        continue
      }
      const lines = text.trim().split('\n')
      const complaints = lines.filter((line) => /^[EW]: /.test(line))
      return (complaints.length > 0 ? complaints : lines).slice(-4).join('\n')
    }
  } finally {
    fs.closeSync(output)
    fs.rmSync(join(log, '..'), { recursive: true, force: true })
  }
}

/**
 * Carries a plan out. The added source file is taken away again when the packages cannot be had.
 * @param {{sourceFile: string | null, install: string[]}} plan
 * @returns {string | null} null when it worked, else why not
 */
function carryOut(plan) {
  if (plan.sourceFile !== null) fs.writeFileSync(BACKPORTS_FILE, plan.sourceFile)
  // One broken third-party source must not stop the others: the installation below tells whether it mattered.
  const updated = apt(['-o', 'APT::Update::Error-Mode=any', 'update'])
  const installed = apt(plan.install)
  if (installed === null) return null
  if (plan.sourceFile !== null) fs.rmSync(BACKPORTS_FILE, { force: true })
  return updated === null ? installed : `${updated}\n${installed}`
}

/** @param {{sourceFile: string | null, install: string[]}} plan */
function describePlan(plan) {
  const lines = []
  if (plan.sourceFile !== null) {
    lines.push(
      `  the file ${BACKPORTS_FILE}:`,
      ...plan.sourceFile
        .trimEnd()
        .split('\n')
        .map((line) => `    ${line}`),
    )
  }
  lines.push(
    `  the packages ${PACKAGES.join(' and ')} and the libraries they depend on (about 60 MB to download), by:`,
    '    apt-get update',
    `    apt-get ${plan.install.join(' ')}`,
  )
  return lines.join('\n')
}

/** @param {string} question */
async function confirm(question) {
  const prompt = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await prompt.question(question)
    return !/^\s*n/i.test(answer)
  } finally {
    prompt.close()
  }
}

/**
 * Sees to it that there is a Vulkan driver if that can be done, and says what it does. Never throws for a missing driver: the
 * product then runs on its reference device.
 * @param {{stateFolder: string, askAgain: boolean}} options stateFolder: where a failed or declined attempt is remembered
 * @returns {Promise<void>}
 */
export async function ensureVulkan(options) {
  if (process.platform !== 'linux') return
  const facts = readSystem(false)
  const before = judgeDriver(facts)
  if (facts.gpus.length > 0 && !before.driver.startsWith('a GPU driver') && (options.askAgain || !before.usable)) {
    say('a GPU is in this machine without its Vulkan driver: "bin/tensorpress doctor" says what to do about it')
  }
  if (before.usable) {
    if (options.askAgain) say(`Vulkan driver: ${before.driver}`)
    return
  }
  const goOn = 'Until then kernels run on the reference device: same results, slow.'
  const memory = join(options.stateFolder, 'vulkan-not-installed')
  const remembered = fs.statSync(memory, { throwIfNoEntry: false })
  if (remembered && !options.askAgain && Date.now() - remembered.mtimeMs < RETRY_AFTER_MS) {
    say(`no usable Vulkan driver: ${before.driver}. "npm run setup" tries again. ${goOn}`)
    return
  }
  say(`no usable Vulkan driver: ${before.driver}.`)
  const plan = planInstallation(readSystem(true))
  if (!plan.possible) return say(`${plan.advice}. ${goOn}`)
  const skip = process.env['TENSORPRESS_SETUP'] === 'skip'
  if (skip || !plan.unattended) {
    const why = skip ? 'TENSORPRESS_SETUP=skip: nothing is changed.' : 'This process is not root.'
    return say(`${why} To install one, as root add\n${describePlan(plan)}\n${goOn}`)
  }
  say(`this will be added to the system:\n${describePlan(plan)}`)
  const remember = (/** @type {string} */ why) => {
    fs.mkdirSync(options.stateFolder, { recursive: true })
    fs.writeFileSync(memory, `${why}\n`)
  }
  if (process.stdin.isTTY && process.stderr.isTTY && !(await confirm('setup: go on? [Y/n] '))) {
    remember('declined')
    return say(`not installed. ${goOn}`)
  }
  const failure = carryOut(plan)
  const after = judgeDriver(readSystem(false))
  if (failure === null && after.usable) {
    fs.rmSync(memory, { force: true })
    return say(`installed: ${after.driver}`)
  }
  remember(failure ?? after.driver)
  say(`the driver could not be installed: ${failure ?? after.driver}\nsetup: ${goOn}`)
}
