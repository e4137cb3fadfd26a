// dtype names of the safetensors header and ours, both ways. Spec: the `Dtype` list of the safetensors library.

import type { DType } from '../../tensor/dtype.ts'

const DTYPE_OF_NAME = {
  BOOL: 'bool',
  F4: 'f4_e2m1',
  F6_E2M3: 'f6_e2m3',
  F6_E3M2: 'f6_e3m2',
  F8_E4M3: 'f8_e4m3',
  F8_E4M3FNUZ: 'f8_e4m3fnuz',
  F8_E5M2: 'f8_e5m2',
  F8_E5M2FNUZ: 'f8_e5m2fnuz',
  F8_E8M0: 'f8_e8m0',
  U8: 'u8',
  I8: 'i8',
  U16: 'u16',
  I16: 'i16',
  F16: 'f16',
  BF16: 'bf16',
  U32: 'u32',
  I32: 'i32',
  F32: 'f32',
  U64: 'u64',
  I64: 'i64',
  F64: 'f64',
  C64: 'c64',
} as const satisfies Record<string, DType>

export type SafetensorsDType = keyof typeof DTYPE_OF_NAME

export const SAFETENSORS_DTYPES = Object.keys(DTYPE_OF_NAME) as SafetensorsDType[]

const NAME_OF_DTYPE = new Map<DType, SafetensorsDType>(SAFETENSORS_DTYPES.map((name) => [DTYPE_OF_NAME[name], name]))

/** Our dtype for a name of the header; null for a name that the format does not know. */
export function dtypeOfName(name: string): DType | null {
  return Object.hasOwn(DTYPE_OF_NAME, name) ? DTYPE_OF_NAME[name as SafetensorsDType] : null
}

/** The header's name of a dtype; null where the format has none (i4, u4, i2, u2, c128, string). */
export function nameOfDtype(dtype: DType): SafetensorsDType | null {
  return NAME_OF_DTYPE.get(dtype) ?? null
}
