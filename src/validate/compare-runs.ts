// Compares the stored outputs of both models, run by run, in the artifact's child after its model was released. Entry:
// compareRuns. Matches outputs by name: an artifact keeps every output of its original.

import { AppError } from '../errors.ts'
import { OutputComparator } from './compare-outputs.ts'
import { matchDataset, openDataset } from './dataset.ts'
import type { CompareAnswer, InferenceRequests } from './inference-protocol.ts'
import type { OutputInfo, RunOutput } from './output-store.ts'
import { readOutputs } from './output-store.ts'
import { LabelScorer } from './score-labels.ts'

type CompareRequest = InferenceRequests['compare']['request']

/** Throws validation_failed when names, dims or the number of runs differ, dataset_invalid when labels do not fit. */
export async function compareRuns(
  request: CompareRequest,
  progress: (doneShare: number) => void,
): Promise<CompareAnswer> {
  const { before, after, samples, samplesPerRun } = request
  const positions = before.map((output) => positionOf(output, after))
  const comparators = before.map(({ name, dtype }) => new OutputComparator(name, dtype))
  const scorer = await scorerFor(request)
  const runsAfter = readOutputs(request.afterPath, after.length)
  let done = 0
  for (const runBefore of readOutputs(request.beforePath, before.length)) {
    const next = runsAfter.next()
    if (next.done) throw differs('runs', `the original has more than ${done}`, `the artifact ${done}`)
    const runAfter = positions.map((position) => next.value[position]!)
    for (const [index, comparator] of comparators.entries()) {
      requireSameDims(before[index]!.name, runBefore[index]!, runAfter[index]!)
      comparator.add(runBefore[index]!, runAfter[index]!)
    }
    const count = Math.min(samplesPerRun, samples - done)
    if (count > 0) scorer?.add(runBefore, runAfter, count)
    done += samplesPerRun
    if ((done / samplesPerRun) % 1000 === 0) progress(done / samples)
  }
  const scores = scorer?.result(request.seed) ?? { classification: null, regression: null }
  return { outputs: comparators.map((comparator) => comparator.result()), ...scores }
}

async function scorerFor({ datasetPath, modelInputs, before, samples }: CompareRequest): Promise<LabelScorer | null> {
  if (datasetPath === null) return null
  const dataset = await openDataset(datasetPath)
  try {
    const labels = await matchDataset(dataset, modelInputs).labels()
    return labels === null ? null : new LabelScorer(labels, before, samples)
  } finally {
    await dataset.close()
  }
}

function positionOf(output: OutputInfo, after: OutputInfo[]): number {
  const position = after.findIndex(({ name }) => name === output.name)
  if (position >= 0) return position
  throw differs('outputs', `'${output.name}' of the original`, after.map(({ name }) => `'${name}'`).join(', '))
}

function requireSameDims(name: string, before: RunOutput, after: RunOutput): void {
  const same = before.dims.length === after.dims.length && before.dims.every((dim, axis) => dim === after.dims[axis])
  if (!same) throw differs(`dims of output '${name}'`, `[${before.dims.join(', ')}]`, `[${after.dims.join(', ')}]`)
}

function differs(what: string, expected: string, found: string): AppError {
  return new AppError(
    'validation_failed',
    `the artifact differs in its ${what}: expected ${expected}, found ${found}.`,
    {
      stage: 'compare',
      expected,
      found,
    },
  )
}
