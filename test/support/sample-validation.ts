// Validation results with chosen figures, for tests of what judges and shows them.

import type {
  OutputComparison,
  PairedMetric,
  ReadBackValidation,
  RunValidation,
} from '../../src/validate/validation.ts'

const environment = {
  onnxruntime: '1.30.0',
  node: '24.0.0',
  platform: 'linux',
  arch: 'x64',
  cpu: 'Test CPU',
  cpuCount: 2,
  memoryBytes: 8e9,
  variables: {},
}

export function pairedMetric(before: number, after: number): PairedMetric {
  const difference = after - before
  const around = (value: number): [number, number] => [
    Number((value - 0.005).toFixed(6)),
    Number((value + 0.005).toFixed(6)),
  ]
  return {
    n: 1000,
    before: { value: before, ci95: around(before) },
    after: { value: after, ci95: around(after) },
    difference: { value: difference, ci95: around(difference) },
    method: 'test',
  }
}

export function outputComparison(
  figures: Partial<Omit<OutputComparison, 'agreement'>> & { agreement?: number },
): OutputComparison {
  const { agreement, ...rest } = figures
  return {
    name: 'y',
    dtype: 'f32',
    dims: [1, 10],
    elements: 100,
    mse: 0.1,
    maxAbsError: 0.5,
    maxAbsOriginal: 4,
    sqnrDb: 30,
    cosine: 0.99,
    worstCosine: 0.98,
    identical: false,
    nonFiniteBefore: 0,
    nonFiniteAfter: 0,
    nonFiniteIntroduced: 0,
    agreement: agreement === undefined ? null : { value: agreement, ci95: [0, 1], n: 10, rule: 'argmax' },
    ...rest,
  }
}

export function runValidation(figures: {
  top1?: { before: number; after: number }
  latencyRatio?: number
  outputs?: OutputComparison[]
}): RunValidation {
  const run = {
    fileBytes: 1000,
    loadSeconds: 0.1,
    latency: { medianMs: 2, p95Ms: 3, runs: 20, warmupRuns: 5, cpuMeanMs: 2 },
    baselineRssBytes: 1e8,
    peakRssBytes: 1.2e8,
  }
  const top1 = figures.top1 === undefined ? null : pairedMetric(figures.top1.before, figures.top1.after)
  const group = top1 === null ? null : { precision: top1, recall: top1, f1: top1 }
  return {
    kind: 'run',
    inputs: {
      source: top1 === null ? 'synthetic' : 'dataset',
      samples: 1000,
      available: 1000,
      limitNote: null,
      seed: top1 === null ? 1 : null,
      kinds: [],
      tensors: [{ name: 'x', dtype: 'f32', dims: [1, 4] }],
    },
    settings: {
      threads: 1,
      x64QuantPrecision: null,
      graphOptimization: 'all',
      timeoutMs: 1000,
      memoryLimitBytes: null,
      seed: 1,
    },
    environment,
    original: run,
    artifact: run,
    latencyRatio: figures.latencyRatio ?? 1,
    latencyInterleaved: true,
    outputs: figures.outputs ?? [outputComparison({})],
    classification:
      top1 === null || group === null
        ? null
        : {
            n: 1000,
            classes: 3,
            output: 'y',
            rule: 'largest score',
            top1,
            top5: null,
            accuracy: top1,
            binary: null,
            macro: group,
            weighted: group,
            confusionBefore: [
              [300, 3, 1],
              [2, 340, 4],
              [1, 1, 348],
            ],
            confusionAfter: [
              [298, 5, 1],
              [4, 338, 4],
              [1, 3, 346],
            ],
            lost: 9,
            gained: 1,
          },
    regression: null,
    seconds: { original: 1, artifact: 1, compare: 0.1, total: 2.1 },
    warnings: [],
  }
}

export function readBackValidation(figures: { cosine: number; sqnrDb: number; mse: number }): ReadBackValidation {
  return {
    kind: 'read-back',
    tensors: [],
    identicalTensors: 3,
    identicalBytes: 4000,
    changedTensors: 1,
    ...figures,
    worst: { name: 'w', sqnrDb: figures.sqnrDb, cosine: figures.cosine },
    environment,
    seconds: { total: 0.1 },
    warnings: [],
  }
}
