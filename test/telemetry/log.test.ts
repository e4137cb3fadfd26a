// Log lines: JSON for machines, one plain line for people.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLog, plainLine } from '../../src/telemetry/log.ts'

function capture(level: string): { lines: string[]; log: ReturnType<typeof createLog> } {
  const lines: string[] = []
  return { lines, log: createLog(level, { write: (line: string) => void lines.push(line) }) }
}

test('a line is JSON with level, time, service and the fields given', () => {
  const { lines, log } = capture('info')
  log.debug({}, 'unheard')
  log.info({ job_id: 'j', seconds: 1.5 }, 'job ended')
  assert.equal(lines.length, 1)
  const { time, ...rest } = JSON.parse(lines[0]!) as Record<string, unknown>
  assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  assert.deepEqual(rest, { level: 'info', service: 'tensorpress', job_id: 'j', seconds: 1.5, msg: 'job ended' })
})

test('on a terminal the same line is short, and a bug shows its stack', () => {
  const { lines, log } = capture('info')
  log.info({ url: 'http://x', none: null }, 'listening')
  log.error({ err: new Error('boom') }, 'request failed')
  assert.match(plainLine(lines[0]!), /^\d\d:\d\d:\d\d info listening url=http:\/\/x$/)
  assert.match(plainLine(lines[1]!), /^\d\d:\d\d:\d\d error request failed\nError: boom\n {4}at /)
})

test('many logs of one process listen to its streams once, and each is told of a failure', () => {
  const failures: string[] = []
  createLog('info', undefined, () => failures.push('first'))
  const listening = [process.stdout.listenerCount('error'), process.stderr.listenerCount('error')]
  for (let index = 0; index < 20; index++) createLog('info')
  createLog('info', undefined, () => failures.push('last'))
  assert.deepEqual([process.stdout.listenerCount('error'), process.stderr.listenerCount('error')], listening)
  process.stderr.emit('error', new Error('ENOSPC'))
  assert.deepEqual(failures, ['first', 'last'])
})
