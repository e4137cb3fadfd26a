// The second histogram of the report (dequantized artifact) against the first (original) and against the measured zeros.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TensorOutcome } from '../../src/jobs/protocol.ts'
import { compressInMemory } from '../support/compress-memory.ts'
import { memoryModel } from '../support/memory-model.ts'
import { weights } from '../support/weights.ts'
import { referenceDevice } from '../support/with-device.ts'

async function histogramOf(recipe: string, shape = [40, 50], axis = 1) {
  const values = weights(shape[0]! * shape[1]!)
  const model = memoryModel([{ name: 'w', shape, values, axis }])
  const { result } = await compressInMemory(model, recipe, referenceDevice(), { measure: true })
  const tensor: TensorOutcome = result.tensors[0]!
  assert.equal(tensor.action, 'compress')
  const { before, after, from, to } = tensor.histogram!
  return { before, after: after!, from, to, tensor, elements: values.length }
}

const sum = (counts: number[]) => counts.reduce((a, b) => a + b, 0)

for (const recipe of ['int8', 'int8-dynamic', 'int4', 'int4-asym-b128', 'fp16', 'bf16', 'deadzone-8', 'prune-50']) {
  test(`counts every element once after ${recipe}, also in transposed and ragged rows`, async () => {
    for (const axis of [0, 1]) {
      const { before, after, elements } = await histogramOf(recipe, [40, 50], axis)
      assert.equal(sum(before), elements)
      assert.equal(sum(after), elements)
    }
  })
}

test('shows pruned weights as a spike at zero, and all others where they were', async () => {
  const { before, after, from, to, tensor } = await histogramOf('prune-50')
  const width = (to - from) / before.length
  const threshold = tensor.histogram!.threshold!
  const zeroBin = Math.floor((0 - from) / width)
  for (const [bin, count] of after.entries()) {
    const low = from + bin * width
    if (low > threshold + width || low + width < -threshold - width) assert.equal(count, before[bin], `bin ${bin}`)
    else if (bin !== zeroBin && Math.max(Math.abs(low), Math.abs(low + width)) < threshold - width)
      assert.equal(count, 0)
  }
  assert.ok(after[zeroBin]! >= tensor.measure!.zerosAfter * 2000)
})

test('shows 4-bit weights on few levels a block, in the same range', async () => {
  const { before, after } = await histogramOf('int4')
  const center = (counts: number[]) => sum(counts.map((count, bin) => count * bin)) / sum(counts)
  assert.ok(Math.abs(center(before) - center(after)) < 0.5)
})
