// What travels between the parent (server or CLI) and its children, as plain structured-clone data. Three children:
// - GPU worker  (src/jobs/worker.ts): opens the device; histogram, compress. One per adapter, long-lived. That of the command
//   line's compress also answers describe and companions, before it opens its device.
// - inspect     (src/jobs/inspect.ts): describe, plan. No device, no onnxruntime; hostile files are met here.
// - inference   (src/validate/inference.ts): one model in onnxruntime, two short-lived children per validation; started by
//   validate-artifact.ts, with the messages of src/validate/inference-protocol.ts.
// Tensor bytes never travel: children read and write files. Every child exits when its IPC channel closes.

import type { DeviceInfo, DeviceLimits, KernelTime } from '../compute/compute-device.ts'
import type { ErrorObject } from '../errors.ts'
import type { DType } from '../tensor/dtype.ts'
import type {
  EncodePlan,
  ModelSummary,
  OutputOptions,
  OutputPart,
  PrunePlan,
  SkipReason,
  SourceFile,
  TensorUse,
  WeightRole,
} from '../tensor/model.ts'

/** A recipe after presets and defaults were resolved (src/jobs/recipe.ts); JSON, hashable. */
export interface ResolvedRecipe {
  version: 1
  name: string
  steps: ResolvedStep[]
}

export interface ResolvedStep {
  method: string
  params: Record<string, unknown>
  select: { names: string[]; exclude: string[]; roles: WeightRole[]; minElements: number }
}

/** One row of GET /v1/models/{id}/tensors. */
export interface TensorRow {
  name: string
  dtype: DType
  shape: number[]
  elements: number
  bytes: number
  roles: WeightRole[]
  uses: TensorUse[]
  locked: { reason: SkipReason; detail: string } | null
}

/** What a dataset is held against. */
export type ModelValues = Pick<ModelSummary, 'inputs' | 'outputs'>

/** How many samples a dataset has for a model, and what a reader of the report must know. */
export interface DatasetFit {
  sampleCount: number
  notes: string[]
}

/** What an .npz holds, `labels` included. */
export interface DatasetDescription {
  arrays: { name: string; dtype: DType; shape: number[] }[]
}

export interface ModelDescription {
  summary: ModelSummary
  files: { name: string; sizeBytes: number }[]
  tensorCount: number
  parameterCount: number
  tensors: TensorRow[]
}

/** One row of a plan: TensorPlan without byte locations. */
export interface PlanRow {
  name: string
  dtype: DType
  shape: number[]
  roles: WeightRole[]
  action: 'keep' | 'compress'
  reason: SkipReason | null
  detail: string
  steps: string[]
  prune: PrunePlan | null
  encode: EncodePlan
  outputs: OutputPart[]
  bytesBefore: number
  bytesAfter: number
}

export interface PlanDocument {
  recipe: ResolvedRecipe
  format: ModelSummary['format']
  tensors: PlanRow[]
  bytesBefore: number
  bytesAfter: number
  outputFiles: { name: string; sizeBytes: number }[]
  peakMemoryBytes: number
  notes: { tensor: string | null; note: string }[]
}

/** Everything the GPU worker needs for one attempt. `outputDir` is private to the attempt and exists. */
export interface CompressSpec {
  jobId: string
  attempt: number
  files: SourceFile[]
  recipe: ResolvedRecipe
  output: OutputOptions
  outputDir: string
  /** false (`--no-validate`): no input hash, no zstd sizes, no dequantize-and-compare. */
  measure: boolean
}

/** Per-tensor measurement: dequantized artifact against original, from the compare kernel. */
export interface TensorMeasure {
  name: string
  maxAbsError: number
  sumSquaredError: number
  sqnrDb: number | null
  cosine: number | null
  /** Fractions of exact zeros. */
  zerosBefore: number
  zerosAfter: number
}

export interface TensorOutcome extends PlanRow {
  /** Resolved during execution: thresholds, scales ranges, achieved sparsity, clipping chosen, dead zone. */
  resolved: Record<string, unknown>
  nonFinite: number
  measure: TensorMeasure | null
  statistics: {
    min: number
    max: number
    absMax: number
    mean: number
    standardDeviation: number
    zeros: number
    nonFinite: number
  } | null
  /** Only for the few largest compressed tensors, and only when measured: what the report page draws. */
  histogram?: WeightHistogram
}

/** Counts in equal bins from `from` to `to` (finite minimum and maximum of the original). */
export interface WeightHistogram {
  from: number
  to: number
  before: number[]
  /** Of the dequantized values; null where they were not counted. */
  after: number[] | null
  /** Pruning threshold or dead zone: |w| <= threshold became 0; null: none. */
  threshold: number | null
}

export interface CompressionResult {
  device: DeviceInfo
  plan: Omit<PlanDocument, 'tensors'>
  /** The rows of the plan, with what came of each. */
  tensors: TensorOutcome[]
  files: { name: string; sizeBytes: number; sha256: string | null; zstdBytes: number | null; zstdSampled: boolean }[]
  input: {
    files: { name: string; sizeBytes: number; sha256: string | null }[]
    rawBytes: number
    zstdBytes: number | null
    zstdSampled: boolean
  }
  rawBytes: number
  zstdBytes: number | null
  /** Seconds by stage: open, calibrate, encode, finish, measure. */
  seconds: Record<string, number>
  gpuSeconds: number
  bytesRead: number
  bytesWritten: number
  kernelTimes: KernelTime[]
  peakRssBytes: number
}

export interface Progress {
  stage: 'opening' | 'calibrating' | 'encoding' | 'measuring' | 'validating' | 'publishing'
  doneBytes: number
  totalBytes: number
  tensor: string | null
}

export interface HistogramResult {
  tensor: string
  bins: { from: number; to: number; count: number }[]
  elements: number
  zeros: number
  nonFinite: number
  min: number
  max: number
  device: DeviceInfo
}

/** Requests carry an id; every reply names it. 'progress' may come any number of times before 'done' or 'failed'. */
export type ChildRequest =
  | { id: number; type: 'describe'; files: SourceFile[] }
  /** Inspect child: names of the files that this main file refers to (ModelFormat.companions); result: string[]. */
  | { id: number; type: 'companions'; main: SourceFile }
  /** Inspect child: opens an .npz; result: DatasetDescription. */
  | { id: number; type: 'describe-dataset'; path: string }
  /** Inspect child: whether an .npz fits the inputs of a model, and its labels the outputs; result: DatasetFit, or dataset_invalid. */
  | { id: number; type: 'match-dataset'; path: string; model: ModelValues }
  | { id: number; type: 'plan'; files: SourceFile[]; recipe: ResolvedRecipe; output: OutputOptions }
  | { id: number; type: 'histogram'; files: SourceFile[]; tensor: string; bins: number }
  | { id: number; type: 'compress'; spec: CompressSpec }
  | { id: number; type: 'cancel'; target: number }

export type ChildReply =
  | { type: 'ready'; device: DeviceInfo | null; limits: DeviceLimits | null; startSeconds: number; rssBytes: number }
  | { id: number; type: 'progress'; progress: Progress; rssBytes: number }
  | { id: number; type: 'done'; result: unknown }
  | { id: number; type: 'failed'; error: ErrorObject }

/** What validateArtifact does: run both models on the same inputs and compare (ONNX), or read back (safetensors). */
export interface ValidateSpec {
  original: { mainPath: string; format: 'onnx' | 'safetensors'; files: SourceFile[] }
  artifact: { mainPath: string; files: SourceFile[] }
  datasetPath: string | null
  seed: number
  threads: number
  /** Value of onnxruntime's `session.x64quantprecision`; null: unset. */
  x64QuantPrecision: '1' | null
  latencyRuns: number
  memoryLimitBytes: number | null
  /** safetensors: what the plan says, so that reading back knows which tensors must be byte-identical. */
  plan?: Pick<PlanRow, 'name' | 'action'>[]
}
