import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compareRegressors, regressionErrors } from '../../src/validate/regression-metrics.ts'

test('gives MAE, MSE, RMSE and R2 of a worked example', () => {
  // errors 0, 0, -1, 2: |e| mean 3/4, e^2 mean 5/4; targets 1..4 spread 5, so R2 = 1 - 5/5 = 0.
  const errors = regressionErrors([1, 2, 3, 4], [1, 2, 2, 6], [0, 1, 2, 3])
  assert.deepEqual(errors, { mae: 0.75, mse: 1.25, rmse: Math.sqrt(1.25), r2: 0 })
})

test('has no R2 when all targets are equal', () => {
  assert.ok(Number.isNaN(regressionErrors([2, 2], [2, 3], [0, 1]).r2))
  const result = compareRegressors('y', Float64Array.of(2, 2), Float64Array.of(2, 2), Float64Array.of(2, 3), 1)
  assert.equal(result.r2, null)
})

test('gives the paired difference with an interval that holds it', () => {
  const targets = Float64Array.from({ length: 100 }, (_, i) => i)
  const before = targets.map((t) => t + 1)
  const after = targets.map((t, i) => t + (i % 2 === 0 ? 1 : 2))
  const { mae, n } = compareRegressors('y', targets, before, after, 3)
  assert.equal(n, 100)
  assert.equal(mae.before.value, 1)
  assert.equal(mae.after.value, 1.5)
  assert.equal(mae.difference.value, 0.5)
  const [low, high] = mae.difference.ci95!
  assert.ok(low > 0.35 && low < 0.5 && high > 0.5 && high < 0.65)
})
