// What counts as a hang of a fuzzed reader: its own time, not that which other processes had.

import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { HangWatch, waitedForProcessorMs } from '../../campaigns/fuzz/hang-watch.ts'

/** Looks every 250 ms of one case, `waits` of each spent in the queue; when it is found out, in ms. */
function hangsAfter(watch: HangWatch, caseNumber: number, waits: number): number | null {
  for (let ms = 0; ms <= 100_000; ms += 250) {
    if (watch.look({ nowMs: ms, caseNumber, waitedMs: waits * ms }) !== null) return ms
  }
  return null
}

test('a case that has run or slept for longer than allowed is a hang', () => {
  assert.equal(hangsAfter(new HangWatch(5000, 0), 7, 0), 5250)
})

test('time in the queue for a processor is not counted', () => {
  assert.equal(hangsAfter(new HangWatch(5000, 0), 7, 0.5), 10_250)
})

test('a machine that stood still makes no hang; one second of it counts', () => {
  const watch = new HangWatch(5000, 0)
  assert.equal(watch.look({ nowMs: 1000, caseNumber: 7, waitedMs: 0 }), null)
  assert.equal(watch.look({ nowMs: 61_000, caseNumber: 7, waitedMs: 0 }), null)
  for (let ms = 61_250; ms <= 65_000; ms += 250)
    assert.equal(watch.look({ nowMs: ms, caseNumber: 7, waitedMs: 0 }), null)
  assert.equal(watch.look({ nowMs: 65_250, caseNumber: 7, waitedMs: 0 }), 'case 7 took more than 5000 ms')
})

test('the longest case is told without the time that was not its own', () => {
  const watch = new HangWatch(5000, 0)
  for (let ms = 0; ms <= 2000; ms += 250) watch.look({ nowMs: ms, caseNumber: 1, waitedMs: 0 })
  for (let ms = 2250; ms <= 9000; ms += 250) watch.look({ nowMs: ms, caseNumber: 2, waitedMs: ms })
  watch.look({ nowMs: 150_000, caseNumber: 2, waitedMs: 9000 })
  watch.look({ nowMs: 151_000, caseNumber: 3, waitedMs: 9000 })
  assert.equal(watch.longestMs, 2000 + 1000)
})

test('a process that ends in the middle of a case, of which nothing more is known, has not hung', () => {
  const watch = new HangWatch(5000, 0)
  for (let ms = 250; ms <= 9000; ms += 250) assert.equal(watch.look({ nowMs: ms, caseNumber: 7, waitedMs: ms }), null)
  assert.equal(watch.look({ nowMs: 9250, caseNumber: 7, waitedMs: 0 }), null)
})

test('each case has its own time', () => {
  const watch = new HangWatch(5000, 0)
  for (let look = 0; look < 100; look++) {
    assert.equal(watch.look({ nowMs: look * 900, caseNumber: Math.floor(look / 5), waitedMs: 0 }), null)
  }
})

test('a process that comes to no case within a minute has hung', () => {
  assert.equal(hangsAfter(new HangWatch(5000, 0), 0, 0), 60_250)
})

test('the system says how long a process waited for a processor', { skip: process.platform !== 'linux' }, async (t) => {
  const workers = Array.from(
    { length: 2 * availableParallelism() },
    () => new Worker('require("node:worker_threads").parentPort.postMessage(1); for (;;);', { eval: true }),
  )
  t.after(() => Promise.all(workers.map((worker) => worker.terminate())))
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))))
  const before = waitedForProcessorMs(process.pid)
  const startMs = performance.now()
  while (performance.now() - startMs < 300);
  const waitedMs = waitedForProcessorMs(process.pid) - before
  assert.ok(waitedMs > 20 && waitedMs < performance.now() - startMs, `${waitedMs} ms`)
})
