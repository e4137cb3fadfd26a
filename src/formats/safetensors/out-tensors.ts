// The tensors that a weight becomes in the file: names, dtypes and shapes of every storage form. Entry: outTensors.

import { AppError } from '../../errors.ts'
import { byteLength, type DType, elementCount } from '../../tensor/dtype.ts'
import type { OutputPart, PartName, TensorData, TensorPlan } from '../../tensor/model.ts'
import { PACKED_SUFFIXES, SCALED_SUFFIXES } from './describe-tensors.ts'

type Source =
  | { kind: 'copy'; from: TensorData }
  | { kind: 'part'; tensor: string; part: PartName }
  | { kind: 'bytes'; bytes: Uint8Array }

/** One tensor of an output file. */
export interface OutTensor {
  name: string
  dtype: DType
  shape: readonly number[]
  lengthBytes: number
  source: Source
}

/** The tensors that one plan becomes, values first. */
export function outTensors({ tensor, action, encode, outputs }: TensorPlan): OutTensor[] {
  if (action === 'keep') {
    const { name, dtype, shape, data } = tensor
    return [
      { name, dtype, shape, lengthBytes: byteLength(dtype, elementCount(shape)), source: { kind: 'copy', from: data } },
    ]
  }
  const part = (partName: PartName, name: string, dtype?: DType, shape?: readonly number[]): OutTensor => {
    const output = findPart(outputs, partName, tensor.name)
    return {
      name,
      dtype: dtype ?? output.dtype,
      shape: shape ?? output.shape,
      lengthBytes: output.lengthBytes,
      source: { kind: 'part', tensor: tensor.name, part: partName },
    }
  }
  const { name } = tensor
  switch (encode.kind) {
    case 'dense':
    case 'float16':
    case 'bfloat16':
      return [part('values', name)]
    case 'scaled-int': {
      // A scalar scale is written as one element, which every reader takes.
      const shared = encode.axis === null ? [1] : [tensor.shape[encode.axis] ?? 1]
      const made = [part('values', name), part('scale', name + SCALED_SUFFIXES.scale, 'f32', shared)]
      if (!encode.symmetric) made.push(part('zero_point', name + SCALED_SUFFIXES.zeroPoint, 'u8', shared))
      return made
    }
    case 'block-packed': {
      const { n, k } = encode.matrix
      const words = (k * encode.bits) / 32
      const made = [
        part('values', name + PACKED_SUFFIXES.values, 'i32', [n, words]),
        part('scale', name + PACKED_SUFFIXES.scale),
        literal(name + PACKED_SUFFIXES.shape, [n, k]),
      ]
      if (!encode.symmetric) made.push(part('zero_point', name + PACKED_SUFFIXES.zeroPoint))
      return made
    }
    case 'dynamic-int8':
      throw new AppError(
        'internal',
        `a plan encodes ${JSON.stringify(name)} as ${encode.kind}, which safetensors cannot hold`,
      )
    default:
      return encode satisfies never
  }
}

function findPart(outputs: readonly OutputPart[], name: PartName, tensor: string): OutputPart {
  const found = outputs.find((output) => output.part === name)
  if (!found) throw new AppError('internal', `the plan of ${JSON.stringify(tensor)} has no part ${name}`)
  return found
}

/** The shape of a packed weight as an int64 tensor. */
function literal(name: string, shape: readonly number[]): OutTensor {
  const words = BigInt64Array.from(shape, BigInt)
  const bytes = new Uint8Array(words.buffer)
  return { name, dtype: 'i64', shape: [shape.length], lengthBytes: bytes.length, source: { kind: 'bytes', bytes } }
}
