// Small integer constants that steer analysis: shapes of Reshape, found as initializers or Constant nodes in any enclosing
// scope. Entry: constantInts.

import type { TensorProto } from 'onnx-buf'
import { attribute } from './attributes.ts'
import { resolve, type Scope } from './scopes.ts'

/** More elements than any shape has; longer constants are not looked at. */
const MAX_CONSTANT_INTS = 128

/** An int64 (or int32) constant of rank 0 or 1 seen from `scope`, or null when the value is not such a constant. */
export function constantInts(scope: Scope, name: string): number[] | null {
  const definition = resolve(scope, name)?.definitions.get(name)
  if (!definition) return null
  if (definition.kind === 'initializer') return tensorInts(definition.tensor)
  if (definition.kind !== 'node' || definition.node.opType !== 'Constant') return null
  const value = attribute(definition.node, 'value')
  if (value?.t) return tensorInts(value.t)
  const ints = attribute(definition.node, 'value_ints')
  if (ints && ints.ints.length <= MAX_CONSTANT_INTS) return ints.ints.map(Number)
  const int = attribute(definition.node, 'value_int')
  return int ? [Number(int.i)] : null
}

const INT32 = 6
const INT64 = 7

function tensorInts(tensor: TensorProto): number[] | null {
  if (tensor.dims.length > 1) return null
  const count = Number(tensor.dims[0] ?? 1n)
  if (count > MAX_CONSTANT_INTS) return null
  let ints: number[]
  if (tensor.rawData.length > 0) {
    const { rawData } = tensor
    const view = new DataView(rawData.buffer, rawData.byteOffset, rawData.byteLength)
    if (tensor.dataType === INT64 && rawData.length === count * 8) {
      ints = Array.from({ length: count }, (_, i) => Number(view.getBigInt64(i * 8, true)))
    } else if (tensor.dataType === INT32 && rawData.length === count * 4) {
      ints = Array.from({ length: count }, (_, i) => view.getInt32(i * 4, true))
    } else return null
  } else if (tensor.dataType === INT64) ints = tensor.int64Data.map(Number)
  else if (tensor.dataType === INT32) ints = [...tensor.int32Data]
  else return null
  return ints.length === count ? ints : null
}
