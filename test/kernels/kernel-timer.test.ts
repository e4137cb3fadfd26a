// Kernel times where the adapter has no time stamps: the wall time of a submit, shared out by bytes.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KernelTimer } from '../../src/compute/kernel-timer.ts'

test('without timestamps a submit is shared out by bytes', async () => {
  const timer = new KernelTimer({ features: new Set() } as unknown as GPUDevice)
  const times = timer.begin()
  for (const [kernel, bytes] of [
    ['statistics', 300],
    ['quantize-int8', 100],
    ['statistics', 0],
  ] as const) {
    const { record, timestampWrites } = times.pass(kernel)
    assert.equal(timestampWrites, undefined)
    record.dispatches += 1
    record.bytes += bytes
  }
  await timer.finish(times, new Promise((resolve) => setTimeout(resolve, 20)))
  const [statistics, quantize] = timer.report()
  assert.deepEqual(
    { kernel: statistics!.kernel, dispatches: statistics!.dispatches, bytes: statistics!.bytes },
    { kernel: 'statistics', dispatches: 2, bytes: 300 },
  )
  assert.equal(statistics!.source, 'wall')
  assert.ok(quantize!.seconds > 0)
  assert.ok(Math.abs(statistics!.seconds / quantize!.seconds - 3) < 1e-6)
})
