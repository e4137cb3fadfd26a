// tensorpress bench: runs the benchmark of the source checkout or the bundle (bench/run) with the same arguments.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { AppError } from '../errors.ts'
import { codeFile } from '../program-files.ts'
import type { Command, CommandLine } from './command.ts'
import { DEVICE_OPTION } from './shared-options.ts'

export const command: Command = {
  name: 'bench',
  summary: 'measure speed and memory on this machine',
  description: [
    'Generates models, compresses them several times and compares the medians with reading and writing the same bytes, and with the Python quantizers where they are installed. Prints one table and writes JSON: in a source checkout to bench/results, else to the current folder. Not part of the npm package.',
  ],
  positionals: [],
  options: {
    quick: { summary: 'small models, a smoke test of the benchmark itself' },
    only: { value: 'GROUPS', summary: 'some of safetensors,onnx,server,kernels' },
    sizes: { value: 'SIZES', summary: 'sizes of the generated models (default 512MiB,4GiB)' },
    runs: { value: 'N', summary: 'runs behind each median (default 5)' },
    dir: { value: 'DIR', summary: 'where the models are made (default: the temporary folder of the system)' },
    device: DEVICE_OPTION,
  },
  examples: [{ line: 'tensorpress bench --quick', meaning: 'a minute instead of half an hour' }],
  async run(args: CommandLine) {
    const script = codeFile('../bench/run')
    if (!existsSync(script)) {
      throw new AppError(
        'usage',
        'the benchmark is not part of the installed package; run it in a source checkout or from the bundle',
      )
    }
    const values = ['only', 'sizes', 'runs', 'dir', 'device'].flatMap((name) => {
      const value = args.text(name)
      return value === undefined ? [] : [`--${name}=${value}`]
    })
    const quick = args.given('quick') ? ['--quick'] : []
    const child = spawn(process.execPath, [script, ...quick, ...values], { stdio: 'inherit' })
    const forward = (signal: NodeJS.Signals) => child.kill(signal)
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, forward)
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)))
    return promise
  },
}
