// Bit-exact f32 -> 16-bit float, round to nearest even, on integers (IEEE 754 binary16; bfloat16 is the upper half of f32).
// float16: denormal results are kept, a finite value that rounds beyond 65504 becomes infinity, a NaN keeps its sign and top
// payload bits and is quiet. Used by the two cast kernels. The value of a float16 as a number: src/tensor/float16.ts.

import { ABS_MASK, INFINITY_BITS } from './float-bits.ts'

/** |x| bits from which a finite f32 rounds to infinity in float16 (65520) and in bfloat16 (2^128 - 2^119). */
export const FLOAT16_OVERFLOW_BITS = 0x477ff000
export const BFLOAT16_OVERFLOW_BITS = 0x7f7f8000

/** |x| bits of 2^-14, the least normal float16. */
const FLOAT16_NORMAL_BITS = 0x38800000

export function toFloat16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & ABS_MASK
  if (magnitude > INFINITY_BITS) return sign | 0x7e00 | ((magnitude >>> 13) & 0x1ff)
  if (magnitude >= FLOAT16_OVERFLOW_BITS) return sign | 0x7c00
  if (magnitude >= FLOAT16_NORMAL_BITS) {
    const rebiased = magnitude - 0x38000000
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13)
  }
  // denormal result: the 24-bit significand shifted to units of 2^-24
  const shift = 126 - (magnitude >>> 23)
  if (shift > 25) return sign
  const significand = (magnitude & 0x7fffff) | 0x800000
  const quotient = significand >>> shift
  const rest = significand - quotient * 2 ** shift
  const half = 2 ** (shift - 1)
  const roundUp = rest > half || (rest === half && (quotient & 1) === 1)
  return sign | (quotient + (roundUp ? 1 : 0))
}

export function toBfloat16(bits: number): number {
  const magnitude = bits & ABS_MASK
  if (magnitude > INFINITY_BITS) return (bits >>> 16) | 0x40
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

/** f32 bits of a float16; exact. */
export function float16ToBits(half: number): number {
  const sign = (half & 0x8000) * 0x10000
  const exponent = (half >>> 10) & 31
  const mantissa = half & 0x3ff
  if (exponent === 31) return (sign + (INFINITY_BITS | (mantissa << 13))) >>> 0
  if (exponent !== 0) return (sign + (((exponent + 112) << 23) | (mantissa << 13))) >>> 0
  if (mantissa === 0) return sign
  // mantissa * 2^-24: normalise
  const shift = Math.clz32(mantissa) - 8
  return (sign + ((126 - shift) << 23) + ((mantissa << shift) & 0x7fffff)) >>> 0
}
