// Seeded pseudo-random numbers for synthetic inputs and bootstrap intervals: the same seed gives the same sequence on every
// machine (integer arithmetic and exact float operations only). Entry: SeededRandom. Not for secrets.

const TWO_POW_32 = 4294967296

/** A Weyl sequence through a 32-bit mixing function (MurmurHash3 finaliser, Austin Appleby, public domain). */
export class SeededRandom {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** Uniform 32-bit unsigned integer. */
  nextUint32(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    let x = this.#state
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
    return (x ^ (x >>> 16)) >>> 0
  }

  /** Uniform in [0, 1). */
  next(): number {
    return this.nextUint32() / TWO_POW_32
  }

  /** Uniform integer in [0, limit), limit <= 2^32; the bias is below limit / 2^32. */
  nextBelow(limit: number): number {
    return Math.floor(this.next() * limit)
  }

  /** Mean 0, variance 1: sum of twelve uniforms minus six (bell-shaped, within +-6, no transcendental functions). */
  nextBell(): number {
    let sum = -6
    for (let i = 0; i < 12; i++) sum += this.next()
    return sum
  }
}
