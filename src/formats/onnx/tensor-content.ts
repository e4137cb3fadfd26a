// What a TensorProto says of itself, checked: dtype, shape, and where its little-endian, C-order elements are. Typed fields
// of variable length (int32_data and the like) are decoded only when somebody reads them. Entry: tensorContent.

import { clearField } from '@bufbuild/protobuf'
import { type TensorProto, TensorProtoSchema } from 'onnx-buf'
import { AppError } from '../../errors.ts'
import { byteLength, DTYPES, type DType } from '../../tensor/dtype.ts'
import type { TensorData } from '../../tensor/model.ts'
import { clearPayload, type Payload, payloadIndices } from './structure.ts'
import { dtypeFromOnnx, TENSOR_FIELD, typedFieldOf } from './tensor-types.ts'

/** More dimensions than any operator or array library takes (NumPy: 64). */
export const MAX_TENSOR_RANK = 64

/** Variable-length numbers are decoded whole, at some 20 million a second: integer and 16-bit tensors of old exporters. */
export const MAX_DECODED_BYTES = 64 * 1024 * 1024

export interface TensorContent {
  dtype: DType
  shape: number[]
  elements: number
  data: TensorData
}

/** Reads a whole payload of the model's files: given by the reader, which owns the open files. */
export type ReadPayload = (data: TensorData) => Uint8Array

/** Elements of a typed field, turned into bytes when first asked for and not kept. */
class EncodedElements {
  readonly kind = 'inline'
  readonly lengthBytes: number
  readonly #decode: () => Uint8Array

  constructor(lengthBytes: number, decode: () => Uint8Array) {
    this.lengthBytes = lengthBytes
    this.#decode = decode
  }

  get bytes(): Uint8Array {
    return this.#decode()
  }
}

function invalid(tensor: TensorProto, what: string): AppError {
  return new AppError('format_invalid', `tensor "${tensor.name}": ${what}`, { tensor: tensor.name })
}

/** Shape and element count; refuses negative and unrepresentable dimensions and counts beyond 2^53. */
export function checkedShape(tensor: TensorProto): { shape: number[]; elements: number } {
  if (tensor.dims.length > MAX_TENSOR_RANK) {
    throw new AppError(
      'limit_exceeded',
      `tensor "${tensor.name}" has ${tensor.dims.length} dimensions; at most ${MAX_TENSOR_RANK} are read`,
      {
        tensor: tensor.name,
        limit: 'MAX_TENSOR_RANK',
        allowed: MAX_TENSOR_RANK,
        requested: tensor.dims.length,
      },
    )
  }
  let elements = 1n
  for (const dim of tensor.dims) {
    if (dim < 0n) throw invalid(tensor, `dimension ${dim} is negative`)
    if (dim > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(tensor, `dimension ${dim} is larger than any file`)
    elements *= dim
  }
  // 16 bytes an element at most: beyond 2^49 elements a byte count would no longer be exact.
  if (elements > 2n ** 49n) throw invalid(tensor, `its shape [${tensor.dims.join(', ')}] has ${elements} elements`)
  return { shape: tensor.dims.map(Number), elements: Number(elements) }
}

/** Removes the elements of a tensor, wherever it holds them. */
export function clearElements(tensor: TensorProto): void {
  clearPayload(tensor)
  clearField(tensor, TensorProtoSchema.field.rawData)
  clearField(tensor, TensorProtoSchema.field.dataLocation)
  tensor.externalData = []
  tensor.floatData = []
  tensor.int32Data = []
  tensor.int64Data = []
  tensor.doubleData = []
  tensor.uint64Data = []
}

/** Throws format_invalid (elements do not fit the shape, given twice) or dtype_unsupported. */
export function tensorContent(tensor: TensorProto, payloads: readonly Payload[], read: ReadPayload): TensorContent {
  const dtype = dtypeFromOnnx(tensor.dataType)
  if (dtype === null) {
    throw new AppError(
      'dtype_unsupported',
      `tensor "${tensor.name}" has element type ${tensor.dataType}; ONNX types 1 (FLOAT) to 26 (INT2) are read`,
      { tensor: tensor.name, dataType: tensor.dataType },
    )
  }
  const { shape, elements } = checkedShape(tensor)
  const lengthBytes = byteLength(dtype, elements)
  const sources = elementSources(tensor, payloads)
  if (dtype === 'string') {
    if (tensor.stringData.length !== elements) {
      throw invalid(tensor, `its shape takes ${elements} strings, it holds ${tensor.stringData.length}`)
    }
    return { dtype, shape, elements, data: { kind: 'inline', bytes: new Uint8Array(0) } }
  }
  if (sources.length > 1) throw invalid(tensor, 'its elements are given in two fields')
  const source = sources[0]
  if (!source) {
    if (elements > 0) throw invalid(tensor, `its shape [${shape.join(', ')}] has ${elements} elements, it holds none`)
    return { dtype, shape, elements, data: { kind: 'inline', bytes: new Uint8Array(0) } }
  }
  const payload = source.payload
  if (payload && payload.kind !== 'data') throw invalid(tensor, 'its elements are planned, not stored')
  if (source.field !== TENSOR_FIELD.rawData && source.field !== typedFieldOf(dtype)) {
    throw invalid(tensor, `elements of type ${dtype} are held in field ${source.field} of TensorProto`)
  }
  const isBytes =
    source.field === TENSOR_FIELD.rawData ||
    source.field === TENSOR_FIELD.floatData ||
    source.field === TENSOR_FIELD.doubleData
  if (!isBytes) {
    const varints = payload
      ? () => decodeVarints(tensor, payload, read, dtype, elements)
      : () => packNumbers(tensor, structureNumbers(tensor), dtype, elements)
    if (!payload) varints()
    return { dtype, shape, elements, data: new EncodedElements(lengthBytes, varints) }
  }
  const found = payload ? payload.lengthBytes : tensor.rawData.length
  if (found !== lengthBytes) {
    throw invalid(tensor, `its shape [${shape.join(', ')}] of ${dtype} takes ${lengthBytes} bytes, it holds ${found}`)
  }
  return { dtype, shape, elements, data: payload ? payload.data : { kind: 'inline', bytes: tensor.rawData } }
}

interface ElementSource {
  field: number
  /** Null: in the structure. */
  payload: Payload | null
}

/** The fields that hold elements; a sound tensor has one at most. */
function elementSources(tensor: TensorProto, payloads: readonly Payload[]): ElementSource[] {
  const sources: ElementSource[] = []
  for (const index of payloadIndices(tensor)) {
    const payload = payloads[index]
    if (!payload) throw invalid(tensor, `it refers to payload ${index}, which does not exist`)
    if (payload.lengthBytes > 0) sources.push({ field: payload.field, payload })
  }
  if (tensor.rawData.length > 0) sources.push({ field: TENSOR_FIELD.rawData, payload: null })
  if (tensor.int32Data.length > 0) sources.push({ field: TENSOR_FIELD.int32Data, payload: null })
  if (tensor.int64Data.length > 0) sources.push({ field: TENSOR_FIELD.int64Data, payload: null })
  if (tensor.uint64Data.length > 0) sources.push({ field: TENSOR_FIELD.uint64Data, payload: null })
  return sources
}

/** The one typed list that holds numbers, as elementSources made sure. */
function structureNumbers(tensor: TensorProto): readonly (number | bigint)[] {
  if (tensor.int32Data.length > 0) return tensor.int32Data
  return tensor.int64Data.length > 0 ? tensor.int64Data : tensor.uint64Data
}

/** Numbers held in a typed field: one an element, or one a byte for types below 8 bits. */
function numberCount(dtype: DType, elements: number): number {
  return DTYPES[dtype].bits < 8 ? byteLength(dtype, elements) : elements
}

function packNumbers(
  tensor: TensorProto,
  numbers: readonly (number | bigint)[],
  dtype: DType,
  elements: number,
): Uint8Array {
  const expected = numberCount(dtype, elements)
  if (numbers.length !== expected)
    throw invalid(tensor, `its shape takes ${expected} numbers, it holds ${numbers.length}`)
  const bytes = new Uint8Array(byteLength(dtype, elements))
  const write = numberWriter(bytes, dtype)
  for (let i = 0; i < expected; i++) write(i, BigInt(numbers[i]!))
  return bytes
}

/** Unpacks a packed varint field that was too long for the structure. */
function decodeVarints(
  tensor: TensorProto,
  payload: Payload & { kind: 'data' },
  read: ReadPayload,
  dtype: DType,
  elements: number,
): Uint8Array {
  if (payload.lengthBytes > MAX_DECODED_BYTES) {
    throw new AppError(
      'limit_exceeded',
      `tensor "${tensor.name}" has ${payload.lengthBytes} bytes of variable-length numbers; at most ` +
        `${MAX_DECODED_BYTES} are decoded. Store it as raw_data`,
      {
        tensor: tensor.name,
        limit: 'MAX_DECODED_BYTES',
        allowed: MAX_DECODED_BYTES,
        requested: payload.lengthBytes,
      },
    )
  }
  const expected = numberCount(dtype, elements)
  const bytes = new Uint8Array(byteLength(dtype, elements))
  const write = numberWriter(bytes, dtype)
  let count = 0
  let value = 0n
  let shift = 0n
  for (const byte of read(payload.data)) {
    value |= BigInt(byte & 0x7f) << shift
    shift += 7n
    if (byte >= 0x80) {
      if (shift > 63n) throw invalid(tensor, 'an element is a varint longer than 10 bytes')
      continue
    }
    if (count < expected) write(count, value)
    count++
    value = 0n
    shift = 0n
  }
  if (shift !== 0n || count !== expected) {
    throw invalid(tensor, `its shape takes ${expected} numbers, it holds ${count}`)
  }
  return bytes
}

function numberWriter(bytes: Uint8Array, dtype: DType): (index: number, value: bigint) => void {
  const view = new DataView(bytes.buffer)
  switch (DTYPES[dtype].bits) {
    case 64:
      return (index, value) => view.setBigUint64(index * 8, BigInt.asUintN(64, value), true)
    case 32:
      return (index, value) => view.setUint32(index * 4, Number(BigInt.asUintN(32, value)), true)
    case 16:
      return (index, value) => view.setUint16(index * 2, Number(BigInt.asUintN(16, value)), true)
    default:
      return (index, value) => view.setUint8(index, Number(BigInt.asUintN(8, value)))
  }
}
