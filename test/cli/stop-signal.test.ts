import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { onStopSignal, type StopSignal } from '../../src/stop-signal.ts'

function recorded(run: () => Promise<void> | void): Promise<{ stops: StopSignal[]; exits: unknown[] }> {
  return (async () => {
    const stops: StopSignal[] = []
    const exits: unknown[] = []
    const exit = process.exit
    process.exit = ((status: unknown) => exits.push(status)) as unknown as typeof process.exit
    const release = onStopSignal((name) => stops.push(name))
    try {
      await run()
    } finally {
      release()
      process.exit = exit
    }
    return { stops, exits }
  })()
}

const signal = (name: StopSignal) => process.emit(name, name)

test('a signal that comes twice at once, as Ctrl-C under npm does, stops once and in order', async () => {
  const found = await recorded(() => {
    signal('SIGINT')
    signal('SIGINT')
  })
  assert.deepEqual(found, { stops: ['SIGINT'], exits: [] })
})

test('a second signal later, or another one, ends at once with its own status', async () => {
  const later = await recorded(async () => {
    signal('SIGINT')
    await sleep(350)
    signal('SIGINT')
  })
  assert.deepEqual(later, { stops: ['SIGINT'], exits: [130] })
  const other = await recorded(() => {
    signal('SIGINT')
    signal('SIGTERM')
  })
  assert.deepEqual(other, { stops: ['SIGINT'], exits: [143] })
})
