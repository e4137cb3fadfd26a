// tensorpress bench: runs the benchmark of the source checkout (bench/run.ts) with the same arguments.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { AppError } from '../errors.ts'
import type { Command, CommandLine } from './command.ts'

export const command: Command = {
  name: 'bench',
  summary: 'measure speed and memory on this machine',
  description: [
    'Generates models, compresses them several times and compares the medians with reading and writing the same bytes, and with the Python quantizers where they are installed. Prints one table and writes JSON to bench/results. Needs a source checkout.',
  ],
  positionals: [],
  options: {
    quick: { summary: 'small models, a smoke test of the benchmark itself' },
  },
  examples: [{ line: 'tensorpress bench --quick', meaning: 'a minute instead of half an hour' }],
  async run(args: CommandLine) {
    const script = fileURLToPath(new URL('../../bench/run.ts', import.meta.url))
    if (!existsSync(script)) {
      throw new AppError('usage', 'the benchmark is not part of the installed package; run it in a source checkout')
    }
    const child = spawn(process.execPath, [script, ...(args.given('quick') ? ['--quick'] : [])], { stdio: 'inherit' })
    const forward = (signal: NodeJS.Signals) => child.kill(signal)
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, forward)
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)))
    return promise
  },
}
