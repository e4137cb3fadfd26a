// The clipping magnitude with the least squared error, from a histogram of |w|. Entry: ClipSearch. Pure f64 on exact counts.
// Error of clipping at c with step s = c / qmax, per value r (the middle of its bin):
//   r > c: (r - c)^2;   r < s/2: r^2 (it rounds to zero);   else s^2 / 12 (uniform rounding error)
// Level 0 compares the upper edges of the bins; the better neighbouring bin is then counted again in 2048 parts, narrow
// enough for the true rounding error, and compared at 64 edges inside and at its largest value. Where that is the largest
// of all, it means no clipping: a few outliers may be worth more than the steps that they cost.
// Source of the error model: Sung et al. 2015; Banner et al. 2019 (ACIQ).

import { bitsFloat, floatBits } from '../kernels/float-bits.ts'
import { HISTOGRAM_BINS, histogramBinRange } from '../kernels/histogram.ts'

/** Candidates reach down to this fraction of the largest magnitude; clipping more than that never pays at 4 bits or more. */
const LEAST_CLIP_FRACTION = 1 / 64
const FINE_CANDIDATES = 64

interface Bin {
  middle: number
  edge: number
  count: number
}

function binsOf(level: 0 | 1, prefix: number, counts: ArrayLike<number>): Bin[] {
  const bins: Bin[] = []
  for (let bin = 0; bin < HISTOGRAM_BINS; bin++) {
    const count = counts[bin] ?? 0
    if (count === 0) continue
    const { from, to } = histogramBinRange(level, prefix, bin)
    bins.push({ middle: (bitsFloat(from) + bitsFloat(to)) / 2, edge: bitsFloat(to), count })
  }
  return bins
}

/** Error of values that are known to a small part of a step. */
function nearExactError(bins: readonly Bin[], clip: number, qMax: number): number {
  const step = clip / qMax
  let error = 0
  for (const { middle, count } of bins) {
    const rest = middle - Math.min(qMax, Math.round(middle / step)) * step
    error += count * rest * rest
  }
  return error
}

function clipError(bins: readonly Bin[], clip: number, qMax: number): number {
  const step = clip / qMax
  const rounding = (step * step) / 12
  let error = 0
  for (const { middle, count } of bins) {
    if (middle > clip) error += count * (middle - clip) * (middle - clip)
    else error += count * (middle < step / 2 ? middle * middle : rounding)
  }
  return error
}

export class ClipSearch {
  readonly #qMax: number
  #coarse: Bin[] = []
  #coarseBin = 0
  #error = Number.POSITIVE_INFINITY
  #clipBits = 0

  constructor(qMax: number) {
    this.#qMax = qMax
  }

  /** |x| bits of the best clip so far; 0 for a tensor of zeros. */
  get resultBits(): number {
    return this.#clipBits
  }

  /** Takes the level 0 counts; returns the bin to count at level 1. */
  coarse(counts: ArrayLike<number>): number {
    this.#coarse = binsOf(0, 0, counts)
    const largest = this.#coarse.at(-1)?.edge ?? 0
    const errors = new Map<number, number>()
    let best = 0
    for (let bin = 0; bin < HISTOGRAM_BINS; bin++) {
      const { to } = histogramBinRange(0, 0, bin)
      const edge = bitsFloat(to)
      if (!(edge <= largest && edge >= largest * LEAST_CLIP_FRACTION)) continue
      const error = clipError(this.#coarse, edge, this.#qMax)
      errors.set(bin, error)
      if (error < this.#error) {
        this.#error = error
        this.#clipBits = to
        best = bin
      }
    }
    const above = errors.get(best + 1) ?? Number.POSITIVE_INFINITY
    const below = errors.get(best - 1) ?? Number.POSITIVE_INFINITY
    // The least error lies between the best edge and its better neighbour; bin b spans edges b - 1 to b.
    this.#coarseBin = above < below ? best + 1 : best
    return this.#coarseBin
  }

  /** Takes the level 1 counts of the bin that `coarse` returned. */
  fine(counts: ArrayLike<number>): void {
    if (this.#coarse.length === 0) return
    const { from, to } = histogramBinRange(0, 0, this.#coarseBin)
    const inside = binsOf(1, this.#coarseBin, counts)
    const outside = this.#coarse.filter(({ middle }) => middle < bitsFloat(from) || middle > bitsFloat(to))
    const candidates = Array.from(
      { length: FINE_CANDIDATES },
      (_, index) => from + Math.floor(((to - from) * (index + 1)) / FINE_CANDIDATES),
    )
    const highest = inside.at(-1)
    if (highest !== undefined) candidates.push(floatBits(highest.edge))
    this.#error = Number.POSITIVE_INFINITY
    for (const bits of candidates) {
      const clip = bitsFloat(bits)
      const error = clipError(outside, clip, this.#qMax) + nearExactError(inside, clip, this.#qMax)
      if (error < this.#error) {
        this.#error = error
        this.#clipBits = bits
      }
    }
  }
}
