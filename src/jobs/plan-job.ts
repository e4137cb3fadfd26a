// The plan: what happens to every tensor and why, and where every output byte goes. Entry: planJob. Pure: it reads metadata
// only, so a dry run, the layout, progress and the report share it. Prune steps apply in order; of the encode steps the
// first that selects the tensor and has a legal encoding wins, and later ones are its fall-backs.

import { AppError } from '../errors.ts'
import type { MethodPlan } from '../methods/compression-method.ts'
import { type AnyMethod, findMethod } from '../methods/index.ts'
import { outputParts } from '../methods/output-parts.ts'
import { byteLength, elementCount, isReducedFloat } from '../tensor/dtype.ts'
import {
  dataLength,
  type EncodePlan,
  type FileLayout,
  type ModelReader,
  type OutputOptions,
  type PrunePlan,
  type SkipReason,
  type TensorInfo,
  type TensorPlan,
} from '../tensor/model.ts'
import type { PlanDocument, PlanRow, ResolvedRecipe } from './protocol.ts'
import { compileSelect, type Selection } from './select-tensors.ts'

/** What a run over the data found out about a tensor, by name. An empty map plans from metadata alone. */
export type TensorFacts = ReadonlyMap<
  string,
  { nonFinite?: boolean; float16Overflow?: boolean; bfloat16Overflow?: boolean }
>

export interface JobPlan {
  plans: TensorPlan[]
  layout: FileLayout
  document: PlanDocument
}

interface CompiledStep {
  id: string
  method: AnyMethod
  params: unknown
  select(tensor: TensorInfo): Selection
}

/** Resident memory of a worker with a software adapter before any tensor, as measured; see peakMemoryBytes. */
const WORKER_BASE_BYTES = 190 * 1024 * 1024
/** Two lanes of 8 MiB chunks, each with its upload buffer, and with outputs and read-back staging of half a chunk each. */
const LANE_BYTES = 2 * 3 * 8 * 1024 * 1024

/**
 * Plans every tensor of the model. Throws feature_unsupported when a method cannot exist in the format or two steps
 * contradict each other, and what the format's own layout throws.
 */
export function planJob(
  reader: ModelReader,
  recipe: ResolvedRecipe,
  output: OutputOptions,
  facts: TensorFacts = new Map(),
): JobPlan {
  const steps = compileSteps(recipe, reader.summary.format)
  const plans = reader.tensors.map((tensor) => planTensor(tensor, steps, facts))
  const layout = reader.layout(plans, output)
  return { plans, layout, document: planDocument(reader, recipe, plans, layout) }
}

function compileSteps(recipe: ResolvedRecipe, format: ModelReader['summary']['format']): CompiledStep[] {
  return recipe.steps.map((step, index) => {
    const method = findMethod(step.method)
    if (method === undefined) {
      throw new AppError('recipe_invalid', `steps[${index}].method: there is no method "${step.method}"`, {
        path: `steps[${index}].method`,
      })
    }
    if (method.needsGraph && format === 'safetensors') {
      throw new AppError(
        'feature_unsupported',
        `the method ${method.id} rewrites operators, and a safetensors file has no graph; use int8, or an ONNX model`,
        { method: method.id, format },
      )
    }
    return {
      id: `${index}-${method.id}`,
      method,
      params: step.params,
      select: compileSelect(step.select),
    }
  })
}

/** Reasons that hold whatever the recipe says. */
function untouchable(tensor: TensorInfo): { reason: SkipReason; detail: string } | null {
  if (tensor.locked !== null) return tensor.locked
  if (isReducedFloat(tensor.dtype)) return { reason: 'already_compressed', detail: `already stored as ${tensor.dtype}` }
  if (tensor.dtype === 'f64' || tensor.dtype === 'c64' || tensor.dtype === 'c128') {
    return { reason: 'dtype_unsupported', detail: `${tensor.dtype} is not compressed; kernels take f32` }
  }
  if (tensor.dtype !== 'f32') return { reason: 'not_float', detail: `${tensor.dtype} is not a floating point type` }
  if (tensor.shape.length === 0 || elementCount(tensor.shape) < 2) {
    return { reason: 'scalar', detail: elementCount(tensor.shape) === 0 ? 'it has no elements' : 'a scalar' }
  }
  return null
}

function planTensor(tensor: TensorInfo, steps: CompiledStep[], facts: TensorFacts): TensorPlan {
  const stop = untouchable(tensor)
  if (stop !== null) return keep(tensor, stop)
  const known = facts.get(tensor.name)
  const used: { id: string; detail: string }[] = []
  const refused: { reason: SkipReason; detail: string; selected: boolean }[] = []
  let prune: PrunePlan | null = null
  let encode: EncodePlan | null = null
  for (const step of steps) {
    if (step.method.stage === 'encode' && encode !== null) continue
    const selection = step.select(tensor)
    if (!selection.selected) {
      refused.push({ ...selection, selected: false })
      continue
    }
    const planned: MethodPlan = step.method.plan(tensor, step.params, {
      stepId: step.id,
      nonFinite: known?.nonFinite ?? false,
      float16Overflow: known?.float16Overflow ?? false,
      bfloat16Overflow: known?.bfloat16Overflow ?? false,
    })
    if (planned.kind === 'skip') {
      refused.push({ ...planned, selected: true })
      continue
    }
    if (planned.kind === 'encode') {
      const after = outputParts(tensor, planned.encode).reduce((sum, part) => sum + part.lengthBytes, 0)
      if (after >= tensorBytes(tensor)) {
        const detail = `${planned.detail} would take ${after} bytes, it has ${tensorBytes(tensor)}`
        refused.push({ reason: 'no_gain', detail, selected: true })
        continue
      }
    }
    used.push({ id: step.method.id, detail: planned.detail })
    if (planned.kind === 'prune') prune = prune === null ? planned.prune : mergePrune(tensor, prune, planned.prune)
    else encode = planned.encode
  }
  // A step that selected the tensor and could not take it says more than one that passed it by.
  const refusal = refused.find((entry) => entry.selected) ?? refused[0]
  if (encode === null && prune === null) {
    return keep(tensor, refusal ?? { reason: 'not_selected', detail: 'no step of the recipe selects it' })
  }
  if (encode === null) {
    const dense = tensor.encodings.dense
    if (!dense.ok) return keep(tensor, dense)
    encode = { kind: 'dense' }
  }
  const outputs = outputParts(tensor, encode)
  const missed = refused.find((entry) => entry.selected)
  const detail = used.map((entry) => entry.detail).join('; ')
  return {
    tensor,
    action: 'compress',
    reason: null,
    detail: missed === undefined ? detail : `${detail} (first choice not possible: ${missed.detail})`,
    steps: used.map((entry) => entry.id),
    prune,
    encode,
    outputs,
    bytesBefore: tensorBytes(tensor),
    bytesAfter: outputs.reduce((sum, part) => sum + part.lengthBytes, 0),
  }
}

/** Two thresholds of one kind on one tensor are the larger one: whatever the smaller zeroes, the larger does too. */
function mergePrune(tensor: TensorInfo, first: PrunePlan, second: PrunePlan): PrunePlan {
  if (first.kind === 'threshold' && second.kind === 'threshold') {
    return first.threshold >= second.threshold ? first : second
  }
  if (first.kind === 'sparsity' && second.kind === 'sparsity') return first.sparsity >= second.sparsity ? first : second
  throw new AppError(
    'feature_unsupported',
    `two prune steps of different kinds (${first.kind}, ${second.kind}) select the tensor "${tensor.name}"; narrow one by select.exclude`,
    { tensor: tensor.name },
  )
}

function keep(tensor: TensorInfo, why: { reason: SkipReason; detail: string }): TensorPlan {
  const bytes = tensorBytes(tensor)
  return {
    tensor,
    action: 'keep',
    reason: why.reason,
    detail: why.detail,
    steps: [],
    prune: null,
    encode: { kind: 'dense' },
    outputs: [{ part: 'values', dtype: tensor.dtype, shape: tensor.shape, lengthBytes: bytes }],
    bytesBefore: bytes,
    bytesAfter: bytes,
  }
}

function tensorBytes(tensor: TensorInfo): number {
  return tensor.dtype === 'string' ? dataLength(tensor.data) : byteLength(tensor.dtype, elementCount(tensor.shape))
}

/** One row of the plan as it travels and is shown: TensorPlan without byte locations. */
export function planRow(plan: TensorPlan): PlanRow {
  const { tensor, action, reason, detail, steps, prune, encode, outputs, bytesBefore, bytesAfter } = plan
  const { name, dtype, shape, roles } = tensor
  return { name, dtype, shape, roles, action, reason, detail, steps, prune, encode, outputs, bytesBefore, bytesAfter }
}

function planDocument(
  reader: ModelReader,
  recipe: ResolvedRecipe,
  plans: TensorPlan[],
  layout: FileLayout,
): PlanDocument {
  const outputFiles = layout.files.map(({ name, sizeBytes }) => ({ name, sizeBytes }))
  return {
    recipe,
    format: reader.summary.format,
    tensors: plans.map(planRow),
    bytesBefore: reader.files.reduce((sum, file) => sum + file.sizeBytes, 0),
    bytesAfter: outputFiles.reduce((sum, file) => sum + file.sizeBytes, 0),
    outputFiles,
    peakMemoryBytes: peakMemoryBytes(plans),
    notes: layout.notes,
  }
}

/** Worker memory on a software adapter: base, lanes, the largest transposed weight (packed on the device), and metadata. */
function peakMemoryBytes(plans: TensorPlan[]): number {
  let transposed = 0
  for (const plan of plans) {
    if (plan.encode.kind === 'block-packed' && plan.encode.matrix.order === 'kn') {
      transposed = Math.max(transposed, plan.bytesAfter)
    }
  }
  return WORKER_BASE_BYTES + LANE_BYTES + 2 * transposed + plans.length * 4096
}
