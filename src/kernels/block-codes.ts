// The arithmetic of block quantization, shared by the reference of the three block kernels: one block of f32 values to
// `bits`-wide codes, an f32 scale and a zero point.
//   symmetric:  scale = w* / -2^(bits-1), w* the element of largest magnitude (the first of equals), zero point 2^(bits-1);
//               w* lands exactly on code 0, the end of the range that holds one value more (as onnxruntime's quantizer does)
//   asymmetric: scale = f32((hi - lo) * f32(1 / (2^bits - 1))), zero point = clamp(roundHalfEven(-lo / scale)),
//               lo = min(0, least), hi = max(0, largest)
//   code = clamp(roundHalfEven(w * f32(1/scale)) + zero point, 0, 2^bits - 1)
// With |w*| (or hi - lo) below 1e-30 the scale is 0 and every code 2^(bits-1). NaN and infinities count as 0.
// shrinkCount > 1 (clipping by least squares): w*, or lo and hi, are tried at f32(20 - s) * f32(0.05), s = 0 .. shrinkCount - 1;
// the least cost wins, and of equal costs the least shrink. The cost is decided on integers so that every adapter agrees:
// u = floor(min(|t - q|, 16) * 128) with t = w / scale, cost = f32(sum u^2) * factor * factor (scale is proportional to factor).

import { ABS_MASK, clamp, floatBits, INFINITY_BITS, roundHalfEvenFloat32, TINY_BITS } from './float-bits.ts'

/** Beyond it the factor would reach 0. */
export const MAX_SHRINK_COUNT = 20
/** Keeps the u32 sum of u^2 (at most 2^22 each) from overflowing. */
export const MAX_BLOCK_SIZE = 512

export interface BlockSettings {
  bits: 4 | 8
  blockSize: number
  asymmetric: boolean
  shrinkCount: number
}

export interface BlockResult {
  codes: Uint8Array
  scale: number
  zeroPoint: number
  nonFinite: number
}

const SHRINK_STEP = Math.fround(0.05)
const ERROR_CAP = 16
const ERROR_STEPS = 128
/** Keeps t finite, and a multiply apart from the subtraction that follows (adapters may contract the two). */
const SCALED_CAP = 4096

/** Words that the packed codes of one block take. */
export function blockWords(bits: number, blockSize: number): number {
  return (blockSize * bits) / 32
}

export function shrinkFactor(step: number): number {
  return Math.fround((MAX_SHRINK_COUNT - step) * SHRINK_STEP)
}

/** Makes a quantizer with its own scratch; `block` is at most blockSize words of f32 bits, a short one is padded with 0. */
export function blockQuantizer(settings: BlockSettings): (block: Uint32Array) => BlockResult {
  const { bits, blockSize, asymmetric, shrinkCount } = settings
  const levels = 2 ** bits
  const middle = levels / 2
  const inverseRange = Math.fround(1 / (levels - 1))
  const values = new Float32Array(blockSize)
  const valueBits = new Uint32Array(values.buffer)
  const result: BlockResult = { codes: new Uint8Array(blockSize), scale: 0, zeroPoint: middle, nonFinite: 0 }

  return (block) => {
    result.nonFinite = 0
    let extreme = 0
    let extremeBits = 0
    let low = 0
    let high = 0
    valueBits.fill(0)
    for (let i = 0; i < block.length; i++) {
      const magnitude = block[i]! & ABS_MASK
      if (magnitude >= INFINITY_BITS) {
        result.nonFinite++
        continue
      }
      valueBits[i] = block[i]!
      const value = values[i]!
      if (magnitude > extremeBits) {
        extremeBits = magnitude
        extreme = value
      }
      low = Math.min(low, value)
      high = Math.max(high, value)
    }
    const rangeBits = asymmetric ? Math.min(floatBits(high - low), INFINITY_BITS - 1) : extremeBits
    if (rangeBits < TINY_BITS) {
      result.codes.fill(middle)
      result.scale = 0
      result.zeroPoint = middle
      return result
    }

    const scaleAt = (factor: number): { scale: number; zeroPoint: number; reciprocal: number } => {
      if (!asymmetric) {
        const scale = Math.fround(extreme * factor) * (-1 / middle)
        return { scale, zeroPoint: middle, reciprocal: Math.fround(1 / scale) }
      }
      const scaledLow = Math.fround(low * factor)
      const range = Math.fround(Math.fround(high * factor) - scaledLow)
      const finiteRange = Number.isFinite(range) ? range : MAX_FLOAT
      const scale = Math.fround(finiteRange * inverseRange)
      const reciprocal = Math.fround(1 / scale)
      const zeroPoint = roundHalfEvenFloat32(clamp(Math.fround(-scaledLow * reciprocal), 0, levels - 1))
      return { scale, zeroPoint, reciprocal }
    }
    const codeOf = (value: number, zeroPoint: number, reciprocal: number): number =>
      roundHalfEvenFloat32(clamp(Math.fround(value * reciprocal), -zeroPoint, levels - 1 - zeroPoint)) + zeroPoint

    let best = scaleAt(1)
    if (shrinkCount > 1) {
      let bestCost = Number.POSITIVE_INFINITY
      for (let step = 0; step < Math.min(shrinkCount, MAX_SHRINK_COUNT); step++) {
        const factor = shrinkFactor(step)
        const candidate = scaleAt(factor)
        let sum = 0
        for (const value of values) {
          const scaled = clamp(Math.fround(value * candidate.reciprocal), -SCALED_CAP, SCALED_CAP)
          const code = codeOf(value, candidate.zeroPoint, candidate.reciprocal) - candidate.zeroPoint
          const units = Math.trunc(Math.min(Math.abs(Math.fround(scaled - code)), ERROR_CAP) * ERROR_STEPS)
          sum += units * units
        }
        const cost = Math.fround(Math.fround(Math.fround(sum) * factor) * factor)
        if (cost < bestCost) {
          bestCost = cost
          best = candidate
        }
      }
    }
    for (let i = 0; i < blockSize; i++) result.codes[i] = codeOf(values[i]!, best.zeroPoint, best.reciprocal)
    result.scale = best.scale
    result.zeroPoint = best.zeroPoint
    return result
  }
}

const MAX_FLOAT = 3.4028234663852886e38

/** Writes codes from word `word` on, low bits first. */
export function packCodes(packed: Uint32Array, word: number, codes: Uint8Array, bits: number): void {
  const perWord = 32 / bits
  for (let first = 0; first < codes.length; first += perWord) {
    let packedWord = 0
    for (let i = 0; i < perWord; i++) packedWord |= codes[first + i]! << (i * bits)
    packed[word + first / perWord] = packedWord >>> 0
  }
}
