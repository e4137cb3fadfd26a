// The dice of the fuzzer: a seeded generator with the few draws that mutators need. Entry: Dice.

import { seededRandom } from '../../test/support/seeded-random.ts'

export class Dice {
  readonly #next: () => number

  constructor(seed: number) {
    this.#next = seededRandom(seed)
  }

  /** A whole number in [0, bound). */
  below(bound: number): number {
    return Math.floor(this.#next() * bound)
  }

  /** Few far more often than many: 1 with probability 1/2, 2 with 1/4, at most `most`. */
  few(most: number): number {
    let count = 1
    while (count < most && this.#next() < 0.5) count++
    return count
  }

  chance(probability: number): boolean {
    return this.#next() < probability
  }

  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError('a pick from an empty list')
    return list[this.below(list.length)]!
  }
}
