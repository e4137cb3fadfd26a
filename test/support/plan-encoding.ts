// Plans and parts for one tensor without methods, planner or kernels: encodings as the formats expect them, filled by plain
// double arithmetic. Entry: encodeTensor.

import assert from 'node:assert/strict'
import { byteLength, type DType, elementCount } from '../../src/tensor/dtype.ts'
import type { EncodePlan, ModelReader, OutputPart, PartName, TensorInfo, TensorPlan } from '../../src/tensor/model.ts'
import { keepPlans } from './write-layout.ts'

export type Parts = Map<string, Map<PartName, Uint8Array>>

export async function readFloats(reader: ModelReader, tensor: TensorInfo): Promise<Float32Array> {
  const bytes = new Uint8Array(elementCount(tensor.shape) * 4)
  await reader.read(tensor.data, 0, bytes)
  return new Float32Array(bytes.buffer)
}

/** Keeps all tensors but those for which `choose` gives an encoding. */
export async function encodeModel(
  reader: ModelReader,
  choose: (tensor: TensorInfo) => EncodePlan | null,
): Promise<{ plans: TensorPlan[]; parts: Parts }> {
  const parts: Parts = new Map()
  const plans = keepPlans(reader)
  for (const [index, plan] of plans.entries()) {
    const encode = choose(plan.tensor)
    if (!encode) continue
    const encoded = encodeTensor(plan.tensor, await readFloats(reader, plan.tensor), encode)
    parts.set(plan.tensor.name, new Map(encoded.map(({ part, bytes }) => [part.part, bytes])))
    plans[index] = { ...plan, action: 'compress', reason: null, encode, outputs: encoded.map(({ part }) => part) }
  }
  return { plans, parts }
}

interface EncodedPart {
  part: OutputPart
  bytes: Uint8Array
}

function made(part: PartName, dtype: DType, shape: number[], bytes: Uint8Array): EncodedPart {
  assert.equal(bytes.length, byteLength(dtype, elementCount(shape)), `${part} of ${dtype} [${shape}]`)
  return { part: { part, dtype, shape, lengthBytes: bytes.length }, bytes }
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
}

export function encodeTensor(tensor: TensorInfo, values: Float32Array, encode: EncodePlan): EncodedPart[] {
  switch (encode.kind) {
    case 'dense':
      return [made('values', 'f32', tensor.shape, bytesOf(values.map((w) => (Math.abs(w) < 0.1 ? 0 : w))))]
    case 'float16':
      return [made('values', 'f16', tensor.shape, bytesOf(new Float16Array(values)))]
    case 'bfloat16': {
      const words = new Uint32Array(values.slice().buffer)
      const halves = Uint16Array.from(words, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16)
      return [made('values', 'bf16', tensor.shape, bytesOf(halves))]
    }
    case 'scaled-int':
      return scaledInt(tensor, values, encode)
    case 'dynamic-int8':
      return dynamicInt8(tensor, values, encode)
    case 'block-packed':
      return blockPacked(values, encode)
  }
}

function scaledInt(
  tensor: TensorInfo,
  values: Float32Array,
  { axis, bits, symmetric }: Extract<EncodePlan, { kind: 'scaled-int' }>,
): EncodedPart[] {
  const channels = axis === null ? 1 : tensor.shape[axis]!
  const inner = axis === null ? values.length : elementCount(tensor.shape.slice(axis + 1))
  const channelOf = (i: number): number => Math.floor(i / inner) % channels
  const low = new Float64Array(channels)
  const high = new Float64Array(channels)
  values.forEach((w, i) => {
    low[channelOf(i)] = Math.min(low[channelOf(i)]!, w)
    high[channelOf(i)] = Math.max(high[channelOf(i)]!, w)
  })
  const top = 2 ** (bits - 1) - 1
  const scale = Float32Array.from({ length: channels }, (_, c) => {
    const range = symmetric ? Math.max(-low[c]!, high[c]!) / top : (high[c]! - low[c]!) / (2 ** bits - 1)
    return range === 0 ? 1 : range
  })
  const zeroPoint = Uint8Array.from({ length: channels }, (_, c) => Math.round(-low[c]! / scale[c]!))
  const codes = Int8Array.from(values, (w, i) => {
    const c = channelOf(i)
    const q = Math.round(w / scale[c]!) + (symmetric ? 0 : zeroPoint[c]!)
    return symmetric ? Math.max(-top, Math.min(top, q)) : Math.max(0, Math.min(2 ** bits - 1, q))
  })
  const shared = axis === null ? [] : [channels]
  const dtype: DType = bits === 8 ? (symmetric ? 'i8' : 'u8') : symmetric ? 'i4' : 'u4'
  const stored = bits === 8 ? bytesOf(codes) : packLowFirst(Uint8Array.from(codes), 4)
  const parts = [made('values', dtype, tensor.shape, stored), made('scale', 'f32', shared, bytesOf(scale))]
  if (!symmetric) parts.push(made('zero_point', 'u8', shared, zeroPoint))
  return parts
}

function dynamicInt8(
  tensor: TensorInfo,
  values: Float32Array,
  { matrix }: Extract<EncodePlan, { kind: 'dynamic-int8' }>,
): EncodedPart[] {
  const { k, n, order } = matrix
  const at = (row: number, column: number): number => (order === 'kn' ? row * n + column : column * k + row)
  const scale = new Float32Array(n)
  const codes = new Uint8Array(values.length)
  for (let column = 0; column < n; column++) {
    let top = 0
    for (let row = 0; row < k; row++) top = Math.max(top, Math.abs(values[at(row, column)]!))
    scale[column] = top / 127
    for (let row = 0; row < k; row++) {
      codes[at(row, column)] = 128 + Math.round(values[at(row, column)]! / scale[column]!)
    }
  }
  return [
    made('values', 'u8', tensor.shape, codes),
    made('scale', 'f32', [n], bytesOf(scale)),
    made('zero_point', 'u8', [n], new Uint8Array(n).fill(128)),
  ]
}

function blockPacked(
  values: Float32Array,
  { matrix, bits, blockSize, symmetric }: Extract<EncodePlan, { kind: 'block-packed' }>,
): EncodedPart[] {
  const { k, n, order } = matrix
  const blocks = Math.ceil(k / blockSize)
  const top = 2 ** bits - 1
  const scale = new Float32Array(n * blocks)
  const codes = new Uint8Array(n * blocks * blockSize)
  const zeroPoints = new Uint8Array(n * blocks)
  for (let column = 0; column < n; column++) {
    for (let block = 0; block < blocks; block++) {
      const weights = Array.from({ length: Math.min(blockSize, k - block * blockSize) }, (_, i) => {
        const row = block * blockSize + i
        return values[order === 'kn' ? row * n + column : column * k + row]!
      })
      const low = Math.min(0, ...weights)
      const high = Math.max(0, ...weights)
      const half = 2 ** (bits - 1)
      const step = symmetric ? Math.max(-low, high) / (half - 1) : (high - low) / top
      const zero = symmetric ? half : Math.round(-low / step)
      const at = column * blocks + block
      scale[at] = step
      zeroPoints[at] = zero
      codes.fill(zero, at * blockSize, (at + 1) * blockSize)
      weights.forEach((w, i) => {
        codes[at * blockSize + i] = Math.max(0, Math.min(top, Math.round(w / step) + zero))
      })
    }
  }
  const rowBytes = Math.ceil((blocks * bits) / 8)
  const packedZeros = new Uint8Array(n * rowBytes)
  for (let column = 0; column < n; column++) {
    packedZeros.set(packLowFirst(zeroPoints.subarray(column * blocks, (column + 1) * blocks), bits), column * rowBytes)
  }
  return [
    made('values', 'u8', [n, blocks, (blockSize * bits) / 8], packLowFirst(codes, bits)),
    made('scale', 'f32', [n, blocks], bytesOf(scale)),
    made('zero_point', 'u8', [n, rowBytes], packedZeros),
  ]
}

function packLowFirst(codes: Uint8Array, bits: number): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((codes.length * bits) / 8))
  codes.forEach((code, i) => {
    const at = i * bits
    bytes[at >> 3] = bytes[at >> 3]! | ((code & (2 ** bits - 1)) << (at & 7))
  })
  return bytes
}
