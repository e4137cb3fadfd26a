// The parent's end of an inference child that dies: whatever the parent notices first, the child crashed, and that is retried.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { startInferenceChild } from '../../src/validate/inference-child.ts'

test('a child that is gone when it is asked, before its end was noticed, has crashed; that is no bug', async (t) => {
  const child = startInferenceChild({
    label: 'artifact',
    deadlineMs: performance.now() + 60_000,
    memoryLimitBytes: null,
  })
  t.after(() => child.close())
  // Answers once, so that it is up: no model is open.
  await assert.rejects(child.ask('latency', { runs: 1, warmupRuns: 0 }), /no model is open|before any run/)
  process.kill(child.pid, 'SIGKILL')
  // The system takes the process while this one looks away.
  const until = performance.now() + 200
  while (performance.now() < until);
  await assert.rejects(child.ask('latency', { runs: 1, warmupRuns: 0 }), (error) => {
    const { code, detail } = AppError.from(error)
    assert.equal(code, 'worker_crashed', detail)
    assert.match(detail, /signal SIGKILL/)
    return true
  })
})
