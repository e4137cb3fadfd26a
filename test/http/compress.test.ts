// POST /v1/compress over a fake service: one call, its waits, its outcomes, and what a client that leaves does not stop.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import http from 'node:http'
import { test } from 'node:test'
import { parsePrefer } from '../../src/http/prefer.ts'
import { httpApp, listening } from '../support/http-app.ts'
import { sampleReport } from '../support/sample-report.ts'

test('one call gives the artifact with the digest and the figures of its report', async (t) => {
  const { call, service } = httpApp(t)
  const report = sampleReport()
  service.onCreate = (job) => setTimeout(() => service.succeed(job.id, { 'net.int8.onnx': 'small' }, report), 20)
  const response = await call('post', '/v1/compress')
    .field('recipe', 'int8')
    .field('require', 'maxSizeRatio=0.5')
    .attach('model', Buffer.from('weights'), 'net.onnx')
    .attach('dataset', Buffer.from('samples'), 'd.npz')
    .buffer(true)
    .expect(200)
  assert.equal(response.body.toString(), 'small')
  assert.equal(response.headers['content-disposition'], 'attachment; filename=net.int8.onnx')
  assert.equal(response.headers['etag'], `"${createHash('sha256').update('small').digest('hex')}"`)
  assert.equal(response.headers['location'], '/v1/jobs/job-1')
  assert.equal(response.headers['tensorpress-report'], '/v1/jobs/job-1/report')
  const digest = createHash('sha256').update(JSON.stringify(report)).digest('base64')
  assert.equal(response.headers['tensorpress-report-digest'], `sha-256=:${digest}:`)
  assert.equal(response.headers['tensorpress-verdict'], 'requirement_met')
  assert.equal(response.headers['tensorpress-size'], 'before=1200, after=500, ratio=0.4167')
  assert.deepEqual(service.requests, [
    {
      modelId: createHash('sha256').update('weights').digest('hex'),
      datasetId: createHash('sha256').update('samples').digest('hex'),
      recipe: 'int8',
      require: 'maxSizeRatio=0.5',
    },
  ])
  assert.deepEqual(service.leftovers(), [])
})

test('recipe as an uploaded file, requirement and output as JSON', async (t) => {
  const { call, service } = httpApp(t)
  const yaml = 'steps:\n  - preset: int8\n'
  await call('post', '/v1/compress')
    .set('prefer', 'respond-async')
    .attach('model', Buffer.from('weights'), 'net.onnx')
    .attach('recipe', Buffer.from(yaml), 'recipe.yaml')
    .field('require', '{"metric": "cosine", "min": 0.99}')
    .field('output', '{"externalData": true}')
    .field('validate', 'false')
    .expect(202)
  const { modelId: _, ...rest } = service.requests[0]!
  assert.deepEqual(rest, {
    recipe: yaml.trim(),
    require: { metric: 'cosine', min: 0.99 },
    output: { externalData: true },
    validate: false,
  })
})

test('respond-async answers 202 at once; wait=0 likewise; the preference is confirmed', async (t) => {
  const { call } = httpApp(t)
  for (const [prefer, applied] of [
    ['respond-async', 'respond-async'],
    ['wait=0', 'wait=0'],
  ] as const) {
    const response = await call('post', '/v1/compress')
      .set('prefer', prefer)
      .field('recipe', 'int8')
      .attach('model', Buffer.from('weights'), 'net.onnx')
      .expect(202)
    assert.equal(response.headers['preference-applied'], applied)
    assert.equal(response.headers['location'], `/v1/jobs/${response.body.id}`)
    assert.equal(response.body.state, 'queued')
  }
})

test('a wait that ends before the job gives 202, and the job goes on', async (t) => {
  const { call, service } = httpApp(t, { waitSeconds: 0 })
  const response = await call('post', '/v1/compress')
    .set('prefer', 'wait=100')
    .field('recipe', 'int8')
    .attach('model', Buffer.from('weights'), 'net.onnx')
    .expect(202)
  assert.equal(response.headers['preference-applied'], 'wait=0')
  assert.equal((await service.jobs.get(response.body.id)).state, 'queued')
})

test('an unmet requirement gives 422 with the whole report', async (t) => {
  const { call, service } = httpApp(t)
  const report = sampleReport()
  service.onCreate = (job) =>
    service.fail(job.id, { code: 'requirement_not_met', detail: 'top1 drops by 0.02.', context: {} }, report)
  const response = await call('post', '/v1/compress')
    .field('recipe', 'int8')
    .attach('model', Buffer.from('weights'), 'net.onnx')
    .expect(422)
  assert.equal(response.body.code, 'requirement_not_met')
  assert.equal(response.body.context.job, '/v1/jobs/job-1')
  assert.deepEqual(response.body.report, JSON.parse(JSON.stringify(report)))
  assert.equal(response.headers['location'], '/v1/jobs/job-1')
})

test('a failed and a cancelled job give their error', async (t) => {
  const { call, service } = httpApp(t)
  const send = () =>
    call('post', '/v1/compress').field('recipe', 'int8').attach('model', Buffer.from('weights'), 'net.onnx')
  service.onCreate = (job) => service.fail(job.id, { code: 'device_lost', detail: 'The device was lost.', context: {} })
  const lost = await send().expect(503)
  assert.equal(lost.body.code, 'device_lost')
  service.onCreate = (job) => service.move(job.id, { state: 'cancelled' })
  const cancelled = await send().expect(409)
  assert.equal(cancelled.body.code, 'cancelled')
})

test('an artifact of several files cannot be streamed: 409 lists them', async (t) => {
  const { call, service } = httpApp(t)
  service.onCreate = (job) => service.succeed(job.id, { 'net.onnx': 'graph', 'net.onnx.data': 'data' }, sampleReport())
  const response = await call('post', '/v1/compress')
    .field('recipe', 'int8')
    .attach('model', Buffer.from('weights'), 'net.onnx')
    .expect(409)
  assert.deepEqual(response.body.context.files[1], {
    name: 'net.onnx.data',
    url: '/v1/jobs/job-1/artifacts/net.onnx.data',
  })
})

test('missing and malformed parts are named, and nothing is stored or started', async (t) => {
  const { call, service } = httpApp(t)
  const post = () => call('post', '/v1/compress').attach('model', Buffer.from('weights'), 'net.onnx')
  const cases = [
    { request: call('post', '/v1/compress').field('recipe', 'int8'), path: 'model' },
    { request: post(), path: 'body.recipe' },
    { request: post().field('recipe', 'int8').field('recipe', 'int4'), path: 'recipe' },
    { request: post().field('recipe', 'int8').field('output', '{'), path: 'body.output' },
    { request: post().field('recipe', 'int8').field('output', '{"x":1}'), path: 'body.output.x' },
    { request: post().field('recipe', 'int8').field('validate', 'yes'), path: 'body.validate' },
    { request: post().field('recipe', 'int8').field('preset', 'int8'), path: 'preset' },
  ]
  for (const { request, path } of cases) {
    const response = await request.expect(400)
    assert.equal(response.body.context.path, path)
  }
  assert.deepEqual(service.requests, [])
  assert.deepEqual((await call('get', '/v1/models')).body.items, [])
  assert.deepEqual(service.leftovers(), [])
})

test('a client that leaves does not cancel the job', { timeout: 30_000 }, async (t) => {
  const { app, service } = httpApp(t)
  const port = await listening(t, app)
  const body = [
    '--b\r\nContent-Disposition: form-data; name="recipe"\r\n\r\nint8\r\n',
    '--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\nweights\r\n--b--\r\n',
  ].join('')
  const headers = { 'content-type': 'multipart/form-data; boundary=b', 'content-length': body.length }
  const request = http.request({ port, host: '127.0.0.1', method: 'POST', path: '/v1/compress', headers })
  request.on('error', () => {})
  request.end(body)
  while (service.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  request.destroy()
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal((await service.jobs.get('job-1')).state, 'queued')
})

test('Prefer is read as RFC 7240 has it', () => {
  assert.deepEqual(parsePrefer(undefined, 3600), { waitSeconds: 300, applied: null })
  assert.deepEqual(parsePrefer('wait=10', 3600), { waitSeconds: 10, applied: 'wait=10' })
  assert.deepEqual(parsePrefer('Wait="10"; x=y, foo', 3600), { waitSeconds: 10, applied: 'wait=10' })
  assert.deepEqual(parsePrefer('respond-async, wait=5', 3600), { waitSeconds: 5, applied: 'wait=5' })
  assert.deepEqual(parsePrefer('respond-async', 3600), { waitSeconds: 0, applied: 'respond-async' })
  assert.deepEqual(parsePrefer('wait=9999', 3600), { waitSeconds: 3600, applied: 'wait=3600' })
  assert.deepEqual(parsePrefer('wait=-1, wait=soon', 3600), { waitSeconds: 300, applied: null })
})
