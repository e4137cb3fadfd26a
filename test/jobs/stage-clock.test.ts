// The clock of a job's stages: each has its own time, and going back and forth between two does not start it anew.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AppError } from '../../src/errors.ts'
import { createStageClock } from '../../src/jobs/stage-clock.ts'

test('a stage that is left and entered again has what is left of its time', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let nowMs = 0
  t.mock.method(performance, 'now', () => nowMs)
  const over: AppError[] = []
  const clock = createStageClock(1000, (error) => over.push(error))
  const pass = (ms: number) => {
    nowMs += ms
    t.mock.timers.tick(ms)
  }
  for (let turn = 0; turn < 4; turn++) {
    clock.enter('calibrating')
    pass(240)
    clock.enter('encoding')
    pass(100)
  }
  assert.deepEqual(over, [])
  clock.enter('calibrating')
  clock.enter('calibrating')
  pass(39)
  assert.deepEqual(over, [])
  pass(1)
  assert.deepEqual(
    over.map(({ code, context }) => [code, context]),
    [['stage_timeout', { limit: 'stageSeconds', allowed: 1, stage: 'calibrating' }]],
  )
})

test('a clock that was stopped says nothing more', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const clock = createStageClock(1000, () => assert.fail('it was stopped'))
  clock.enter('encoding')
  clock.stop()
  t.mock.timers.tick(5000)
})
