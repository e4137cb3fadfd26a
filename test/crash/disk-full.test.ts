// A full disk and a read-only disk: clear failures, nothing corrupted, and work goes on once there is space. Needs a mount
// namespace (unshare of util-linux) for a small tmpfs that goes away with the process.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { tempFolder } from '../support/temp-folder.ts'

const UNSHARE = ['-rm', 'sh', '-c']
const possible = spawnSync('unshare', [...UNSHARE, 'mount -t tmpfs tmpfs /mnt']).status === 0
const skip = possible ? false : 'mount namespaces are not allowed here'

test('a full or read-only disk fails uploads and jobs clearly, and nothing is lost', { skip }, (t) => {
  const disk = tempFolder(t)
  const scenario = join(import.meta.dirname, '..', 'support', 'disk-full-scenario.ts')
  const script = 'mount -t tmpfs -o size=12m tmpfs "$1" && exec "$2" "$3" "$1"'
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const result = spawnSync('unshare', [...UNSHARE, script, 'sh', disk, process.execPath, scenario], {
    encoding: 'utf8',
    timeout: 90_000,
    env,
  })
  assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
})
