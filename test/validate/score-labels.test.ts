import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import type { Labels } from '../../src/validate/dataset.ts'
import type { OutputInfo, RunOutput } from '../../src/validate/output-store.ts'
import { LabelScorer } from '../../src/validate/score-labels.ts'

function classes(shape: number[], values: number[]): Labels {
  return { kind: 'classes', shape, values: Int32Array.from(values) }
}

function run(dims: number[], values: number[]): RunOutput {
  return { dims, values: Float32Array.from(values) }
}

const FLOAT: OutputInfo = { name: 'y', dtype: 'f32' }

function assertDatasetInvalid(action: () => unknown, pattern: RegExp): void {
  assert.throws(action, (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'dataset_invalid')
    assert.match(error.detail, pattern)
    return true
  })
}

test('scores one row of class scores a sample, one sample a run', () => {
  const scorer = new LabelScorer(classes([2], [1, 0]), [FLOAT], 2)
  scorer.add([run([1, 2], [0, 1])], [run([1, 2], [0, 1])], 1)
  scorer.add([run([1, 2], [1, 0])], [run([1, 2], [0, 1])], 1)
  const { classification } = scorer.result(1)
  assert.equal(classification?.top1.before.value, 1)
  assert.equal(classification?.top1.after.value, 0.5)
  assert.equal(classification?.binary?.recall.after.value, 1)
})

test('picks the output with scores beside others', () => {
  const outputs: OutputInfo[] = [
    { name: 'box', dtype: 'f32' },
    { name: 'scores', dtype: 'f32' },
  ]
  const scorer = new LabelScorer(classes([1], [2]), outputs, 1)
  const both = [run([1, 1], [9]), run([1, 3], [0, 0, 5])]
  scorer.add(both, both, 1)
  assert.equal(scorer.result(1).classification?.output, 'scores')
})

test('leaves a recurrent state aside when another output is per sample', () => {
  const outputs: OutputInfo[] = [
    { name: 'probability', dtype: 'f32' },
    { name: 'state', dtype: 'f32' },
  ]
  const scorer = new LabelScorer(classes([1], [1]), outputs, 1)
  const both = [run([1, 1], [0.75]), run([2, 1, 3], [9, 8, 7, 6, 5, 4])]
  scorer.add(both, both, 1)
  assert.equal(scorer.result(1).classification?.output, 'probability')
})

test('reads scores of [N, C, H, W] across the class axis', () => {
  // two classes over 1 x 2 pixels: class 0 scores [1, 0], class 1 scores [0, 1]: decisions 0, 1.
  const scorer = new LabelScorer(classes([1, 1, 2], [0, 1]), [FLOAT], 1)
  const output = run([1, 2, 1, 2], [1, 0, 0, 1])
  scorer.add([output], [output], 1)
  assert.equal(scorer.result(1).classification?.accuracy.before.value, 1)
})

test('reads scores of [N, T, C] along the last axis', () => {
  const scorer = new LabelScorer(classes([1, 2], [0, 2]), [FLOAT], 1)
  const output = run([1, 2, 3], [9, 0, 0, 0, 0, 9])
  scorer.add([output], [output], 1)
  assert.equal(scorer.result(1).classification?.n, 2)
  assert.equal(scorer.result(1).classification?.accuracy.before.value, 1)
})

test('thresholds one probability a sample at one half, one logit at zero', () => {
  const probabilities = new LabelScorer(classes([2], [1, 0]), [FLOAT], 2)
  probabilities.add([run([2, 1], [0.9, 0.2])], [run([2, 1], [0.4, 0.2])], 2)
  const found = probabilities.result(1).classification
  assert.deepEqual([found?.top1.before.value, found?.top1.after.value], [1, 0.5])
  const logits = new LabelScorer(classes([2], [1, 0]), [FLOAT], 2)
  logits.add([run([2, 1], [0.3, -4])], [run([2, 1], [0.3, -4])], 2)
  assert.equal(logits.result(1).classification?.rule, 'value above 0')
  assert.equal(logits.result(1).classification?.top1.before.value, 1)
})

test('takes an integer output as predicted classes, an impossible one as never right', () => {
  const scorer = new LabelScorer(classes([3], [4, 5, 4]), [{ name: 'label', dtype: 'i64' }], 3)
  scorer.add([run([3], [4, 5, 4])], [run([3], [4, 4, -1])], 3)
  const found = scorer.result(1).classification
  assert.equal(found?.accuracy.before.value, 1)
  assert.equal(found?.accuracy.after.value, 1 / 3)
})

test('measures float targets as regression', () => {
  const labels: Labels = { kind: 'regression', shape: [2], values: Float64Array.of(1, 2) }
  const scorer = new LabelScorer(labels, [FLOAT], 2)
  scorer.add([run([2, 1], [1, 3])], [run([2, 1], [2, 4])], 2)
  const { regression, classification } = scorer.result(1)
  assert.equal(classification, null)
  assert.equal(regression?.mae.before.value, 0.5)
  assert.equal(regression?.mae.after.value, 1.5)
})

test('refuses labels out of range, naming the first', () => {
  const scorer = new LabelScorer(classes([2], [0, 7]), [FLOAT], 2)
  const output = run([2, 3], [1, 2, 3, 1, 2, 3])
  assertDatasetInvalid(() => scorer.add([output], [output], 2), /label 7 at position 1.*3 classes/)
})

test('refuses labels that fit no output, listing the outputs', () => {
  const scorer = new LabelScorer(classes([2, 5], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]), [FLOAT], 2)
  const output = run([2, 3], [1, 2, 3, 1, 2, 3])
  assertDatasetInvalid(() => scorer.add([output], [output], 2), /\[2, 5\].*'y' \[2, 3\]/)
})
