// What counts as live memory of the fuzzing process.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { MemoryWatch } from '../../campaigns/fuzz/memory-watch.ts'

const MIB = 2 ** 20

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as NodeJS.GCFunction
globalThis.gc = collect

test('buffers that nothing holds are not live, however many a thread has still to sweep', () => {
  const watch = new MemoryWatch()
  watch.sample(0)
  for (let round = 0; round < 4; round++) {
    // Held together, so that they die all at once and old.
    let buffers: Uint8Array[] | null = Array.from({ length: 20_000 }, () => new Uint8Array(4096))
    collect()
    assert.ok(buffers.length > 0)
    buffers = null
    watch.sample(0)
  }
  const { liveBytes } = watch.figures()
  const growth = liveBytes.map((bytes) => Math.round((bytes - liveBytes[0]!) / MIB))
  assert.ok(Math.max(...growth) < 8, `MiB beyond the first sample: ${growth.join(', ')}`)
})

test('buffers that are held are live', () => {
  const watch = new MemoryWatch()
  watch.sample(0)
  const held = Array.from({ length: 20_000 }, () => new Uint8Array(4096))
  watch.sample(0)
  const [before = 0, after = 0] = watch.figures().liveBytes
  assert.ok(after - before > 0.9 * held.length * 4096, `${after - before}`)
})
