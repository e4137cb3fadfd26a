// The weights of a safetensors artifact as numbers, dequantized on the CPU independently of the kernels that made them.
// Entry: storedValues. Forms: float tensors (f32, f16, bf16, f64); `<name>` i8/u8 + `<name>.scale` [+ `<name>.zero_point`]:
// (q - z) * scale[row]; `<name>_packed` + `_scale` [+ `_zero_point`], compressed-tensors pack-quantized: (code - z) *
// scale[row, block], z = 2^(bits-1) when absent.

import { AppError } from '../errors.ts'
import { byteLength, DTYPES, type DType, elementCount } from '../tensor/dtype.ts'
import { float16ToNumber } from '../tensor/float16.ts'
import type { ModelReader, TensorInfo } from '../tensor/model.ts'

/** Scales and zero points of one tensor are held in memory; more bytes than this are refused (a 1 GiB tensor in blocks of 32 has 128 MiB). */
const MAX_PARAMETER_BYTES = 2 ** 29

/** One logical weight. `read` fills `into` with values [start, start + into.length) in C order. */
export interface StoredValues {
  elements: number
  /** For the report, such as 'f32' or 'i8 + scale per row'. */
  storedAs: string
  /** Names of the artifact tensors that it is made of. */
  names: string[]
  read(start: number, into: Float32Array): Promise<void>
}

/** Finds how `name` is stored among `tensors`; null when it is not there. Throws validation_failed when parts do not fit. */
export async function storedValues(
  reader: ModelReader,
  tensors: ReadonlyMap<string, TensorInfo>,
  name: string,
): Promise<StoredValues | null> {
  const packed = tensors.get(`${name}_packed`)
  const values = tensors.get(name)
  if (values === undefined) return packed === undefined ? null : packedValues(reader, tensors, name, packed)
  const scale = tensors.get(`${name}.scale`)
  if (scale !== undefined && (values.dtype === 'i8' || values.dtype === 'u8')) {
    return scaledValues(reader, tensors, values, scale)
  }
  return isReadableFloat(values.dtype) ? floatValues(reader, values) : null
}

function isReadableFloat(dtype: DType): boolean {
  return dtype === 'f32' || dtype === 'f16' || dtype === 'bf16' || dtype === 'f64'
}

function floatValues(reader: ModelReader, tensor: TensorInfo): StoredValues {
  const size = DTYPES[tensor.dtype].bits / 8
  return {
    elements: elementCount(tensor.shape),
    storedAs: tensor.dtype,
    names: [tensor.name],
    read: async (start, into) => {
      const bytes = new Uint8Array(into.length * size)
      await reader.read(tensor.data, start * size, bytes)
      decodeFloats(tensor.dtype, bytes, into)
    },
  }
}

async function scaledValues(
  reader: ModelReader,
  tensors: ReadonlyMap<string, TensorInfo>,
  values: TensorInfo,
  scaleTensor: TensorInfo,
): Promise<StoredValues> {
  const zeroTensor = tensors.get(`${values.name}.zero_point`)
  const elements = elementCount(values.shape)
  const rows = elementCount(scaleTensor.shape)
  const perRow = elements / Math.max(rows, 1)
  const fits = rows === 1 || rows === values.shape[0]
  if (!fits || (zeroTensor !== undefined && elementCount(zeroTensor.shape) !== rows)) {
    throw partsDoNotFit(values, [scaleTensor, ...(zeroTensor === undefined ? [] : [zeroTensor])])
  }
  const scales = await readFloats(reader, scaleTensor)
  const zeros = zeroTensor === undefined ? null : await readBytes(reader, zeroTensor)
  const signed = values.dtype === 'i8'
  return {
    elements,
    storedAs: `${values.dtype} + scale ${rows === 1 ? 'per tensor' : 'per row'}${zeros === null ? '' : ' + zero point'}`,
    names: [values.name, scaleTensor.name, ...(zeroTensor === undefined ? [] : [zeroTensor.name])],
    read: async (start, into) => {
      const bytes = new Uint8Array(into.length)
      await reader.read(values.data, start, bytes)
      const codes = signed ? new Int8Array(bytes.buffer) : bytes
      for (let i = 0; i < into.length; ) {
        const row = Math.floor((start + i) / perRow)
        const end = Math.min(into.length, (row + 1) * perRow - start)
        const scale = scales[row]!
        const zero = zeros === null ? 0 : zeros[row]!
        for (; i < end; i++) into[i] = (codes[i]! - zero) * scale
      }
    },
  }
}

async function packedValues(
  reader: ModelReader,
  tensors: ReadonlyMap<string, TensorInfo>,
  name: string,
  packed: TensorInfo,
): Promise<StoredValues> {
  const scaleTensor = tensors.get(`${name}_scale`)
  const shapeTensor = tensors.get(`${name}_shape`)
  const zeroTensor = tensors.get(`${name}_zero_point`)
  if (scaleTensor === undefined || shapeTensor === undefined) throw partsDoNotFit(packed, [])
  const [n = 0, k = 0] = await readIntegers(reader, shapeTensor)
  const blocks = scaleTensor.shape[1] ?? 0
  const bits = (elementCount(packed.shape) * 32) / Math.max(n * k, 1)
  if ((bits !== 4 && bits !== 8) || scaleTensor.shape[0] !== n || blocks === 0 || k % blocks !== 0) {
    throw partsDoNotFit(packed, [scaleTensor, shapeTensor])
  }
  const blockSize = k / blocks
  const scales = await readFloats(reader, scaleTensor)
  const zeroWords = zeroTensor === undefined ? null : await readBytes(reader, zeroTensor)
  const codesPerWord = 32 / bits
  const mask = 2 ** bits - 1
  // Zero points are packed along rows: word (w, block) holds those of rows w * codesPerWord and following, low bits first.
  const zeroOf = (row: number, block: number) => {
    if (zeroWords === null) return 2 ** (bits - 1)
    const word = Math.floor(row / codesPerWord) * blocks + block
    const shift = (row % codesPerWord) * bits
    return ((zeroWords[4 * word + (shift >> 3)] ?? 0) >> (shift & 7)) & mask
  }
  return {
    elements: n * k,
    storedAs: `int${bits} in blocks of ${blockSize}${zeroWords === null ? '' : ' + zero points'}`,
    names: [packed, scaleTensor, shapeTensor, ...(zeroTensor === undefined ? [] : [zeroTensor])].map((t) => t.name),
    read: async (start, into) => {
      const firstByte = Math.floor((start * bits) / 8)
      const bytes = new Uint8Array(Math.ceil(((start + into.length) * bits) / 8) - firstByte)
      await reader.read(packed.data, firstByte, bytes)
      for (let i = 0; i < into.length; ) {
        const element = start + i
        const row = Math.floor(element / k)
        const block = Math.floor((element % k) / blockSize)
        const end = Math.min(into.length, row * k + (block + 1) * blockSize - start)
        const scale = scales[row * blocks + block]!
        const zero = zeroOf(row, block)
        for (; i < end; i++) {
          const bit = (start + i) * bits - firstByte * 8
          into[i] = (((bytes[bit >> 3]! >> (bit & 7)) & mask) - zero) * scale
        }
      }
    },
  }
}

function partsDoNotFit(tensor: TensorInfo, parts: TensorInfo[]): AppError {
  const list = parts.map((part) => `'${part.name}' ${part.dtype} [${part.shape.join(', ')}]`).join(', ')
  return new AppError(
    'validation_failed',
    `'${tensor.name}' ${tensor.dtype} [${tensor.shape.join(', ')}] cannot be dequantized: its scale, zero point or shape tensors are missing or do not fit (${list || 'none found'}).`,
    { tensor: tensor.name },
  )
}

async function readBytes(reader: ModelReader, tensor: TensorInfo): Promise<Uint8Array> {
  const requested = byteLength(tensor.dtype, elementCount(tensor.shape))
  if (requested > MAX_PARAMETER_BYTES) {
    throw new AppError(
      'limit_exceeded',
      `'${tensor.name}' has ${requested} bytes of scales, allowed ${MAX_PARAMETER_BYTES}`,
      {
        limit: 'parameter_bytes',
        allowed: MAX_PARAMETER_BYTES,
        requested,
      },
    )
  }
  const bytes = new Uint8Array(requested)
  await reader.read(tensor.data, 0, bytes)
  return bytes
}

async function readFloats(reader: ModelReader, tensor: TensorInfo): Promise<Float32Array> {
  const values = new Float32Array(elementCount(tensor.shape))
  decodeFloats(tensor.dtype, await readBytes(reader, tensor), values)
  return values
}

async function readIntegers(reader: ModelReader, tensor: TensorInfo): Promise<number[]> {
  const bytes = await readBytes(reader, tensor)
  if (tensor.dtype === 'i64') return Array.from(new BigInt64Array(bytes.buffer), Number)
  return tensor.dtype === 'i32' ? Array.from(new Int32Array(bytes.buffer)) : []
}

/** Little-endian floats as f32 (f64 is rounded). Throws dtype_unsupported for other dtypes. */
export function decodeFloats(dtype: DType, bytes: Uint8Array, into: Float32Array): void {
  const { buffer, byteOffset } = bytes
  switch (dtype) {
    case 'f32':
      into.set(new Float32Array(buffer, byteOffset, into.length))
      return
    case 'f64':
      into.set(new Float64Array(buffer, byteOffset, into.length))
      return
    case 'bf16': {
      const words = new Uint32Array(into.buffer, into.byteOffset, into.length)
      const halves = new Uint16Array(buffer, byteOffset, into.length)
      for (let i = 0; i < words.length; i++) words[i] = halves[i]! << 16
      return
    }
    case 'f16': {
      const halves = new Uint16Array(buffer, byteOffset, into.length)
      for (let i = 0; i < into.length; i++) into[i] = float16ToNumber(halves[i]!)
      return
    }
    default:
      throw new AppError('dtype_unsupported', `${dtype} cannot be read as numbers`, { dtype })
  }
}
