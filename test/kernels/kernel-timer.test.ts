// Kernel times: the wall time of a submit, shared out by bytes, where the adapter has no time stamps; and one pass in several
// timed where it has them and they are costly.

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

test('with one pass in four timed, the others count as that one did, by bytes', async () => {
  let maps = 0
  let nanoseconds = 1_000_000n
  const buffer = {
    mapAsync: async () => void maps++,
    getMappedRange: () => BigUint64Array.of(5n, 5n + nanoseconds).buffer,
    unmap() {},
  }
  const timer = new KernelTimer(
    {
      features: new Set(['timestamp-query']),
      createQuerySet: () => ({}),
      createBuffer: () => buffer,
    } as unknown as GPUDevice,
    4,
  )
  const submit = async (bytes: number) => {
    const times = timer.begin()
    const { record, timestampWrites } = times.pass('statistics')
    record.dispatches += 1
    record.bytes += bytes
    await timer.finish(times, Promise.resolve())
    return timestampWrites !== undefined
  }
  const timed = []
  for (const bytes of [100, 100, 200, 100]) timed.push(await submit(bytes))
  assert.deepEqual(timed, [true, false, false, false])
  nanoseconds = 3_000_000n
  for (const bytes of [100, 50]) timed.push(await submit(bytes))
  assert.deepEqual(timed.slice(4), [true, false])
  assert.equal(maps, 2)
  const [time] = timer.report()
  assert.deepEqual([time!.dispatches, time!.bytes, time!.source], [6, 650, 'timestamp'])
  // 1 + 1 + 2 + 1 ms at the first rate, then 3 ms for 100 bytes and half of it for 50
  assert.equal(Math.round(time!.seconds * 1e6), 9500)
})
