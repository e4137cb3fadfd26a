// Whoever asks while a piece of work runs gets its result; whoever asks afterwards starts it anew.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { shareWhileRunning } from '../../src/jobs/share-while-running.ts'

test('those who ask meanwhile share one run, those who ask later get another', async () => {
  let runs = 0
  const ask = shareWhileRunning(async () => {
    await new Promise((resolve) => setImmediate(resolve))
    return ++runs
  })
  assert.deepEqual(await Promise.all([ask(), ask(), ask()]), [1, 1, 1])
  assert.equal(await ask(), 2)
})

test('a run that fails fails for those who shared it, and the next is tried anew', async () => {
  let runs = 0
  const ask = shareWhileRunning(async () => {
    if (++runs === 1) throw new Error('once')
    return runs
  })
  const both = await Promise.allSettled([ask(), ask()])
  assert.deepEqual(
    both.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  assert.equal(await ask(), 2)
})
