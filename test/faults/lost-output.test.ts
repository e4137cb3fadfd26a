// Whoever reads the server's output goes away, or the disk under its log is full: lines are lost, requests are not.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ApiClient } from '../../campaigns/api-client.ts'
import { readMetrics } from '../../campaigns/process-figures.ts'
import { startServer } from '../support/server-process.ts'
import { tempFolder } from '../support/temp-folder.ts'

const possible = spawnSync('unshare', ['-rm', 'true']).status === 0

test('a server whose output nobody reads any more goes on serving, and counts what it could not write', async (t) => {
  const server = await startServer(t, tempFolder(t), ['--device', 'reference'])
  const api = new ApiClient(server.url)
  t.after(() => api.close())
  await api.ready()
  server.process.stdout!.destroy()
  server.process.stderr!.destroy()
  for (let index = 0; index < 50; index++) assert.equal((await api.send('GET', `/v1/models/${index}`)).status, 404)
  assert.equal(server.process.exitCode, null)
  assert.ok((await readMetrics(api)).get('tensorpress_log_failures_total')! > 0)
  server.process.kill('SIGTERM')
  assert.equal(await server.ended, 0)
})

test('a full disk under the log loses lines, never requests, and lines come again with space', {
  skip: possible ? false : 'mount namespaces are not allowed here',
}, (t) => {
  const folder = tempFolder(t)
  const disk = join(folder, 'disk')
  mkdirSync(disk)
  const scenario = join(import.meta.dirname, '..', 'support', 'full-log-scenario.ts')
  const script = 'mount -t tmpfs -o size=512k tmpfs "$1" && exec "$2" "$3" "$1" "$4"'
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const args = ['-rm', 'sh', '-c', script, 'sh', disk, process.execPath, scenario, join(folder, 'data')]
  const result = spawnSync('unshare', args, { encoding: 'utf8', timeout: 90_000, env })
  assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
})
