// Constants that no recipe may touch, and why: element types, places where weights may not be rewritten, and the parts of
// weights that are compressed already. Entry: lockOf.

import type { NodeProto } from 'onnx-buf'
import { type DType, isReducedFloat } from '../../tensor/dtype.ts'
import type { SkipReason } from '../../tensor/model.ts'
import { attribute } from './attributes.ts'
import { type Definition, resolve, type Scope } from './scopes.ts'
import { dtypeFromOnnx } from './tensor-types.ts'
import type { TracedConstant } from './trace-uses.ts'
import type { WeightStorage, WeightUse } from './weight.ts'

export interface LockFacts {
  scope: Scope
  storage: WeightStorage
  dtype: DType
  shape: readonly number[]
  uses: readonly WeightUse[]
  traced: TracedConstant
}

export interface Lock {
  reason: SkipReason
  detail: string
}

/** Null: the recipe decides. */
export function lockOf({ scope, storage, dtype, shape, uses, traced }: LockFacts): Lock | null {
  if (storage.kind === 'sparse') return { reason: 'sparse', detail: 'stored as a sparse tensor' }
  if (isReducedFloat(dtype)) return { reason: 'already_compressed', detail: `already stored as ${dtype}` }
  if (dtype === 'f64' || dtype === 'c64' || dtype === 'c128') {
    return { reason: 'dtype_unsupported', detail: `no kernel takes ${dtype}` }
  }
  const quantized = uses.find(({ operand }) => operand.compressed !== null)
  if (quantized) {
    const op = quantized.node?.opType
    return quantized.operand.compressed === 'values'
      ? { reason: 'already_compressed', detail: `quantized values of ${op}` }
      : { reason: 'not_a_weight', detail: `a quantization parameter of ${op}` }
  }
  if (dtype !== 'f32') {
    const isRestored = shape.length > 0 && isSmallInteger(dtype) && traced.views.some(({ node }) => isCast(node))
    return isRestored
      ? { reason: 'already_compressed', detail: `already stored as ${dtype} and cast to float` }
      : { reason: 'not_float', detail: `${dtype} is not a floating point type` }
  }
  if (scope.kind === 'function') return { reason: 'inside_function', detail: `inside the function ${scope.owner}` }
  if (scope.kind === 'scan') return { reason: 'inside_scan', detail: `inside the body of ${scope.owner}` }
  if (uses.some(({ node }) => node === null)) return { reason: 'not_a_weight', detail: 'an output of its graph' }
  if (storage.kind === 'initializer' && scope.path !== '' && scope.inputs.has(storage.tensor.name)) {
    return { reason: 'not_a_weight', detail: 'an input of its subgraph' }
  }
  if (uses.some(restoresIntegers)) {
    return { reason: 'not_a_weight', detail: 'a scale or zero point of a weight that is compressed already' }
  }
  return null
}

function isSmallInteger(dtype: DType | null): boolean {
  return dtype !== null && /^[iu][248]$/.test(dtype)
}

function isCast(node: NodeProto): boolean {
  return node.opType === 'Cast'
}

/** Cast(integers) * constant, or (Cast(integers) - constant) * constant. */
function restoresIntegers({ scope, node, inputIndex }: WeightUse): boolean {
  if (node === null || (node.opType !== 'Mul' && node.opType !== 'Sub')) return false
  let other = producer(scope, node.input[1 - inputIndex])
  if (other?.opType === 'Sub') other = producer(scope, other.input[0])
  if (!other || !isCast(other)) return false
  return isSmallInteger(constantType(define(scope, other.input[0])))
}

function define(scope: Scope, name = ''): Definition | undefined {
  return resolve(scope, name)?.definitions.get(name)
}

function producer(scope: Scope, name: string | undefined): NodeProto | null {
  const definition = define(scope, name)
  return definition?.kind === 'node' ? definition.node : null
}

function constantType(definition: Definition | undefined): DType | null {
  if (definition?.kind === 'initializer') return dtypeFromOnnx(definition.tensor.dataType)
  if (definition?.kind !== 'node' || definition.node.opType !== 'Constant') return null
  const value = attribute(definition.node, 'value')?.t
  return value ? dtypeFromOnnx(value.dataType) : null
}
