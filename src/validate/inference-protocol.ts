// What validate-artifact.ts asks of an inference child (inference.ts) and what it answers. Plain data over IPC; outputs
// travel through files. One child serves one model, so that its memory is that model's.

import type { ErrorObject } from '../errors.ts'
import type { PlanRow } from '../jobs/protocol.ts'
import type { SourceFile } from '../tensor/model.ts'
import type { OutputInfo } from './output-store.ts'
import type { InputInfo, InputShapes } from './synthetic-shapes.ts'
import type {
  ClassificationResult,
  InputDescription,
  OutputComparison,
  ReadBackValidation,
  RegressionResult,
} from './validation.ts'

/** Where the inputs come from. `shapes` null: find shapes that the model accepts. */
export type FeedSource =
  | { kind: 'dataset'; path: string }
  | { kind: 'synthetic'; seed: number; shapes: InputShapes | null }

export interface OpenAnswer {
  loadSeconds: number
  baselineRssBytes: number
  onnxruntime: string
  warnings: string[]
}

export interface RunAnswer {
  inputs: InputDescription
  /** Shapes that synthetic inputs got; null for a dataset. */
  shapes: InputShapes | null
  /** Inputs as the model declares them. */
  modelInputs: InputInfo[]
  outputs: OutputInfo[]
  /** Axis-0 samples that each run holds. */
  samplesPerRun: number
  rssBytes: number
  notes: string[]
}

export interface LatencyAnswer {
  /** Milliseconds of each counted run, in order. */
  milliseconds: number[]
  warmupRuns: number
  /** CPU time of all threads of the counted runs. */
  cpuMilliseconds: number
}

export interface CompareAnswer {
  outputs: OutputComparison[]
  classification: ClassificationResult | null
  regression: RegressionResult | null
}

export interface InferenceRequests {
  open: {
    request: { path: string; files: SourceFile[]; threads: number; x64QuantPrecision: '1' | null }
    answer: OpenAnswer
  }
  /** `maxSamples`: run only so many; null: all. */
  run: {
    request: { feeds: FeedSource; outputsPath: string; maxSamples: number | null }
    answer: RunAnswer
  }
  latency: { request: { runs: number; warmupRuns: number }; answer: LatencyAnswer }
  /** Frees the model; the answer has the peak up to here. */
  release: { request: Record<string, never>; answer: { peakRssBytes: number } }
  compare: {
    request: {
      beforePath: string
      afterPath: string
      before: OutputInfo[]
      after: OutputInfo[]
      samplesPerRun: number
      samples: number
      datasetPath: string | null
      modelInputs: InputInfo[]
      seed: number
    }
    answer: CompareAnswer
  }
  'read-back': {
    request: { original: SourceFile[]; artifact: SourceFile[]; plan: Pick<PlanRow, 'name' | 'action'>[] | null }
    answer: Omit<ReadBackValidation, 'environment' | 'seconds'>
  }
}

export type InferenceRequestType = keyof InferenceRequests

export type InferenceMessage = {
  [T in InferenceRequestType]: { id: number; type: T; request: InferenceRequests[T]['request'] }
}[InferenceRequestType]

export type InferenceReply =
  | { id: number; type: 'progress'; doneShare: number }
  | { id: number; type: 'done'; answer: unknown }
  | { id: number; type: 'failed'; error: ErrorObject }
