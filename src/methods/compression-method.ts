// What a compression method is: one pure function from a tensor's metadata and the step's parameters to a plan. A method never
// sees tensor bytes; src/execute carries the plan out. The list of methods is src/methods/index.ts, the schemas of their
// parameters are listed in src/methods/params.ts: children that get resolved recipes do not load the schema library.

import type { EncodePlan, PrunePlan, SkipReason, TensorInfo } from '../tensor/model.ts'

/** What is known beyond the tensor's own metadata. */
export interface PlanContext {
  /** Names the recipe step; tensors pruned to a common sparsity share it. */
  stepId: string
  /** Found by an earlier run over the data: the tensor holds NaN or Inf. */
  nonFinite: boolean
  /** Found by an earlier run over the data: a finite value is too large for fp16. */
  float16Overflow: boolean
  /** Found by an earlier run over the data: a finite value rounds to infinity as bf16. */
  bfloat16Overflow: boolean
}

export type MethodPlan =
  | { kind: 'prune'; prune: PrunePlan; detail: string }
  | { kind: 'encode'; encode: EncodePlan; detail: string }
  | { kind: 'skip'; reason: SkipReason; detail: string }

export interface CompressionMethod<P> {
  id: string
  /** Prune methods change values and keep the storage form; encode methods choose the storage form. */
  stage: 'prune' | 'encode'
  /** One line for help texts and docs. */
  summary: string
  /** False: the method writes operators, so a format without a graph cannot hold its result. */
  needsGraph: boolean
  plan(tensor: TensorInfo, params: P, context: PlanContext): MethodPlan
}
