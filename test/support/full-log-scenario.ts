// A server whose log file lies on a disk that fills up, step by step. Run by test/faults/lost-output.test.ts in a mount namespace
// of its own; arguments: the small disk, the data folder (on another one). Exits 0 when every step went as it should.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiClient } from '../../campaigns/api-client.ts'
import { readMetrics } from '../../campaigns/process-figures.ts'

const [disk = '', dataDir = ''] = process.argv.slice(2)
const log = join(disk, 'log')
const filler = join(disk, 'filler')

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address !== null ? address.port : 0
}

const port = await freePort()
const program = join(import.meta.dirname, '..', '..', 'bin', 'tensorpress')
const args = [program, 'serve', '--port', String(port), '--data-dir', dataDir, '--device', 'reference']
const output = openSync(log, 'a')
const server = spawn(process.execPath, args, {
  stdio: ['ignore', output, output],
  env: { ...process.env, TENSORPRESS_SETUP: 'skip', TENSORPRESS_DISK_FLOOR_BYTES: '0' },
})
const api = new ApiClient(`http://127.0.0.1:${port}`)
try {
  while (
    await api.ready().then(
      () => false,
      () => server.exitCode === null,
    )
  )
    await sleep(50)
  try {
    writeFileSync(filler, Buffer.alloc(512 * 1024))
  } catch (error) {
    assert.match(String(error), /ENOSPC/)
  }
  for (let index = 0; index < 300; index++) {
    assert.equal((await api.send('GET', `/v1/models/while-full-${index}`)).status, 404)
  }
  assert.equal(server.exitCode, null)
  assert.ok((await readMetrics(api)).get('tensorpress_log_failures_total')! > 0)
  rmSync(filler)
  assert.equal((await api.send('GET', '/v1/models/with-space')).status, 404)
  await sleep(100)
  assert.match(readFileSync(log, 'utf8'), /with-space/)
  server.kill('SIGTERM')
  const [status] = await once(server, 'exit')
  assert.equal(status, 0)
} finally {
  api.close()
  server.kill('SIGKILL')
}
