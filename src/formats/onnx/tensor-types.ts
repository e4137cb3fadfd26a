// ONNX element types by number (TensorProto.DataType), and the fields of TensorProto that may carry their elements.

import type { DType } from '../../tensor/dtype.ts'

/** Field numbers of TensorProto that hold elements. */
export const TENSOR_FIELD = {
  floatData: 4,
  int32Data: 5,
  int64Data: 7,
  rawData: 9,
  doubleData: 10,
  uint64Data: 11,
} as const

/** Index: TensorProto.DataType. Null: UNDEFINED. */
const DTYPE_BY_NUMBER: readonly (DType | null)[] = [
  null,
  'f32',
  'u8',
  'i8',
  'u16',
  'i16',
  'i32',
  'i64',
  'string',
  'bool',
  'f16',
  'f64',
  'u32',
  'u64',
  'c64',
  'c128',
  'bf16',
  'f8_e4m3',
  'f8_e4m3fnuz',
  'f8_e5m2',
  'f8_e5m2fnuz',
  'u4',
  'i4',
  'f4_e2m1',
  'f8_e8m0',
  'u2',
  'i2',
]

/** Null: no element type of ONNX 1.20 has this number. */
export function dtypeFromOnnx(dataType: number): DType | null {
  return DTYPE_BY_NUMBER[dataType] ?? null
}

/** TensorProto.DataType of a dtype that ONNX has; throws a RangeError for others (a bug of the caller). */
export function dtypeToOnnx(dtype: DType): number {
  const number = DTYPE_BY_NUMBER.indexOf(dtype)
  if (number < 1) throw new RangeError(`ONNX has no element type ${dtype}`)
  return number
}

/** The typed field that may hold elements of this dtype besides raw_data (onnx.proto, comments of TensorProto). */
export function typedFieldOf(dtype: DType): number {
  switch (dtype) {
    case 'f32':
    case 'c64':
      return TENSOR_FIELD.floatData
    case 'f64':
    case 'c128':
      return TENSOR_FIELD.doubleData
    case 'i64':
      return TENSOR_FIELD.int64Data
    case 'u32':
    case 'u64':
      return TENSOR_FIELD.uint64Data
    default:
      return TENSOR_FIELD.int32Data
  }
}

/** Opset from which a Constant node may hold this dtype (Constant-1: float types; -9: all of its time; -13: bf16; ...). */
export function constantNodeOpset(dtype: DType): number {
  if (dtype === 'f16' || dtype === 'f32' || dtype === 'f64') return 1
  if (dtype === 'bf16') return 13
  if (dtype.startsWith('f8_')) return dtype === 'f8_e8m0' ? 24 : 19
  if (dtype === 'i4' || dtype === 'u4') return 21
  if (dtype === 'f4_e2m1') return 23
  if (dtype === 'i2' || dtype === 'u2') return 25
  return 9
}
