// Two or more checkouts (with --whole also installed packages) on one model, in turn, so that the machine's moods meet all alike: how a
// change is measured before it is kept.
//   node bench/compare-checkouts.ts --model m.onnx [--recipe int4] [--rounds 4] [--jobs 8] [--whole] DIR DIR [...]
// Default: jobs in a GPU worker of each checkout, a fresh one a round, the first job of each left out. --whole:
// `DIR/bin/tensorpress compress --no-validate` from start to exit, the first of each left out. Prints medians and the least.
// Models: scripts/make-bench-model.ts.

import { rmSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { timeCommand } from './compress-model.ts'
import { median } from './figures.ts'

const { values: options, positionals } = parseArgs({
  options: {
    model: { type: 'string' },
    recipe: { type: 'string', default: 'int4' },
    rounds: { type: 'string', default: '4' },
    jobs: { type: 'string', default: '8' },
    whole: { type: 'boolean', default: false },
  },
  allowPositionals: true,
})
if (options.model === undefined || positionals.length === 0) throw new Error('give --model FILE and folders to compare')
const model = resolve(options.model)
const output = join(dirname(model), `compared-${process.pid}-${basename(model)}`)

/** Wall seconds of jobs, the first left out, by the checkout's own code. */
async function timeJobs(folder: string): Promise<number[]> {
  const { timeWorker }: typeof import('./compress-model.ts') = await import(join(folder, 'bench/compress-model.ts'))
  const { seconds } = await timeWorker([model], options.recipe, Number(options.jobs) + 1, 'auto')
  return seconds.slice(1)
}

function timeWhole(folder: string): number {
  try {
    return timeCommand(join(folder, 'bin/tensorpress'), model, options.recipe, output, 'auto')
  } finally {
    rmSync(output, { force: true })
  }
}

const compared = positionals.map((given) => ({ given, folder: resolve(given), seconds: [] as number[] }))
if (options.whole) for (const { folder } of compared) timeWhole(folder)
for (let round = 0; round < Number(options.rounds); round++) {
  for (const { folder, seconds } of round % 2 === 0 ? compared : compared.toReversed()) {
    seconds.push(...(options.whole ? [timeWhole(folder)] : await timeJobs(folder)))
  }
}
for (const { given, seconds } of compared) {
  const least = Math.min(...seconds)
  console.log(`${median(seconds).toFixed(3)} s, least ${least.toFixed(3)} s of ${seconds.length}  ${given}`)
}
