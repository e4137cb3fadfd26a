// Percentiles and trends of the campaigns on series whose answers are known.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { linearTrend, percentile } from '../../campaigns/statistics.ts'

test('a percentile is the smallest value that so many do not exceed', () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index)
  assert.equal(percentile(hundred, 0.5), 50)
  assert.equal(percentile(hundred, 0.99), 99)
  assert.equal(percentile(hundred, 1), 100)
  assert.equal(percentile([7], 0.5), 7)
  assert.ok(Number.isNaN(percentile([], 0.5)))
})

test('the trend of a line is its slope and what it gains, and noise around it does not count', () => {
  const line = [10, 20, 30, 40].map((seconds) => ({ seconds, value: 100 + seconds / 2 }))
  assert.deepEqual(linearTrend(line), { slope: 0.5, growth: 15 })
  const sawtooth = [0, 1, 2, 3].map((seconds) => ({ seconds, value: [5, 9, 9, 5][seconds]! }))
  assert.deepEqual(linearTrend(sawtooth), { slope: 0, growth: 0 })
})

test('a trend of one moment is refused', () => {
  assert.throws(() => linearTrend([{ seconds: 3, value: 1 }]), /two times at least, found 1 samples/)
})
