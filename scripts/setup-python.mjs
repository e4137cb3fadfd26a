// Makes .venv, the Python environment of the interop and deployment tests, the benchmark and the results table, from the pinned files
// test/interop/requirements*.txt. Entry: setupPython(). Nothing is installed outside of .venv; a second run finds nothing to
// do. Without a suitable python3 it says so and ends well, as the product needs no Python; with CI=true that is a failure.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const venv = join(root, '.venv')
const windows = process.platform === 'win32'
const python = windows ? join(venv, 'Scripts', 'python.exe') : join(venv, 'bin', 'python')
const stampPath = join(venv, 'tensorpress-stamp.json')

/** The pinned packages have wheels for these versions. */
const OLDEST_MINOR = 11
const NEWEST_MINOR = 14

/** Optional sets may fail to install: their tests are then skipped with the reason that is kept in the stamp. */
const SETS = [
  { file: 'requirements.txt', optional: false },
  { file: 'requirements-compressed-tensors.txt', optional: true },
  { file: 'requirements-deploy.txt', optional: true },
  { file: 'requirements-api.txt', optional: true },
]

/** @param {string} text */
const say = (text) => process.stderr.write(`setup-python: ${text}\n`)

/** The first python3 on PATH whose version has wheels; null when there is none. */
function findPython() {
  for (const name of windows ? ['python', 'py'] : ['python3', 'python3.13', 'python3.12', 'python3.11']) {
    const probe = spawnSync(name, ['-c', 'import sys, venv, ensurepip; print(sys.version_info.minor)'], {
      encoding: 'utf8',
    })
    const minor = Number.parseInt(probe.stdout ?? '', 10)
    if (probe.status === 0 && minor >= OLDEST_MINOR && minor <= NEWEST_MINOR) return name
  }
  return null
}

/** What .venv must have been made from. */
function wantedStamp() {
  const hash = createHash('sha256')
  for (const { file } of SETS) hash.update(fs.readFileSync(join(root, 'test', 'interop', file)))
  return hash.digest('hex')
}

function readStamp() {
  try {
    return JSON.parse(fs.readFileSync(stampPath, 'utf8'))
  } catch {
    return null
  }
}

/** @returns {boolean} whether the environment is there */
export function setupPython() {
  const wanted = wantedStamp()
  if (readStamp()?.requirements === wanted && fs.existsSync(python)) return true
  const base = findPython()
  if (base === null) {
    say(
      `no python3 between 3.${OLDEST_MINOR} and 3.${NEWEST_MINOR} with venv was found; the interop tests will be skipped`,
    )
    return false
  }
  say(`making .venv with ${base}`)
  fs.rmSync(venv, { recursive: true, force: true })
  /** @type {import('node:child_process').SpawnSyncOptions} */
  const shown = { cwd: root, stdio: ['ignore', 2, 2] }
  if (spawnSync(base, ['-m', 'venv', venv], shown).status !== 0) throw new Error(`${base} -m venv failed`)
  /** @type {Record<string, boolean>} */
  const installed = {}
  for (const { file, optional } of SETS) {
    say(`installing test/interop/${file}`)
    const requirements = join('test', 'interop', file)
    const run = spawnSync(
      python,
      ['-m', 'pip', 'install', '-qq', '--disable-pip-version-check', '-r', requirements],
      shown,
    )
    installed[file] = run.status === 0
    if (run.status !== 0 && !optional) throw new Error(`pip could not install ${requirements}`)
    if (run.status !== 0) say(`${requirements} could not be installed; its tests will be skipped`)
  }
  fs.writeFileSync(stampPath, `${JSON.stringify({ requirements: wanted, installed })}\n`)
  return true
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    process.exitCode = setupPython() || process.env['CI'] !== 'true' ? 0 : 1
  } catch (error) {
    say(error instanceof Error ? error.message : String(error))
    process.exitCode = 1
  }
}
