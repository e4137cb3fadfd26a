// Seeded f32 inputs, as bits, that find bugs in kernels: random bit patterns, weights, specials, ties, constants, outliers.

import { floatBits } from '../../src/kernels/float-bits.ts'

/** xorshift32: uniform u32, the same on every host. */
export function randomWords(seed: number): () => number {
  let state = seed >>> 0 || 1
  return () => {
    state ^= state << 13
    state >>>= 0
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state
  }
}

const SPECIAL_BITS = [
  0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xff812345, 0x7fffffff,
  0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x80800000, 0x7f7fffff, 0xff7fffff, 0x0da24260, 0x0da2425f,
  0x3f800000, 0xbf800000, 0x477fefff, 0x477ff000, 0x38800000, 0x387fffff, 0x33000000, 0x33000001, 0x7f7f8000,
  0x7f7f7fff,
]

/** Kinds of input; all but the first two hold finite values only. */
export const VALUE_KINDS = [
  'bits',
  'specials',
  'weights',
  'ties',
  'zeros',
  'constant',
  'outlier',
  'tiny',
  'huge',
  'negative',
  'positive',
] as const
export type ValueKind = (typeof VALUE_KINDS)[number]

export function valueBits(kind: ValueKind, count: number, seed = 1): Uint32Array {
  const next = randomWords(seed * 7919 + count)
  const uniform = (): number => next() / 2 ** 32
  const weight = (): number => (uniform() + uniform() + uniform() + uniform() - 2) * 0.1
  const make = (i: number): number => {
    switch (kind) {
      case 'bits':
        return next()
      case 'specials':
        return next() % 3 === 0 ? SPECIAL_BITS[next() % SPECIAL_BITS.length]! : floatBits(weight())
      case 'weights':
        return floatBits(weight())
      case 'ties':
        // halves and quarters, both signs: every rounding decision is a tie or close to one
        return floatBits(((next() % 65) - 32) / 4)
      case 'zeros':
        return next() % 2 === 0 ? 0 : 0x80000000
      case 'constant':
        return floatBits(-0.375)
      case 'outlier':
        return floatBits(i === Math.floor(count / 2) ? -1000 : weight())
      case 'tiny':
        return next() & 0x80ffffff
      case 'huge':
        return (next() & 0x80ffffff) | 0x7e000000
      case 'negative':
        return floatBits(-Math.abs(weight()) - 1e-6)
      case 'positive':
        return floatBits(Math.abs(weight()) + 1e-6)
    }
  }
  return Uint32Array.from({ length: count }, (_, i) => make(i) >>> 0)
}
