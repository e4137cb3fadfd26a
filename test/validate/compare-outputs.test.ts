import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { DType } from '../../src/tensor/dtype.ts'
import { OutputComparator } from '../../src/validate/compare-outputs.ts'
import { OutputWriter, readOutputs } from '../../src/validate/output-store.ts'
import { tempFolder } from '../support/temp-folder.ts'

function compare(dims: number[], before: number[], after: number[], dtype: DType = 'f32') {
  const comparator = new OutputComparator('y', dtype)
  comparator.add({ dims, values: Float64Array.from(before) }, { dims, values: Float64Array.from(after) })
  return comparator.result()
}

test('counts equal decisions of class scores', () => {
  const { agreement } = compare([1, 3], [2, 9, 1], [3, 4, 1])
  assert.deepEqual([agreement?.rule, agreement?.value, agreement?.n], ['argmax', 1, 1])
  assert.equal(compare([1, 3], [2, 9, 1], [5, 4, 1]).agreement?.value, 0)
})

test('counts every row of a softmax over a sequence', () => {
  const { agreement } = compare([1, 2, 2], [0.9, 0.1, 0.4, 0.6], [0.8, 0.2, 0.7, 0.3])
  assert.deepEqual([agreement?.rule, agreement?.value, agreement?.n], ['argmax', 0.5, 2])
})

test('counts sides of one half for independent probabilities', () => {
  const { agreement } = compare([1, 2, 2], [0.9, 0.9, 0.1, 0.2], [0.4, 0.9, 0.1, 0.8])
  assert.deepEqual([agreement?.rule, agreement?.value, agreement?.n], ['threshold', 0.5, 4])
})

test('a NaN of the original is no decision, one of the artifact another decision', () => {
  const nan = Number.NaN
  assert.equal(compare([1, 3], [nan, nan, nan], [nan, nan, nan]).agreement, null)
  assert.equal(compare([1, 2, 2], [nan, nan, nan, nan], [nan, nan, nan, nan]).agreement, null)
  const rows = compare([3, 2], [0.9, 0.1, nan, nan, 0.9, 0.1], [0.8, 0.2, nan, nan, nan, nan]).agreement
  assert.deepEqual([rows?.rule, rows?.value, rows?.n], ['argmax', 0.5, 2])
  const sides = compare([1, 2, 2], [0.9, nan, 0.1, 0.2], [0.9, nan, 0.1, nan]).agreement
  assert.deepEqual([sides?.rule, sides?.value, sides?.n], ['threshold', 2 / 3, 3])
})

test('counts equal integers, and finds no decision in boxes or states', () => {
  assert.equal(compare([3], [1, 2, 3], [1, 2, 4], 'i64').agreement?.value, 2 / 3)
  assert.equal(compare([1, 2, 4], [5, 3, -2, 8, 1, 1, 9, 2], [5, 3, -2, 8, 1, 1, 9, 2]).agreement, null)
  assert.equal(compare([1, 4, 1], [5, 3, -2, 8], [5, 3, -2, 8]).agreement, null)
})

test('finds the class axis of [N, C, 1, 1]', () => {
  assert.equal(compare([1, 3, 1, 1], [2, 9, 1], [3, 4, 1]).agreement?.rule, 'argmax')
})

test('keeps the worst cosine of any run beside the one over all', () => {
  const comparator = new OutputComparator('y', 'f32')
  const run = (...values: number[]) => ({ dims: [1, 2], values: Float32Array.from(values) })
  comparator.add(run(100, 0), run(100, 0))
  comparator.add(run(1, 0), run(0, 1))
  const { cosine, worstCosine } = comparator.result()
  assert.equal(worstCosine, 0)
  assert.ok(cosine! > 0.999)
})

test('stores outputs of several runs and gives them back bit for bit', (t) => {
  const path = join(tempFolder(t), 'outputs')
  const writer = new OutputWriter(path)
  const large = Float32Array.from({ length: 400_000 }, (_, i) => Math.sin(i))
  const runs = [
    [
      { dims: [1, 3], values: Float32Array.of(1.5, Number.NaN, -0) },
      { dims: [], values: Float64Array.of(2 ** 53) },
    ],
    [
      { dims: [400_000], values: large },
      { dims: [0, 4], values: new Float64Array(0) },
    ],
    [
      { dims: [1, 3], values: Float32Array.of(4, 5, 6) },
      { dims: [2], values: Float64Array.of(1, 2) },
    ],
  ]
  for (const run of runs) for (const output of run) writer.write(output)
  writer.close()
  assert.deepEqual([...readOutputs(path, 2)], runs)
})
