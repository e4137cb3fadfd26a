// Waiting of the client: what it leaves on a signal that outlives it.

import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import { pause } from '../../src/client/back-off.ts'

test('a wait leaves no listener on the signal of the transfer, and ends when that aborts', async () => {
  const abort = new AbortController()
  for (let wait = 0; wait < 3; wait++) await pause(1, abort.signal)
  assert.equal(getEventListeners(abort.signal, 'abort').length, 0)
  const long = pause(60_000, abort.signal)
  abort.abort(new Error('enough'))
  await assert.rejects(long, { message: 'enough' })
})
