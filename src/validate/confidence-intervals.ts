// 95 % confidence intervals. Entries: wilsonInterval (one proportion), newcombePairedInterval (difference of two proportions
// of the same items), pairedBootstrapIntervals (difference of any statistic). Sources: Wilson, JASA 22 (1927) 209;
// Newcombe, Statistics in Medicine 17 (1998) 2635, method 10; Efron, Annals of Statistics 7 (1979) 1.

import { SeededRandom } from './seeded-random.ts'

/** Two-sided 95 % point of the normal distribution. */
const Z95 = 1.959963984540054

/** Draws of the bootstrap: enough for the 2.5 % tails (25 draws beyond each end). */
export const BOOTSTRAP_RESAMPLES = 1000

/** Item draws that one bootstrap may take in all (about a second); larger sets use fewer resamples, never below 200. */
const BOOTSTRAP_DRAW_BUDGET = 40_000_000

/** Wilson score interval of `successes` out of `n`, n >= 1. */
export function wilsonInterval(successes: number, n: number): [number, number] {
  const p = successes / n
  const z2 = Z95 * Z95
  const centre = (p + z2 / (2 * n)) / (1 + z2 / n)
  const half = (Z95 * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n))) / (1 + z2 / n)
  return [successes === 0 ? 0 : Math.max(0, centre - half), successes === n ? 1 : Math.min(1, centre + half)]
}

/** The four kinds of items when two models judge the same ones. */
export interface PairedCounts {
  bothRight: number
  onlyBefore: number
  onlyAfter: number
  bothWrong: number
}

/**
 * Newcombe's square-and-add interval (his method 10) of the paired difference after - before: Wilson limits of each
 * proportion, combined with their correlation. Unlike Wald's on discordant pairs it does not shrink to a point when no
 * item changed.
 */
export function newcombePairedInterval(counts: PairedCounts): [number, number] {
  const { bothRight: a, onlyAfter: b, onlyBefore: c, bothWrong: d } = counts
  const n = a + b + c + d
  const pAfter = (a + b) / n
  const pBefore = (a + c) / n
  const [lowAfter, highAfter] = wilsonInterval(a + b, n)
  const [lowBefore, highBefore] = wilsonInterval(a + c, n)
  const phi = correlation(a, b, c, d)
  const difference = (b - c) / n
  const down = [pAfter - lowAfter, highBefore - pBefore] as const
  const up = [highAfter - pAfter, pBefore - lowBefore] as const
  return [
    Math.max(-1, difference - squareAndAdd(down[0], down[1], phi)),
    Math.min(1, difference + squareAndAdd(up[0], up[1], phi)),
  ]
}

function squareAndAdd(x: number, y: number, phi: number): number {
  return Math.sqrt(Math.max(0, x * x - 2 * phi * x * y + y * y))
}

/** Phi coefficient with Newcombe's continuity correction; 0 where a margin is empty. */
function correlation(a: number, b: number, c: number, d: number): number {
  const margins = (a + b) * (c + d) * (a + c) * (b + d)
  if (margins === 0) return 0
  const cross = a * d - b * c
  const corrected = cross > 0 ? Math.max(cross - (a + b + c + d) / 2, 0) : cross
  return corrected / Math.sqrt(margins)
}

/**
 * Percentile intervals of `statistics` over resamples of n item indices, drawn with replacement from `seed`. The caller
 * computes after - before on those items, which keeps the pairing, for several figures at once. Non-finite values are left
 * out; an interval is null below two items or when too few resamples have a value.
 */
export function pairedBootstrapIntervals(
  n: number,
  statistics: (items: Uint32Array) => number[],
  seed: number,
): ([number, number] | null)[] {
  const resamples = Math.max(200, Math.min(BOOTSTRAP_RESAMPLES, Math.floor(BOOTSTRAP_DRAW_BUDGET / Math.max(n, 1))))
  const random = new SeededRandom(seed)
  const items = Uint32Array.from({ length: n }, (_, i) => i)
  const columns: number[][] = statistics(items).map(() => [])
  if (n < 2) return columns.map(() => null)
  for (let r = 0; r < resamples; r++) {
    for (let i = 0; i < n; i++) items[i] = random.nextBelow(n)
    for (const [column, value] of statistics(items).entries()) {
      if (Number.isFinite(value)) columns[column]!.push(value)
    }
  }
  return columns.map((values) => {
    if (values.length < resamples / 2) return null
    values.sort((p, q) => p - q)
    const at = (share: number) => values[Math.round(share * (values.length - 1))]!
    return [at(0.025), at(0.975)]
  })
}
