import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  newcombePairedInterval,
  pairedBootstrapIntervals,
  wilsonInterval,
} from '../../src/validate/confidence-intervals.ts'

function assertInterval(found: [number, number] | null, low: number, high: number, tolerance: number): void {
  assert.ok(found !== null)
  assert.ok(Math.abs(found[0] - low) <= tolerance, `lower end ${found[0]}, expected ${low}`)
  assert.ok(Math.abs(found[1] - high) <= tolerance, `upper end ${found[1]}, expected ${high}`)
}

test('gives the Wilson intervals that Newcombe (1998) prints for 81/263 and 15/148', () => {
  assertInterval(wilsonInterval(81, 263), 0.2553, 0.3662, 5e-5)
  assertInterval(wilsonInterval(15, 148), 0.0624, 0.1605, 5e-5)
})

test('keeps the Wilson interval inside [0, 1] at the ends', () => {
  assert.equal(wilsonInterval(0, 20)[0], 0)
  assertInterval(wilsonInterval(0, 20), 0, 0.1611, 5e-5)
  assert.equal(wilsonInterval(20, 20)[1], 1)
})

test('gives the paired interval of a published table (Fagerland, Lydersen, Laake: 1, 1, 7, 12)', () => {
  const found = newcombePairedInterval({ bothRight: 1, onlyAfter: 1, onlyBefore: 7, bothWrong: 12 })
  assertInterval(found, -0.507, -0.026, 5e-4)
})

test('gives the paired interval of Newcombe (1998) for 36, 12, 2, 0', () => {
  const found = newcombePairedInterval({ bothRight: 36, onlyAfter: 12, onlyBefore: 2, bothWrong: 0 })
  assertInterval(found, 0.0569, 0.3404, 5e-5)
})

test('does not shrink to a point when no item changed', () => {
  const [low, high] = newcombePairedInterval({ bothRight: 95, onlyAfter: 0, onlyBefore: 0, bothWrong: 5 })
  assert.ok(low < -0.001 && low > -0.05)
  assert.ok(high > 0.001 && high < 0.05)
})

test('bootstraps the mean of a sample close to its normal interval, the same for the same seed', () => {
  // 400 values with mean 10 and standard deviation about 2: the interval is close to 10 +- 1.96 * 2 / 20.
  const values = Array.from({ length: 400 }, (_, i) => 10 + (i % 2 === 0 ? 2 : -2))
  const mean = (items: Uint32Array) => [items.reduce((sum, item) => sum + values[item]!, 0) / items.length]
  const [interval] = pairedBootstrapIntervals(values.length, mean, 7)
  assertInterval(interval!, 10 - 0.196, 10 + 0.196, 0.04)
  assert.deepEqual(pairedBootstrapIntervals(values.length, mean, 7), [interval])
  assert.notDeepEqual(pairedBootstrapIntervals(values.length, mean, 8), [interval])
})

test('gives no bootstrap interval for one item or for a figure that does not exist', () => {
  assert.deepEqual(
    pairedBootstrapIntervals(1, () => [1], 1),
    [null],
  )
  assert.deepEqual(
    pairedBootstrapIntervals(5, () => [Number.NaN, 2], 1),
    [null, [2, 2]],
  )
})
