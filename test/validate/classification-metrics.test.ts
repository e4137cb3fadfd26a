import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  argmax,
  compareClassifiers,
  confusionMatrix,
  proportionMetric,
  rankOfLabel,
  scoreClasses,
} from '../../src/validate/classification-metrics.ts'

function close(found: number, expected: number): void {
  assert.ok(Math.abs(found - expected) < 1e-12, `${found}, expected ${expected}`)
}

test('takes the first of equal scores and never a NaN', () => {
  assert.equal(argmax([1, 3, 3]), 1)
  assert.equal(argmax([Number.NaN, -5, Number.NaN]), 1)
  assert.equal(argmax([Number.NaN, Number.NaN]), 0)
})

test('ranks a label behind higher scores and earlier equal ones', () => {
  assert.equal(rankOfLabel([5, 3, 4], 0), 0)
  assert.equal(rankOfLabel([5, 3, 4], 1), 2)
  assert.equal(rankOfLabel([4, 4, 4], 2), 2)
  assert.equal(rankOfLabel([1, Number.NaN, 0], 1), 3)
})

test('counts a confusion matrix with rows of true classes', () => {
  assert.deepEqual(confusionMatrix([0, 0, 1, 2], [0, 1, 1, 0], 3), [
    [1, 1, 0],
    [0, 1, 0],
    [1, 0, 0],
  ])
})

test('gives precision, recall and F1 of a worked example, binary, macro and weighted', () => {
  // labels    0 0 0 0 1 1   class 0: 3 hits, 4 labelled, 4 predicted: p 3/4, r 3/4, f 3/4
  // predicted 0 0 0 1 1 0   class 1: 1 hit,  2 labelled, 2 predicted: p 1/2, r 1/2, f 1/2
  const scores = scoreClasses([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0], 2, [0, 1, 2, 3, 4, 5])
  close(scores.accuracy, 4 / 6)
  assert.deepEqual(scores.binary, { precision: 0.5, recall: 0.5, f1: 0.5 })
  close(scores.macro.f1, 0.625)
  close(scores.weighted.f1, (4 * 0.75 + 2 * 0.5) / 6)
})

test('counts a class that is never predicted as 0, and leaves out classes that do not occur', () => {
  // class 0: p 1/2, r 1, f 2/3; class 1: nothing predicted, 0; class 2 does not occur and is not averaged.
  const scores = scoreClasses([0, 1], [0, 0], 3, [0, 1])
  close(scores.macro.precision, 0.25)
  close(scores.macro.f1, 1 / 3)
  close(scores.weighted.recall, 0.5)
})

test('gives a paired share with both intervals', () => {
  const before = [true, true, true, false]
  const after = [true, false, true, true]
  const metric = proportionMetric(
    4,
    (i) => before[i]!,
    (i) => after[i]!,
  )
  assert.equal(metric.before.value, 0.75)
  assert.equal(metric.after.value, 0.75)
  assert.equal(metric.difference.value, 0)
  assert.ok(metric.difference.ci95![0] < -0.2 && metric.difference.ci95![1] > 0.2)
})

test('compares two classifiers: top-1, top-5, lost and gained', () => {
  const labels = Int32Array.from([0, 1, 2, 3])
  const result = compareClassifiers(
    {
      output: 'scores',
      rule: 'largest score',
      classes: 8,
      labels,
      before: { predictions: Int32Array.from([0, 1, 2, 0]), ranks: Int32Array.from([0, 0, 0, 6]) },
      after: { predictions: Int32Array.from([0, 1, 7, 3]), ranks: Int32Array.from([0, 0, 4, 0]) },
    },
    1,
  )
  assert.equal(result.top1.before.value, 0.75)
  assert.equal(result.top1.after.value, 0.75)
  assert.equal(result.top5?.before.value, 0.75)
  assert.equal(result.top5?.after.value, 1)
  assert.equal(result.lost, 1)
  assert.equal(result.gained, 1)
  assert.equal(result.binary, null)
  assert.equal(result.confusionAfter?.[2]?.[7], 1)
})

test('leaves top-5 out below six classes, and gives binary figures for two', () => {
  const decided = { predictions: Int32Array.from([0, 1]), ranks: Int32Array.from([0, 0]) }
  const labels = Int32Array.from([0, 1])
  const result = compareClassifiers(
    { output: 'p', rule: 'largest score', classes: 2, labels, before: decided, after: decided },
    1,
  )
  assert.equal(result.top5, null)
  assert.equal(result.binary?.f1.after.value, 1)
})
