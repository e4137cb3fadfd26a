// The Python of .venv (scripts/setup-python.mjs), which judges our artifacts: whether it is there, and runPython.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const python = `${root}.venv/bin/python`
const stamp = `${root}.venv/tensorpress-stamp.json`

/** For `test(..., { skip })`: false where the environment is there; in CI it must be, so that nothing is skipped there. */
export function skipWithoutPython(): string | false {
  if (existsSync(python) && existsSync(stamp)) return false
  if (process.env['CI'] === 'true') return false
  return 'interop: skipped, there is no .venv; run npm run setup:python'
}

/** Whether a set of requirements, such as 'requirements-compressed-tensors.txt', could be installed. */
export function hasRequirements(file: string): boolean {
  if (!existsSync(stamp)) return false
  return JSON.parse(readFileSync(stamp, 'utf8')).installed[file] === true
}

/** Runs a script of test/interop; returns what it printed as JSON. Throws with its stderr when it fails. */
export function runPython(script: string, ...args: string[]): unknown {
  const run = spawnSync(python, [fileURLToPath(new URL(`../interop/${script}`, import.meta.url)), ...args], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: { ...process.env, HF_HUB_OFFLINE: '1', ORT_DISABLE_TELEMETRY: '1', PYTHONDONTWRITEBYTECODE: '1' },
  })
  if (run.status !== 0) throw new Error(`${script} ended with ${run.status}: ${run.error ?? run.stderr}`)
  return JSON.parse(run.stdout)
}
