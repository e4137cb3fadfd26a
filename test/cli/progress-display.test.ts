import assert from 'node:assert/strict'
import { test } from 'node:test'
import { progressDisplay } from '../../src/cli/progress-display.ts'
import type { Progress } from '../../src/jobs/protocol.ts'

const MIB = 1024 * 1024

function recorder(terminal: boolean) {
  const written: string[] = []
  return { isTTY: terminal, columns: 80, written, write: (text: string) => written.push(text) }
}

function at(stage: Progress['stage'], doneMib: number, tensor: string | null = null): Progress {
  return { stage, doneBytes: doneMib * MIB, totalBytes: 100 * MIB, tensor }
}

test('draws one line with a bar on a terminal and wipes it at the end', () => {
  const stream = recorder(true)
  let time = 0
  const display = progressDisplay(stream, { quiet: false, now: () => time })
  display.show(at('encoding', 0))
  time = 4000
  display.show(at('encoding', 50, 'w'))
  display.end()
  assert.deepEqual(stream.written, [
    '\r\u001b[2Kencoding    [------------------------] 0 B of 100 MiB',
    '\r\u001b[2Kencoding    [############------------] 50.0 MiB of 100 MiB 4.0 s left w',
    '\r\u001b[2K',
  ])
})

test('a tensor name cannot steer the terminal', () => {
  const stream = recorder(true)
  progressDisplay(stream, { quiet: false, now: () => 0 }).show(at('encoding', 1, 'a\u001b[31mb\r'))
  assert.equal(stream.written[0]?.includes('\u001b[31m'), false)
  assert.match(stream.written[0]!, /a\ufffd\[31mb\ufffd$/)
})

test('writes a plain line per stage and then one every five seconds elsewhere', () => {
  const stream = recorder(false)
  let time = 0
  const display = progressDisplay(stream, { quiet: false, now: () => time })
  for (time = 0; time < 7000; time += 500) display.show(at('encoding', time / 100))
  display.show(at('measuring', 0))
  display.end()
  assert.deepEqual(stream.written, [
    'encoding: 0 B of 100 MiB\n',
    'encoding: 50.0 MiB of 100 MiB\n',
    'measuring: 0 B of 100 MiB\n',
  ])
})

test('is silent when asked to be', () => {
  const stream = recorder(true)
  const display = progressDisplay(stream, { quiet: true })
  display.show(at('encoding', 1))
  display.end()
  assert.deepEqual(stream.written, [])
})
