// What holds for every route: unknown paths and methods, headers, request ids, logs, other sites, probes, metrics and pages.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import supertest from 'supertest'
import { METRIC_PREFIX, METRICS } from '../../src/telemetry/metrics.ts'
import { httpApp, listening } from '../support/http-app.ts'

test('an unknown path is a 404 problem', async (t) => {
  const { call } = httpApp(t)
  const response = await call('get', '/v2/models?x=1').expect(404)
  assert.equal(response.headers['content-type'], 'application/problem+json; charset=utf-8')
  assert.deepEqual(response.body, {
    type: 'urn:tensorpress:error:not_found',
    title: 'Not Found',
    status: 404,
    detail: 'There is no /v2/models; /docs lists every path.',
    instance: '/v2/models?x=1',
    code: 'not_found',
    context: {},
    requestId: response.headers['x-request-id'],
  })
})

test('a known path with another method is 405 with Allow; OPTIONS lists the methods', async (t) => {
  const { call } = httpApp(t)
  const response = await call('patch', '/v1/jobs/1').expect(405)
  assert.equal(response.headers['allow'], 'GET, HEAD, DELETE')
  assert.equal(response.body.code, 'method_not_allowed')
  const model = await call('post', '/v1/models/x').expect(405)
  assert.equal(model.headers['allow'], 'PUT, GET, HEAD, DELETE')
  const options = await call('options', '/v1/models').expect(204)
  assert.equal(options.headers['allow'], 'POST, GET, HEAD, OPTIONS')
})

test('a path that is not valid percent-encoding is 400', async (t) => {
  const { call } = httpApp(t)
  const response = await call('get', '/v1/models/%E0%A4%A').expect(400)
  assert.equal(response.body.code, 'request_invalid')
})

test('a plain request id is kept, another is replaced; the log line carries it', async (t) => {
  const { call, lines } = httpApp(t)
  await call('get', '/v1/models').set('x-request-id', 'ci-42').expect('x-request-id', 'ci-42')
  const other = await call('get', '/v1/models').set('x-request-id', 'a b"c')
  assert.match(other.headers['x-request-id']!, /^[0-9a-f-]{36}$/)
  const line = lines.find((entry) => entry['request_id'] === 'ci-42')!
  assert.deepEqual(
    { ...line, time: 0, duration_s: 0 },
    {
      level: 'info',
      time: 0,
      service: 'tensorpress',
      request_id: 'ci-42',
      method: 'GET',
      path: '/v1/models',
      status: 200,
      duration_s: 0,
      msg: 'request',
    },
  )
})

test('an unexpected error is `internal` without its message; the log has it whole', async (t) => {
  const { call, service, lines } = httpApp(t)
  service.models.list = async () => {
    throw new Error('secret path /home/x')
  }
  const response = await call('get', '/v1/models').expect(500)
  assert.equal(response.body.code, 'internal')
  assert.ok(!response.text.includes('secret'))
  const line = lines.find((entry) => entry['msg'] === 'request failed')!
  assert.match(JSON.stringify(line['err']), /secret path/)
  assert.equal(line['request_id'], response.body.requestId)
})

test('what a page of another site sends is refused, and so is a rebound host name', async (t) => {
  const { app, call } = httpApp(t)
  const cross = await call('post', '/v1/jobs').set('origin', 'https://evil.example').send({}).expect(403)
  assert.equal(cross.body.code, 'origin_forbidden')
  await call('get', '/healthz').set('host', 'evil.example').expect(403)
  await call('get', '/healthz').set('host', 'localhost:8080').expect(200)
  await call('get', '/healthz').set('host', '[::1]:8080').expect(200)
  const port = await listening(t, app)
  const own = await fetch(`http://127.0.0.1:${port}/v1/jobs`, {
    method: 'POST',
    headers: { origin: `http://127.0.0.1:${port}`, 'content-type': 'application/json' },
    body: '{}',
  })
  assert.equal(own.status, 400)
})

test('a proxy in front may forward the names that it is told to', async (t) => {
  const { call } = httpApp(t, {}, { TENSORPRESS_ALLOWED_HOSTS: 'models.example, other.example' })
  await call('get', '/healthz').set('host', 'models.example').expect(200)
  await call('get', '/healthz').set('host', 'evil.example').expect(403)
  await call('post', '/v1/jobs').set('origin', 'https://models.example').send({}).expect(400)
  await call('post', '/v1/jobs').set('origin', 'https://evil.example').send({}).expect(403)
})

test('readyz names the device, and says what is wrong when something is', async (t) => {
  const { call, service } = httpApp(t)
  const ready = await call('get', '/readyz').expect(200)
  assert.equal(ready.body.device.adapter, 'llvmpipe (LLVM 19)')
  assert.equal(ready.body.referenceDevice, false)
  service.healthChanges = {
    ready: false,
    draining: true,
    worker: { up: false, device: null, limits: null, restarts: 2, lastError: 'no adapter', startSeconds: null },
    store: {
      writable: false,
      error: 'EROFS',
      freeBytes: 5,
      minFreeBytes: 10,
      usage: { modelBytes: 0, datasetBytes: 0, uploadBytes: 0, artifactBytes: 0, documentBytes: 0 },
      quotaBytes: null,
    },
  }
  const not = await call('get', '/readyz').expect(503)
  assert.deepEqual(not.body.checks, {
    worker: { ok: false, detail: 'The GPU worker is not up: no adapter.' },
    store: { ok: false, detail: 'The data folder is not writable: EROFS.' },
    disk: { ok: false, detail: '5 bytes are free; the floor (diskFloorBytes) is 10.' },
    accepting: { ok: false, detail: 'The server is draining and takes no new jobs.' },
  })
  assert.equal(not.body.workerRestarts, 2)
  await call('get', '/healthz').expect(200)
})

test('readyz says when kernels run on the reference device', async (t) => {
  const { call, service } = httpApp(t)
  const { worker } = await service.health()
  service.healthChanges = { worker: { ...worker, device: { ...worker.device!, kind: 'reference' } } }
  const response = await call('get', '/readyz').expect(200)
  assert.equal(response.body.referenceDevice, true)
  assert.match((await call('get', '/metrics')).text, /^tensorpress_reference_device 1$/m)
})

test('metrics are Prometheus text, with the route template as label', async (t) => {
  const { call } = httpApp(t)
  await call('get', '/v1/models/abc').expect(404)
  await call('get', '/nowhere').expect(404)
  const { text, headers } = await call('get', '/metrics').expect(200)
  assert.match(headers['content-type']!, /^text\/plain; version=0\.0\.4/)
  assert.match(
    text,
    /tensorpress_http_request_duration_seconds_count\{method="GET",route="\/v1\/models\/\{id\}",status="404"\} 1/,
  )
  assert.match(text, /route="none",status="404"\} 1/)
  assert.match(text, /tensorpress_device_info\{kind="webgpu",adapter="llvmpipe \(LLVM 19\)",driver="Mesa 25\.0\.7"\} 1/)
  assert.match(text, /tensorpress_worker_resident_memory_bytes\{child="gpu"\} 100000000/)
  assert.match(text, /tensorpress_store_free_bytes 5000000000/)
  assert.match(text, /tensorpress_store_floor_bytes 1000000000/)
  assert.match(text, /tensorpress_queue_oldest_seconds 0/)
  for (const name of Object.keys(METRICS)) assert.ok(text.includes(`# HELP ${METRIC_PREFIX}${name} `), name)
})

test('the front page says what this is and gives a curl line for this host', async (t) => {
  const { call } = httpApp(t)
  const page = await call('get', '/').set('host', 'localhost:9000').expect(200)
  assert.match(page.text, /curl -f -F model=@model\.onnx -F recipe=int8 http:\/\/localhost:9000\/v1\/compress/)
  assert.match(page.text, /llvmpipe/)
  assert.ok(!/https?:\/\/(?!localhost:9000)/.test(page.text), 'no outside address')
})

test('the documentation page and all it loads come from this server', async (t) => {
  const { app, call } = httpApp(t)
  const page = await call('get', '/docs').expect(200)
  const links = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]!)
  assert.ok(links.length >= 6)
  for (const link of links) {
    assert.match(link, /^\/(?!\/)/)
    await supertest(app).get(link).expect(200)
  }
  assert.match(page.headers['content-security-policy']!, /script-src 'self';/)
  await call('get', '/docs/swagger-ui.css.map').expect(404)
  await call('get', '/docs/..%2fpackage.json').expect(404)
})
