// The Python of .venv (scripts/setup-python.mjs), which judges our artifacts: whether it is there, and runPython.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const python = `${root}.venv/bin/python`
const stamp = `${root}.venv/tensorpress-stamp.json`

/** For `test(..., { skip })`: false where the environment is there; in CI it must be, so that nothing is skipped there. */
export function skipWithoutPython(requirements = 'requirements.txt'): string | false {
  if (process.env['CI'] === 'true' || hasRequirements(requirements)) return false
  return `interop: skipped, .venv has no ${requirements}; run npm run setup:python`
}

/** Whether a set of requirements, such as 'requirements-compressed-tensors.txt', could be installed. */
export function hasRequirements(file: string): boolean {
  if (!existsSync(stamp)) return false
  return JSON.parse(readFileSync(stamp, 'utf8')).installed[file] === true
}

/** A program that came with a package of .venv. */
export function pythonProgram(name: string): string {
  return `${root}.venv/bin/${name}`
}

/** Runs a script of test/interop, or of test/ by its path from there; returns what it printed as JSON. Throws with its stderr. */
export function runPython(script: string, ...args: string[]): unknown {
  const path = script.includes('/') ? `../${script}` : `../interop/${script}`
  const run = spawnSync(python, [fileURLToPath(new URL(path, import.meta.url)), ...args], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: { ...process.env, HF_HUB_OFFLINE: '1', ORT_DISABLE_TELEMETRY: '1', PYTHONDONTWRITEBYTECODE: '1' },
  })
  if (run.status !== 0) throw new Error(`${script} ended with ${run.status}: ${run.error ?? run.stderr}`)
  return JSON.parse(run.stdout)
}
