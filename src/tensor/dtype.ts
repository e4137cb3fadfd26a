// Element types that a model file can hold, with their storage size. Types below 8 bits are packed, low bits first.

export const DTYPES = {
  f64: { bits: 64 },
  f32: { bits: 32 },
  f16: { bits: 16 },
  bf16: { bits: 16 },
  f8_e4m3: { bits: 8 },
  f8_e4m3fnuz: { bits: 8 },
  f8_e5m2: { bits: 8 },
  f8_e5m2fnuz: { bits: 8 },
  f8_e8m0: { bits: 8 },
  i64: { bits: 64 },
  u64: { bits: 64 },
  i32: { bits: 32 },
  u32: { bits: 32 },
  i16: { bits: 16 },
  u16: { bits: 16 },
  i8: { bits: 8 },
  u8: { bits: 8 },
  bool: { bits: 8 },
  i4: { bits: 4 },
  u4: { bits: 4 },
  f6_e2m3: { bits: 6 },
  f6_e3m2: { bits: 6 },
  f4_e2m1: { bits: 4 },
  i2: { bits: 2 },
  u2: { bits: 2 },
  c64: { bits: 64 },
  c128: { bits: 128 },
  string: { bits: 0 },
} as const

export type DType = keyof typeof DTYPES

export function elementCount(shape: readonly number[]): number {
  let count = 1
  for (const dim of shape) count *= dim
  return count
}

/** Bytes that `elements` elements take, the last byte of a sub-byte type included. */
export function byteLength(dtype: DType, elements: number): number {
  return Math.ceil((elements * DTYPES[dtype].bits) / 8)
}

/** True for dtypes a float weight may already have been reduced to (so it is not compressed twice). */
export function isReducedFloat(dtype: DType): boolean {
  return dtype === 'f16' || dtype === 'bf16' || /^f[468]_/.test(dtype)
}
