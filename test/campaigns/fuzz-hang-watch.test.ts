// What counts as a hang of a fuzzed reader: its own time, not that which other processes had.

import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { HangWatch, waitedForProcessorMs } from '../../campaigns/fuzz/hang-watch.ts'

test('a case that has run or slept for longer than allowed is a hang', () => {
  const watch = new HangWatch(5000, 0)
  assert.equal(watch.look({ nowMs: 1000, caseNumber: 7, waitedMs: 400 }), null)
  assert.equal(watch.look({ nowMs: 6000, caseNumber: 7, waitedMs: 400 }), null)
  assert.equal(watch.look({ nowMs: 6001, caseNumber: 7, waitedMs: 400 }), 'case 7 took more than 5000 ms')
})

test('time in the queue for a processor is not counted', () => {
  const watch = new HangWatch(5000, 0)
  assert.equal(watch.look({ nowMs: 1000, caseNumber: 7, waitedMs: 400 }), null)
  assert.equal(watch.look({ nowMs: 9000, caseNumber: 7, waitedMs: 3400 }), null)
  assert.equal(watch.look({ nowMs: 9001, caseNumber: 7, waitedMs: 3400 }), 'case 7 took more than 5000 ms')
})

test('a process that ends in the middle of a case, of which nothing more is known, has not hung', () => {
  const watch = new HangWatch(5000, 0)
  assert.equal(watch.look({ nowMs: 9000, caseNumber: 7, waitedMs: 8000 }), null)
  assert.equal(watch.look({ nowMs: 9250, caseNumber: 7, waitedMs: 0 }), null)
})

test('each case has its own time', () => {
  const watch = new HangWatch(5000, 0)
  for (let caseNumber = 1; caseNumber < 10; caseNumber++) {
    assert.equal(watch.look({ nowMs: caseNumber * 4000, caseNumber, waitedMs: 0 }), null)
  }
})

test('a process that comes to no case within a minute has hung', () => {
  const watch = new HangWatch(5000, 1000)
  assert.equal(watch.look({ nowMs: 61_000, caseNumber: 0, waitedMs: 0 }), null)
  assert.equal(watch.look({ nowMs: 61_001, caseNumber: 0, waitedMs: 0 }), 'no case in 60000 ms')
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
