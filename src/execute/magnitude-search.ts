// Exact order statistics of |w| from counts: the smallest f32 magnitude t with count(|w| <= t) >= target, found by three
// histogram levels that narrow one bin at a time (src/kernels/histogram.ts). Entry: MagnitudeSearch. Pure: the caller
// counts, this decides; counts are exact integers, so every device finds the same t.

import { HISTOGRAM_LEVELS } from '../kernels/histogram.ts'

/** |x| bits of the largest finite f32. */
const MAX_FINITE_BITS = 0x7f7fffff

/** ceil(fraction * n) without the error of binary fractions: 0.07 of 100 is 7, not 8. */
export function countTarget(fraction: number, n: number): number {
  const exact = fraction * n
  const nearest = Math.round(exact)
  return Math.abs(exact - nearest) <= 1e-9 * Math.max(1, n) ? nearest : Math.ceil(exact)
}

export class MagnitudeSearch {
  /** Values that must lie at or below t. */
  readonly target: number
  #level = 0
  #prefix = 0
  #below = 0
  #resultBits: number | null = null

  constructor(target: number) {
    this.target = target
    if (target <= 0) this.#resultBits = 0
  }

  /** |x| bits of t; null until three levels were counted. */
  get resultBits(): number | null {
    return this.#resultBits
  }

  /** The bin of the level before, whose inside the next count looks at. */
  get prefix(): number {
    return this.#prefix
  }

  /** Takes the counts of the next level (2048 bins, or 512 at the last) and moves into the deciding bin. */
  narrow(counts: ArrayLike<number>): void {
    if (this.#resultBits !== null) return
    const level = HISTOGRAM_LEVELS[this.#level]
    if (level === undefined) return
    let bin = 0
    let reached = this.#below
    let last = -1
    for (; bin < level.bins; bin++) {
      const count = counts[bin] ?? 0
      if (count > 0) last = bin
      if (reached + count >= this.target) break
      reached += count
    }
    if (bin === level.bins) {
      // Fewer finite values than the target (the rest is NaN or Inf): the largest finite magnitude, or none at all.
      if (last < 0) {
        this.#resultBits = this.#level === 0 ? 0 : MAX_FINITE_BITS
        return
      }
      bin = last
      reached -= counts[bin] ?? 0
    }
    this.#below = reached
    this.#prefix = this.#level === 0 ? bin : this.#prefix * level.bins + bin
    this.#level++
    if (this.#level === HISTOGRAM_LEVELS.length) this.#resultBits = this.#prefix
  }
}
