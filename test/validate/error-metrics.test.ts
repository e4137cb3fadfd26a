import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compareArrays, ErrorSums } from '../../src/validate/error-metrics.ts'

test('gives the errors of a hand-worked pair', () => {
  // x = [3, 4], y = [3, 3]: error [0, 1]; signal 25, error 1, product 9 + 12 = 21, |y|^2 = 18.
  const sums = compareArrays([3, 4], [3, 3])
  assert.equal(sums.mse, 0.5)
  assert.equal(sums.maxAbsError, 1)
  assert.equal(sums.maxAbsOriginal, 4)
  assert.equal(sums.sqnrDb, 10 * Math.log10(25))
  assert.ok(Math.abs(sums.cosine! - 21 / Math.sqrt(25 * 18)) < 1e-15)
  assert.equal(sums.identical, false)
})

test('has no ratio in dB for equal arrays, and cosine exactly 1', () => {
  const sums = compareArrays([0.1, -0.2, Number.NaN], [0.1, -0.2, Number.NaN])
  assert.equal(sums.identical, true)
  assert.equal(sums.sqnrDb, null)
  assert.equal(sums.cosine, 1)
  assert.equal(sums.mse, 0)
})

test('has neither cosine nor SQNR where a side is all zero', () => {
  assert.equal(compareArrays([0, 0], [1, 1]).sqnrDb, null)
  assert.equal(compareArrays([0, 0], [1, 1]).cosine, null)
  assert.equal(compareArrays([1, 1], [0, 0]).cosine, null)
  assert.equal(compareArrays([1, 1], [0, 0]).sqnrDb, 0)
})

test('counts NaN and infinity and leaves them out of the sums', () => {
  const sums = compareArrays([1, Number.NaN, 2, Number.POSITIVE_INFINITY], [2, 0, Number.NaN, Number.POSITIVE_INFINITY])
  assert.equal(sums.nonFiniteBefore, 2)
  assert.equal(sums.nonFiniteAfter, 2)
  assert.equal(sums.nonFiniteIntroduced, 1)
  assert.equal(sums.compared, 1)
  assert.equal(sums.mse, 1)
  assert.equal(sums.differing, 3)
})

test('gives the same figures for one array and for its pieces', () => {
  const x = [1, 2, 3, 4]
  const y = [1.5, 2, 2.5, 5]
  const pieces = new ErrorSums()
  pieces.merge(compareArrays(x.slice(0, 3), y.slice(0, 3)))
  pieces.merge(compareArrays(x.slice(3), y.slice(3)))
  const whole = compareArrays(x, y)
  assert.deepEqual({ ...pieces }, { ...whole })
  assert.equal(whole.mse, 1.5 / 4)
})

test('refuses arrays of different lengths', () => {
  assert.throws(() => compareArrays([1], [1, 2]), RangeError)
})
