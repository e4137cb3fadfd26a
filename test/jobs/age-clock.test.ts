// Ages and a wall clock that is moved: nothing expires at once, and a clock that stays where it is is believed after an hour.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAgeClock } from '../../src/jobs/age-clock.ts'
import { startExpirySweeps } from '../../src/jobs/expiry-sweeps.ts'

const MINUTE_MS = 60_000
const DAY_MS = 86_400_000
const SILENT = { debug() {}, info() {}, warn() {}, error() {} }

function clocks() {
  const warnings: unknown[] = []
  const state = { wall: 1_000_000_000_000, monotonic: 5000 }
  const pass = (ms: number) => {
    state.wall += ms
    state.monotonic += ms
  }
  const clock = createAgeClock(
    { ...SILENT, warn: (fields) => void warnings.push(fields['seconds']) },
    { wallMs: () => state.wall, monotonicMs: () => state.monotonic },
  )
  return { state, pass, clock, warnings }
}

test('time passes as on the wall, small corrections included', () => {
  const { state, pass, clock, warnings } = clocks()
  pass(MINUTE_MS)
  assert.equal(clock.nowMs(), 1_000_000_060_000)
  state.wall += 2000
  assert.equal(clock.nowMs(), 1_000_000_062_000)
  for (let step = 0; step < 100; step++) {
    pass(MINUTE_MS)
    state.wall += 4 * MINUTE_MS
    assert.equal(clock.nowMs(), state.wall)
  }
  assert.deepEqual(warnings, [])
})

test('a step forwards ages nothing, is said once, and is believed after an hour', () => {
  const { state, pass, clock, warnings } = clocks()
  clock.nowMs()
  state.wall += DAY_MS
  assert.equal(clock.nowMs(), 1_000_000_000_000)
  pass(59 * MINUTE_MS)
  assert.equal(clock.nowMs(), 1_000_000_000_000 + 59 * MINUTE_MS)
  assert.deepEqual(warnings, [86_400])
  pass(2 * MINUTE_MS)
  clock.nowMs()
  assert.equal(clock.nowMs(), state.wall)
})

test('a step that is taken back within the hour leaves no trace', () => {
  const { state, pass, clock } = clocks()
  clock.nowMs()
  state.wall += DAY_MS
  clock.nowMs()
  pass(10 * MINUTE_MS)
  state.wall -= DAY_MS
  assert.equal(clock.nowMs(), 1_000_000_000_000 + 10 * MINUTE_MS)
})

test('after a step backwards what is new is not taken for old', () => {
  const { state, clock } = clocks()
  clock.nowMs()
  state.wall -= DAY_MS
  assert.equal(clock.nowMs(), state.wall)
})

test('sweeps ask for what has expired by this clock', async () => {
  const asked: number[] = []
  const collector = {
    async collect(nowMs: number) {
      asked.push(nowMs)
      return []
    },
  }
  const sweeps = startExpirySweeps(collector, 5, SILENT, { nowMs: () => 42 }, () => 0.5)
  while (asked.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
  await sweeps.stop()
  assert.deepEqual(asked.slice(0, 2), [42, 42])
})
