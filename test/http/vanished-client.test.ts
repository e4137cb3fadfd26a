// A client that is gone without a word (cable pulled, node lost) in the middle of a call that waits: the kernel's keep-alive probes
// notice. Played in a network namespace whose loopback goes down; skipped, visibly, where the system does not allow one.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'

const SCENARIO = join(import.meta.dirname, '..', 'support', 'vanish-scenario.ts')
const NAMESPACE = ['-rn', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh']
const possible = spawnSync('unshare', [...NAMESPACE, 'true']).status === 0

test('a connection whose client vanished without FIN ends while its call waits', {
  skip: possible ? false : 'needs unshare and ip, and the right to make a network namespace',
  timeout: 60_000,
}, async () => {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const { stdout } = await promisify(execFile)('unshare', [...NAMESPACE, process.execPath, SCENARIO], { env })
  const seconds = Number(stdout)
  // One second of silence, then ten probes a second apart.
  assert.ok(seconds >= 1 && seconds < 30, `${stdout.trim()} s`)
})
