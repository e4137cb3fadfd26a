// Fused statistics of a segment table: for every slot the largest magnitude, the smallest and largest value, zeros and
// non-finite values, merged by atomic max and add over segments and chunks; and per invocation the moments
// sum(x), sum(x^2) over finite values, which are information only (float summation order differs between devices).
// Values are f32, segments may start at any element.
// Params: [segmentCount, lanes, 0, 0]. Stats: 8 words a slot, see STATISTICS_WORDS; the caller clears them once.

import type { Kernel } from '../compute/compute-device.ts'
import { ABS_MASK, bitsFloat, bitsOfKey, INFINITY_BITS, orderKey } from './float-bits.ts'
import { asFloats, chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'
import { reachedSegments, readSegment } from './segments.ts'

/** Words of a slot: [max |x| bits, max key, max ~key, zeros, non-finite, 0, 0, 0] with key as in float-bits.ts. */
export const STATISTICS_WORDS = 8
/** f32 words that an invocation writes to `moments`: sum and sum of squares. */
export const MOMENT_WORDS = 2

export interface Statistics {
  /** Bits of max |x| over finite values; 0 without any. */
  absMaxBits: number
  absMax: number
  /** 0 and 0 when there is no finite value. */
  min: number
  max: number
  /** +0 and -0. */
  zeros: number
  nonFinite: number
}

export function readStatistics(stats: Uint32Array, slot: number): Statistics {
  const base = slot * STATISTICS_WORDS
  const maxKey = stats[base + 1]!
  const finite = maxKey !== 0
  return {
    absMaxBits: stats[base]!,
    absMax: bitsFloat(stats[base]!),
    min: finite ? bitsFloat(bitsOfKey(~stats[base + 2]! >>> 0)) : 0,
    max: finite ? bitsFloat(bitsOfKey(maxKey)) : 0,
    zeros: stats[base + 3]!,
    nonFinite: stats[base + 4]!,
  }
}

/** Sums the moments of invocations [first, first + count) in f64. */
export function sumMoments(moments: Float32Array, first: number, count: number): { sum: number; sumSquares: number } {
  let sum = 0
  let sumSquares = 0
  for (let i = first * MOMENT_WORDS; i < (first + count) * MOMENT_WORDS; i += MOMENT_WORDS) {
    sum += moments[i]!
    sumSquares += moments[i + 1]!
  }
  return { sum, sumSquares }
}

/** Adds one value (as bits) to the slot at `base`; true when it is finite. */
export function addToStatistics(stats: Uint32Array, base: number, bits: number): boolean {
  const magnitude = bits & ABS_MASK
  if (magnitude >= INFINITY_BITS) {
    stats[base + 4]! += 1
    return false
  }
  const key = orderKey(bits)
  if (magnitude > stats[base]!) stats[base] = magnitude
  if (key > stats[base + 1]!) stats[base + 1] = key
  const inverted = ~key >>> 0
  if (inverted > stats[base + 2]!) stats[base + 2] = inverted
  if (magnitude === 0) stats[base + 3]! += 1
  return true
}

export const statistics: Kernel = {
  name: 'statistics',
  bindings: [chunk(), read('segments'), readWrite('stats'), readWrite('moments')],
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  library: ['extremes'],
  reference(buffers, params, workgroups) {
    const [values, segments, stats, moments] = buffers as [Uint32Array, Uint32Array, Uint32Array, Uint32Array]
    const floats = asFloats(values)
    const sums = asFloats(moments)
    const lanes = params[1]!
    const rows = reachedSegments(params[0]!, lanes, workgroups)
    for (let row = 0; row < rows; row++) {
      const { start, length, slot } = readSegment(segments, row)
      const base = slot * STATISTICS_WORDS
      let sum = 0
      let sumSquares = 0
      for (let i = start; i < start + length; i++) {
        if (!addToStatistics(stats, base, values[i]!)) continue
        const value = floats[i]!
        sum += value
        sumSquares += value * value
      }
      sums.fill(0, row * lanes * MOMENT_WORDS, (row + 1) * lanes * MOMENT_WORDS)
      sums[row * lanes * MOMENT_WORDS] = sum
      sums[row * lanes * MOMENT_WORDS + 1] = sumSquares
    }
  },
}
