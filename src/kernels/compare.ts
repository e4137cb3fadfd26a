// What the three compare kernels share: the result of dequantizing an artifact and comparing it with the original.
// stats slot, 8 words, merged over chunks by atomic max and add: [max |error| bits, zeros in the original, zeros in the
// artifact, elements compared, non-finite, 0, 0, 0]. Pairs whose original is not finite are counted in non-finite and skipped;
// a finite original with a non-finite artifact counts there too, sets the error to infinity and stays out of the sums.
// sums: 4 f32 an invocation, [sum error^2, sum original^2, sum artifact^2, sum original * artifact]: statistics only (their
// summation order differs between devices), finished in f64 on the host.

import { ABS_MASK, floatBits, INFINITY_BITS } from './float-bits.ts'

export const COMPARE_STAT_WORDS = 8
export const COMPARE_SUM_WORDS = 4

export interface CompareSums {
  squaredError: number
  squaredOriginal: number
  squaredArtifact: number
  dot: number
}

/** Adds the sums of invocations [first, first + count) in f64. */
export function addCompareSums(sums: Float32Array, first: number, count: number): CompareSums {
  const total: CompareSums = { squaredError: 0, squaredOriginal: 0, squaredArtifact: 0, dot: 0 }
  for (let i = first * COMPARE_SUM_WORDS; i < (first + count) * COMPARE_SUM_WORDS; i += COMPARE_SUM_WORDS) {
    total.squaredError += sums[i]!
    total.squaredOriginal += sums[i + 1]!
    total.squaredArtifact += sums[i + 2]!
    total.dot += sums[i + 3]!
  }
  return total
}

/** Compares one pair into the slot at word `base` and into `total`. */
export function addToCompare(
  stats: Uint32Array,
  base: number,
  total: CompareSums,
  original: number,
  artifact: number,
): void {
  if (!Number.isFinite(original)) {
    stats[base + 4]! += 1
    return
  }
  if (original === 0) stats[base + 1]! += 1
  if (artifact === 0) stats[base + 2]! += 1
  stats[base + 3]! += 1
  if (!Number.isFinite(artifact)) {
    stats[base + 4]! += 1
    stats[base] = INFINITY_BITS
    return
  }
  const error = Math.fround(artifact - original)
  const errorBits = floatBits(error) & ABS_MASK
  if (errorBits > stats[base]!) stats[base] = errorBits
  total.squaredError += error * error
  total.squaredOriginal += original * original
  total.squaredArtifact += artifact * artifact
  total.dot += original * artifact
}

export function noSums(): CompareSums {
  return { squaredError: 0, squaredOriginal: 0, squaredArtifact: 0, dot: 0 }
}

export function writeSums(sums: Float32Array, invocation: number, total: CompareSums): void {
  const base = invocation * COMPARE_SUM_WORDS
  sums[base] = total.squaredError
  sums[base + 1] = total.squaredOriginal
  sums[base + 2] = total.squaredArtifact
  sums[base + 3] = total.dot
}

/** Invocations of a compare kernel without segments; `sums` holds 4 f32 for each. */
export function compareInvocations(elements: number, elementsPerInvocation: number): number {
  return Math.ceil(elements / elementsPerInvocation)
}
