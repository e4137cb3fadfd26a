// f32 values looked at as bits: the integer logic that makes every adapter decide alike (NaN tests, order and rounding on
// floats are where adapters may differ). IEEE 754 binary32.

export const ABS_MASK = 0x7fffffff
/** |x| bits of infinity; larger is NaN, smaller is finite. */
export const INFINITY_BITS = 0x7f800000
/** |x| bits of the f32 next to 1e-30: below it a reciprocal would leave the range where f32 is normal everywhere. */
export const TINY_BITS = 0x0da24260
/** 1.5 * 2^23: added to a value of at most 2^22, it rounds half to even and leaves the integer in the low bits. */
export const ROUND_MAGIC = 12582912

const scratchFloat = new Float32Array(1)
const scratchBits = new Uint32Array(scratchFloat.buffer)

export function floatBits(value: number): number {
  scratchFloat[0] = value
  return scratchBits[0]!
}

export function bitsFloat(bits: number): number {
  scratchBits[0] = bits
  return scratchFloat[0]!
}

/** A u32 that orders as the float does (-0 just below +0). */
export function orderKey(bits: number): number {
  return (bits >>> 31 === 1 ? ~bits : bits | 0x80000000) >>> 0
}

/** The bits whose orderKey is `key`. */
export function bitsOfKey(key: number): number {
  return (key >>> 31 === 1 ? key & ABS_MASK : ~key) >>> 0
}

/** f32(value), rounded half to even to an integer. For |value| <= 2^22. */
export function roundHalfEvenFloat32(value: number): number {
  return Math.fround(value + ROUND_MAGIC) - ROUND_MAGIC
}

/** min(max(value, low), high), as WGSL defines clamp for values that are not NaN. */
export function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high)
}
