// How far output y of the artifact is from output x of the original: streaming sums over any number of pieces. Entry:
// ErrorSums. Formulas: MSE = mean (x-y)^2; SQNR = 10 log10(sum x^2 / sum (x-y)^2) dB; cosine = <x,y> / (|x| |y|).

/** A numeric array that ErrorSums can read. */
export type Numbers = Float32Array | Float64Array | readonly number[]

/** Accumulates in f64. Positions where either side is NaN or infinite are counted and left out of every sum. */
export class ErrorSums {
  elements = 0
  compared = 0
  differing = 0
  signalSquared = 0
  outputSquared = 0
  product = 0
  errorSquared = 0
  maxAbsError = 0
  maxAbsOriginal = 0
  nonFiniteBefore = 0
  nonFiniteAfter = 0
  nonFiniteIntroduced = 0

  /** Adds pairs x[i], y[i]. Throws RangeError when lengths differ. */
  add(x: Numbers, y: Numbers): void {
    if (x.length !== y.length) throw new RangeError(`lengths differ: ${x.length} and ${y.length}`)
    for (let i = 0; i < x.length; i++) {
      const a = x[i]!
      const b = y[i]!
      this.elements++
      if (a !== b && !(Number.isNaN(a) && Number.isNaN(b))) this.differing++
      const finiteA = Number.isFinite(a)
      const finiteB = Number.isFinite(b)
      if (!finiteA) this.nonFiniteBefore++
      if (!finiteB) this.nonFiniteAfter++
      if (finiteA && !finiteB) this.nonFiniteIntroduced++
      if (!finiteA || !finiteB) continue
      const error = a - b
      this.compared++
      this.signalSquared += a * a
      this.outputSquared += b * b
      this.product += a * b
      this.errorSquared += error * error
      this.maxAbsError = Math.max(this.maxAbsError, Math.abs(error))
      this.maxAbsOriginal = Math.max(this.maxAbsOriginal, Math.abs(a))
    }
  }

  /** Adds the sums of another piece. */
  merge(other: ErrorSums): void {
    this.elements += other.elements
    this.compared += other.compared
    this.differing += other.differing
    this.signalSquared += other.signalSquared
    this.outputSquared += other.outputSquared
    this.product += other.product
    this.errorSquared += other.errorSquared
    this.maxAbsError = Math.max(this.maxAbsError, other.maxAbsError)
    this.maxAbsOriginal = Math.max(this.maxAbsOriginal, other.maxAbsOriginal)
    this.nonFiniteBefore += other.nonFiniteBefore
    this.nonFiniteAfter += other.nonFiniteAfter
    this.nonFiniteIntroduced += other.nonFiniteIntroduced
  }

  /** Mean squared error over the compared positions; 0 when there are none. */
  get mse(): number {
    return this.compared === 0 ? 0 : this.errorSquared / this.compared
  }

  /** In dB; null when the error is zero (nothing to hold against) or the signal is zero. */
  get sqnrDb(): number | null {
    if (this.errorSquared === 0 || this.signalSquared === 0) return null
    return 10 * Math.log10(this.signalSquared / this.errorSquared)
  }

  /** In [-1, 1]; null when either side is all zero. Equal values give exactly 1. */
  get cosine(): number | null {
    if (this.signalSquared === 0 || this.outputSquared === 0) return null
    if (this.differing === 0) return 1
    const cosine = this.product / (Math.sqrt(this.signalSquared) * Math.sqrt(this.outputSquared))
    return Math.max(-1, Math.min(1, cosine))
  }

  /** True when every pair was equal (NaN equals NaN). */
  get identical(): boolean {
    return this.differing === 0
  }
}

/** The sums of one pair of arrays. */
export function compareArrays(x: Numbers, y: Numbers): ErrorSums {
  const sums = new ErrorSums()
  sums.add(x, y)
  return sums
}
