// Compares one output of both models over all runs, without labels. Entry: OutputComparator. Besides error sums it counts
// agreement: the share of decisions that stay the same, by a rule that the original's values decide (see agreementRule).
// A NaN of the original is no decision and not counted; a NaN of the artifact alone is another decision.

import type { DType } from '../tensor/dtype.ts'
import { argmax } from './classification-metrics.ts'
import { wilsonInterval } from './confidence-intervals.ts'
import { compareArrays, ErrorSums } from './error-metrics.ts'
import type { RunOutput } from './output-store.ts'
import type { OutputComparison } from './validation.ts'

/** Probabilities of a softmax add up to 1 within this much, in f32 over thousands of classes. */
const SOFTMAX_TOLERANCE = 1e-3

/** Two decisions on probabilities are the same when both are on the same side of this. */
const PROBABILITY_THRESHOLD = 0.5

export class OutputComparator {
  readonly #name: string
  readonly #dtype: DType
  readonly #sums = new ErrorSums()
  #dims: number[] | null = null
  #worstCosine: number | null = null
  readonly #counts = {
    rows: 0,
    sameArgmax: 0,
    elements: 0,
    sameSide: 0,
    equal: 0,
    allInUnit: true,
    allSumToOne: true,
    vectors: true,
  }

  constructor(name: string, dtype: DType) {
    this.#name = name
    this.#dtype = dtype
  }

  /** Adds one run. Element counts must match; the caller has checked the dims. */
  add(before: RunOutput, after: RunOutput): void {
    this.#dims ??= before.dims
    const sums = compareArrays(before.values, after.values)
    this.#sums.merge(sums)
    if (sums.cosine !== null) this.#worstCosine = Math.min(this.#worstCosine ?? 1, sums.cosine)
    this.#countDecisions(before, after)
  }

  #countDecisions(before: RunOutput, after: RunOutput): void {
    const counts = this.#counts
    const x = before.values
    const y = after.values
    for (let i = 0; i < x.length; i++) {
      const a = x[i]!
      const b = y[i]!
      if (Number.isNaN(a)) continue
      counts.elements++
      if (a < 0 || a > 1) counts.allInUnit = false
      if (!Number.isNaN(b) && a > PROBABILITY_THRESHOLD === b > PROBABILITY_THRESHOLD) counts.sameSide++
      if (a === b) counts.equal++
    }
    const row = classRow(before.dims)
    if (!row.vector) counts.vectors = false
    if (row.length < 2 || x.length % row.length !== 0) {
      counts.allSumToOne = false
      counts.vectors = false
      return
    }
    for (let at = 0; at < x.length; at += row.length) {
      const scores = x.subarray(at, at + row.length)
      let sum = 0
      for (const score of scores) sum += score
      if (scores.some(Number.isNaN)) continue
      if (!(Math.abs(sum - 1) <= SOFTMAX_TOLERANCE)) counts.allSumToOne = false
      const after = y.subarray(at, at + row.length)
      if (!after.some(Number.isNaN) && argmax(scores) === argmax(after)) counts.sameArgmax++
      counts.rows++
    }
  }

  result(): OutputComparison {
    const sums = this.#sums
    return {
      name: this.#name,
      dtype: this.#dtype,
      dims: this.#dims ?? [],
      elements: sums.elements,
      mse: sums.mse,
      maxAbsError: sums.maxAbsError,
      maxAbsOriginal: sums.maxAbsOriginal,
      sqnrDb: sums.sqnrDb,
      cosine: sums.cosine,
      worstCosine: this.#worstCosine,
      identical: sums.identical,
      nonFiniteBefore: sums.nonFiniteBefore,
      nonFiniteAfter: sums.nonFiniteAfter,
      nonFiniteIntroduced: sums.nonFiniteIntroduced,
      agreement: this.#agreement(),
    }
  }

  #agreement(): OutputComparison['agreement'] {
    const counts = this.#counts
    const share = (same: number, n: number, rule: 'argmax' | 'threshold' | 'equal') =>
      n === 0 ? null : { value: same / n, ci95: wilsonInterval(same, n), n, rule }
    switch (this.agreementRule()) {
      case 'equal':
        return share(counts.equal, counts.elements, 'equal')
      case 'argmax':
        return share(counts.sameArgmax, counts.rows, 'argmax')
      case 'threshold':
        return share(counts.sameSide, counts.elements, 'threshold')
      default:
        return null
    }
  }

  /**
   * equal: integer outputs. argmax: rows that sum to 1 (softmax), or one vector of scores a sample. threshold: every value in
   * [0, 1] (sigmoid). Otherwise the output holds no decision (boxes, states, waveforms): null.
   */
  agreementRule(): 'argmax' | 'threshold' | 'equal' | null {
    const counts = this.#counts
    if (!this.#dtype.startsWith('f')) return 'equal'
    if (counts.rows > 0 && counts.allInUnit && counts.allSumToOne) return 'argmax'
    if (counts.allInUnit && counts.elements > 0) return 'threshold'
    return counts.rows > 0 && counts.vectors ? 'argmax' : null
  }
}

/**
 * The class axis: the only axis beyond the batch that is longer than 1, else the last. `vector`: dims are [C], [N, C] or
 * [N, C, 1, 1]; a rank-3 [N, T, 1] is a sequence of values, not a vector of classes.
 */
function classRow(dims: readonly number[]): { length: number; vector: boolean } {
  if (dims.length === 1) return { length: dims[0] ?? 0, vector: true }
  const long = dims.flatMap((dim, axis) => (axis > 0 && dim > 1 ? [axis] : []))
  if (long.length === 1) return { length: dims[long[0]!]!, vector: long[0] === 1 && dims.length !== 3 }
  return { length: dims.at(-1) ?? 0, vector: false }
}
