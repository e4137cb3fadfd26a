// Limits on connections and requests against what the operating system allows.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { loadConfig } from '../../src/config.ts'
import { fitToOpenFiles, openFileLimit } from '../../src/http/capacity.ts'
import { tempFolder } from '../support/temp-folder.ts'

function fitted(openFiles: number | null, asked: Record<string, string> = {}) {
  const { connections, parallelRequests, requestsPerKey } = fitToOpenFiles(loadConfig(asked).limits, openFiles)
  return [connections, parallelRequests, requestsPerKey]
}

test('with enough open files, or where the limit cannot be told, the limits stay as asked for', () => {
  assert.deepEqual(fitted(1_048_576), [4096, 2048, 1024])
  assert.deepEqual(fitted(4096 + 2048 + 128), [4096, 2048, 1024])
  assert.deepEqual(fitted(null), [4096, 2048, 1024])
})

test('with fewer, connections and one file for each request in work fit, and 128 are left for the rest', () => {
  assert.deepEqual(fitted(1024), [598, 298, 298])
  assert.deepEqual(fitted(4096 + 2048 + 127), [4096, 2047, 1024])
  assert.deepEqual(fitted(200), [48, 24, 24])
  assert.deepEqual(fitted(100), [16, 16, 16])
})

test('of few connections a quarter stays without a request in work, so that one can always make way', () => {
  assert.deepEqual(fitted(20_000, { TENSORPRESS_CONNECTIONS: '100' }), [100, 75, 75])
})

test('the limit of this process is read, and a system without it says nothing', (t) => {
  const file = join(tempFolder(t), 'limits')
  writeFileSync(
    file,
    'Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n',
  )
  assert.equal(openFileLimit(file), 1024)
  writeFileSync(file, 'Max open files            unlimited            unlimited            files\n')
  assert.equal(openFileLimit(file), null)
  assert.equal(openFileLimit(join(tempFolder(t), 'none')), null)
  if (process.platform === 'linux') assert.ok(openFileLimit()! > 0)
})
