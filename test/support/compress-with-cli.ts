// Runs `tensorpress compress` as a user would, in its own process: compressWithCli.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const bin = fileURLToPath(new URL('../../bin/tensorpress', import.meta.url))

/** Throws with the program's stderr when it does not end with 0. */
export function compressWithCli(model: string, recipe: string, output: string, ...options: string[]): void {
  const args = ['compress', model, '--recipe', recipe, '-o', output, '--no-validate', '--json', ...options]
  const run = spawnSync(bin, args, { encoding: 'utf8', maxBuffer: 2 ** 28 })
  if (run.status !== 0) throw new Error(`compress ${recipe} ended with ${run.status}: ${run.error ?? run.stderr}`)
}
