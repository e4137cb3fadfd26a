// The nouns of validation: what running original and artifact on the same inputs (or reading a graph-less artifact back)
// found. Plain JSON: no Infinity or NaN, `null` says "does not exist here". Producer: validate-artifact.ts; readers:
// requirement.ts, report.ts.

import type { DType } from '../tensor/dtype.ts'

/** A number with its 95 % confidence interval; null where no sampling error applies or too few samples exist. */
export interface Estimate {
  value: number
  ci95: [number, number] | null
}

/** One accuracy figure of both models on the same n items. `difference` is after - before; its interval is paired. */
export interface PairedMetric {
  n: number
  before: Estimate
  after: Estimate
  difference: Estimate
  /** How the interval of the difference was made. */
  method: string
}

/** Differences of one output tensor over all inputs. Sums leave out positions where either side is NaN or infinite. */
export interface OutputComparison {
  name: string
  dtype: DType
  /** Dims for the first input. */
  dims: number[]
  elements: number
  mse: number
  maxAbsError: number
  /** Largest |x| of the original: what maxAbsError is to be held against. */
  maxAbsOriginal: number
  /** 10 log10(sum x^2 / sum (x-y)^2); null when there is no error (`identical`) or no signal. */
  sqnrDb: number | null
  /** Over all elements; null when one side is all zero. */
  cosine: number | null
  /** Smallest cosine of any single input. */
  worstCosine: number | null
  identical: boolean
  nonFiniteBefore: number
  nonFiniteAfter: number
  /** Positions finite in the original and not in the artifact. */
  nonFiniteIntroduced: number
  /** Share of decisions that stay the same; null when the output holds no decision. */
  agreement: (Estimate & { n: number; rule: 'argmax' | 'threshold' | 'equal' }) | null
}

export interface ClassificationResult {
  n: number
  classes: number
  output: string
  rule: string
  top1: PairedMetric
  /** null below six classes, where it says nothing. */
  top5: PairedMetric | null
  accuracy: PairedMetric
  /** Positive class 1; null with more than two classes. */
  binary: { precision: PairedMetric; recall: PairedMetric; f1: PairedMetric } | null
  macro: { precision: PairedMetric; recall: PairedMetric; f1: PairedMetric }
  weighted: { precision: PairedMetric; recall: PairedMetric; f1: PairedMetric }
  /** [true class][predicted class]; null above MAX_CONFUSION_CLASSES. */
  confusionBefore: number[][] | null
  confusionAfter: number[][] | null
  /** Items that only the original, or only the artifact, got right. */
  lost: number
  gained: number
}

export interface RegressionResult {
  n: number
  output: string
  mae: PairedMetric
  mse: PairedMetric
  rmse: PairedMetric
  r2: PairedMetric | null
}

/** What one model cost in its own process. */
export interface ModelRun {
  fileBytes: number
  loadSeconds: number
  latency: { medianMs: number; p95Ms: number; runs: number; warmupRuns: number; cpuMeanMs: number }
  /** Resident bytes before the model was loaded, and the peak up to the end of the latency runs. */
  baselineRssBytes: number
  peakRssBytes: number
}

export interface InputDescription {
  source: 'dataset' | 'synthetic'
  /** Inputs run, and inputs there were; fewer only when `limitNote` says why. */
  samples: number
  available: number
  limitNote: string | null
  /** Synthetic only. */
  seed: number | null
  kinds: string[]
  tensors: { name: string; dtype: DType; dims: number[] }[]
}

export interface ValidationSettings {
  threads: number
  x64QuantPrecision: '1' | null
  graphOptimization: 'all'
  timeoutMs: number
  memoryLimitBytes: number | null
  seed: number
}

export interface RuntimeEnvironment {
  onnxruntime: string | null
  node: string
  platform: string
  arch: string
  cpu: string
  cpuCount: number
  memoryBytes: number
  /** Variables set on the child that bear on memory numbers. */
  variables: Record<string, string>
}

export interface RunValidation {
  kind: 'run'
  inputs: InputDescription
  settings: ValidationSettings
  environment: RuntimeEnvironment
  original: ModelRun
  artifact: ModelRun
  /** artifact median latency / original median latency. */
  latencyRatio: number | null
  /** true: runs of both models alternated in time; false: one after the other, to hold one model in memory at a time. */
  latencyInterleaved: boolean
  outputs: OutputComparison[]
  classification: ClassificationResult | null
  regression: RegressionResult | null
  seconds: { original: number; artifact: number; compare: number; total: number }
  warnings: string[]
}

/** One tensor of a graph-less artifact, read back and dequantized on the CPU, against the original. */
export interface TensorReadBack {
  name: string
  /** identical: every byte equal; changed: stored differently and compared by value. */
  status: 'identical' | 'changed'
  storedAs: string
  maxAbsError: number | null
  sqnrDb: number | null
  cosine: number | null
  mse: number | null
}

export interface ReadBackValidation {
  kind: 'read-back'
  tensors: TensorReadBack[]
  identicalTensors: number
  identicalBytes: number
  changedTensors: number
  /** Over all changed tensors together, and the worst single one. */
  sqnrDb: number | null
  cosine: number | null
  mse: number
  worst: { name: string; sqnrDb: number | null; cosine: number | null } | null
  environment: RuntimeEnvironment
  seconds: { total: number }
  warnings: string[]
}

export type ValidationResult = RunValidation | ReadBackValidation
