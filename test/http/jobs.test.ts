// /v1/jobs, its event stream, reports and artifacts, over a fake service whose jobs the test moves by hand.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { httpApp, listening, type TestApp } from '../support/http-app.ts'
import { sampleReport } from '../support/sample-report.ts'

async function createJob({ call }: TestApp, extra: Record<string, unknown> = {}): Promise<string> {
  const model = await call('put', '/v1/models/net.onnx').send(Buffer.from('weights'))
  const job = await call('post', '/v1/jobs')
    .send({ model: model.body.id, recipe: 'int8', ...extra })
    .expect(202)
  return job.body.id as string
}

test('a job is accepted with 202, its Location and its request', async (t) => {
  const harness = httpApp(t)
  const { call, service } = harness
  const model = await call('put', '/v1/models/net.onnx').send(Buffer.from('weights'))
  const body = {
    model: model.body.id,
    recipe: { steps: [{ method: 'quantize', bits: 8 }] },
    require: [{ metric: 'top1', maxDrop: 0.01 }, { maxSizeRatio: 0.5 }],
    output: { externalData: 'auto', shardBytes: 4096 },
    validate: false,
  }
  const job = await call('post', '/v1/jobs').send(body).expect(202)
  assert.equal(job.headers['location'], `/v1/jobs/${job.body.id}`)
  assert.equal(job.body.state, 'queued')
  assert.deepEqual(service.requests, [
    {
      modelId: body.model,
      recipe: body.recipe,
      require: body.require,
      output: body.output,
      validate: false,
    },
  ])
  const got = await call('get', job.body.links.self).expect(200)
  assert.equal(got.headers['retry-after'], '1')
})

test('bad bodies are refused with the path of the bad field', async (t) => {
  const { call } = httpApp(t)
  const model = 'a'.repeat(64)
  const cases: [unknown, string][] = [
    [{ recipe: 'int8' }, 'body.model'],
    [{ model: 'abc', recipe: 'int8' }, 'body.model'],
    [{ model }, 'body.recipe'],
    [{ model, recipe: 'int8', recipes: 1 }, 'body.recipes'],
    [{ model, recipe: 'int8', output: { externalData: 'no' } }, 'body.output.externalData'],
    [{ model, recipe: 'int8', output: { shardBytes: 5 } }, 'body.output.shardBytes'],
    [{ model, recipe: 'int8', validate: 'yes' }, 'body.validate'],
    [{ model, recipe: 'int8', require: { metric: 'top1', maxDrop: 'a' } }, 'body.require.maxDrop'],
    [{ model, recipe: 'int8', require: [{ min: 1 }, { metric: 'speed' }] }, 'body.require[1].metric'],
    [{ model, recipe: 5 }, 'body.recipe'],
    [[], 'body'],
  ]
  for (const [body, path] of cases) {
    const response = await call('post', '/v1/jobs')
      .send(body as object)
      .expect(400)
    assert.equal(response.body.code, 'request_invalid')
    assert.equal(response.body.context.path, path)
  }
  const union = await call('post', '/v1/jobs').send({ model, recipe: 5 }).expect(400)
  assert.equal(
    union.body.detail,
    'body.recipe: Invalid input: expected string, received number; or expected record, received number',
  )
  const syntax = await call('post', '/v1/jobs').set('content-type', 'application/json').send('{"model":').expect(400)
  assert.match(syntax.body.detail, /not valid JSON/)
  const type = await call('post', '/v1/jobs').set('content-type', 'text/plain').send('int8').expect(415)
  assert.deepEqual(type.body.context.allowed, ['application/json'])
  const none = await call('post', '/v1/jobs').expect(415)
  assert.equal(none.body.code, 'content_type_unsupported')
})

test('a JSON body beyond jsonBytes gets 413 with limit and request', async (t) => {
  const { call } = httpApp(t, { jsonBytes: 1024 })
  const response = await call('post', '/v1/jobs')
    .send({ recipe: 'x'.repeat(2000) })
    .expect(413)
  assert.equal(response.body.code, 'body_too_large')
  assert.deepEqual(response.body.context, { limit: 'jsonBytes', allowed: 1024, requested: 2013 })
})

test('an unknown model is 404, an unknown preset recipe_invalid', async (t) => {
  const { call } = httpApp(t)
  await call('post', '/v1/jobs')
    .send({ model: 'a'.repeat(64), recipe: 'int8' })
    .expect(404)
  const model = await call('put', '/v1/models/net.onnx').send(Buffer.from('weights'))
  const bad = await call('post', '/v1/jobs').send({ model: model.body.id, recipe: 'nonsense' }).expect(400)
  assert.equal(bad.body.code, 'recipe_invalid')
  const plan = await call('post', '/v1/plans').send({ model: model.body.id, recipe: 'int8' }).expect(200)
  assert.deepEqual([plan.body.bytesBefore, plan.body.bytesAfter], [80, 40])
  await call('post', '/v1/plans').send({ model: model.body.id, recipe: 'int8', require: 'x' }).expect(400)
})

test('the same Idempotency-Key gives the same job; with another body, 422', async (t) => {
  const { call } = httpApp(t)
  const model = await call('put', '/v1/models/net.onnx').send(Buffer.from('weights'))
  const post = (recipe: string, key = 'k-1') =>
    call('post', '/v1/jobs').set('idempotency-key', key).send({ model: model.body.id, recipe })
  const first = await post('int8').expect(202)
  const second = await post('int8').expect(202)
  assert.equal(second.body.id, first.body.id)
  assert.equal(first.headers['idempotency-replayed'], undefined)
  assert.equal(second.headers['idempotency-replayed'], 'true')
  const other = await post('int4').expect(422)
  assert.equal(other.body.code, 'idempotency_key_reused')
  const bad = await post('int8', 'has space').expect(400)
  assert.equal(bad.body.context.path, 'header.Idempotency-Key')
})

test('jobs are listed by state and by model', async (t) => {
  const harness = httpApp(t)
  const { call, service } = harness
  const first = await createJob(harness)
  const second = await createJob(harness)
  service.fail(first, { code: 'worker_crashed', detail: 'The worker ended 3 times.', context: {} })
  const failed = await call('get', '/v1/jobs?state=failed').expect(200)
  assert.deepEqual(
    failed.body.items.map((job: { id: string }) => job.id),
    [first],
  )
  assert.equal(failed.body.items[0].error.code, 'worker_crashed')
  const all = await call('get', '/v1/jobs').expect(200)
  assert.equal(all.body.items[0].id, second)
  const none = await call('get', `/v1/jobs?model=${'b'.repeat(64)}`).expect(200)
  assert.deepEqual(none.body.items, [])
  await call('get', '/v1/jobs?state=lost').expect(400)
})

test('a job is cancelled once', async (t) => {
  const harness = httpApp(t)
  const id = await createJob(harness)
  const cancelled = await harness.call('delete', `/v1/jobs/${id}`).expect(200)
  assert.equal(cancelled.body.state, 'cancelled')
  await harness.call('delete', `/v1/jobs/${id}`).expect(409)
  await harness.call('delete', '/v1/jobs/none').expect(404)
})

test('events carry ids and the whole job, and end with the job', { timeout: 30_000 }, async (t) => {
  const harness = httpApp(t)
  const { service, app } = harness
  const id = await createJob(harness)
  const port = await listening(t, app)
  const response = await fetch(`http://127.0.0.1:${port}/v1/jobs/${id}/events`)
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
  service.move(
    id,
    { state: 'running', stage: 'encoding', progress: { doneBytes: 1, totalBytes: 4, tensor: null } },
    'progress',
  )
  service.succeed(id, { 'a.onnx': 'artifact' })
  const events = parseEvents(await response.text())
  assert.deepEqual(
    events.map(({ event }) => event),
    ['state', 'progress', 'state', 'end'],
  )
  assert.deepEqual(
    events.slice(0, 3).map(({ id: number }) => Number(number)),
    [1, 2, 3],
  )
  assert.equal(JSON.parse(events[1]!.data!).progress.doneBytes, 1)
  assert.equal(JSON.parse(events[2]!.data!).links.artifact, `/v1/jobs/${id}/artifact`)
})

test('Last-Event-ID resumes after that event; after the last one of a final job, 204', async (t) => {
  const harness = httpApp(t)
  const { service, call } = harness
  const id = await createJob(harness)
  service.move(id, { state: 'running' })
  service.succeed(id, { 'a.onnx': 'artifact' })
  const rest = await call('get', `/v1/jobs/${id}/events`).set('last-event-id', '2').expect(200)
  assert.deepEqual(
    parseEvents(rest.text).map((event) => event.id ?? event.event),
    ['3', 'end'],
  )
  await call('get', `/v1/jobs/${id}/events`).set('last-event-id', '3').expect(204)
  const bad = await call('get', `/v1/jobs/${id}/events`).set('last-event-id', 'x').expect(400)
  assert.equal(bad.body.context.path, 'header.Last-Event-ID')
  await call('get', '/v1/jobs/none/events').expect(404)
})

test('a client that leaves an event stream is let go', { timeout: 30_000 }, async (t) => {
  const harness = httpApp(t)
  const { app, metrics } = harness
  const id = await createJob(harness)
  const port = await listening(t, app)
  const leave = new AbortController()
  await fetch(`http://127.0.0.1:${port}/v1/jobs/${id}/events`, { signal: leave.signal })
  const open = async () => (await metrics.eventStreamsOpen.get()).values[0]!.value
  assert.equal(await open(), 1)
  leave.abort()
  while ((await open()) !== 0) await new Promise((resolve) => setTimeout(resolve, 5))
})

test('an artifact has its SHA-256 as ETag, its name, and a digest', async (t) => {
  const harness = httpApp(t)
  const { service, call } = harness
  const id = await createJob(harness)
  await call('get', `/v1/jobs/${id}/artifact`).expect(409)
  service.succeed(id, { 'net ü.int8.onnx': 'artifact bytes' })
  const hash = createHash('sha256').update('artifact bytes')
  const response = await call('get', `/v1/jobs/${id}/artifact`).buffer(true).expect(200)
  assert.equal(response.body.toString(), 'artifact bytes')
  const hex = hash.copy().digest('hex')
  assert.equal(response.headers['etag'], `"${hex}"`)
  assert.equal(response.headers['repr-digest'], `sha-256=:${hash.digest('base64')}:`)
  assert.equal(response.headers['content-length'], '14')
  assert.match(
    response.headers['content-disposition']!,
    /^attachment; filename="net \?\.int8\.onnx"; filename\*=UTF-8''net%20%C3%BC\.int8\.onnx$/,
  )
  await call('get', `/v1/jobs/${id}/artifact`).set('if-none-match', `"${hex}"`).expect(304)
  await call('head', `/v1/jobs/${id}/artifact`).expect(200).expect('content-length', '14')
})

test('Range gives a part, If-Range guards it, and a range beyond the end gets 416', async (t) => {
  const harness = httpApp(t)
  const { service, call } = harness
  const id = await createJob(harness)
  service.succeed(id, { 'a.onnx': '0123456789' })
  const path = `/v1/jobs/${id}/artifact`
  const part = await call('get', path).set('range', 'bytes=2-5').buffer(true).expect(206)
  assert.equal(part.body.toString(), '2345')
  assert.equal(part.headers['content-range'], 'bytes 2-5/10')
  const tail = await call('get', path).set('range', 'bytes=-3').buffer(true).expect(206)
  assert.equal(tail.body.toString(), '789')
  await call('get', path).set('range', 'bytes=2-5').set('if-range', '"other"').expect(200)
  await call('get', path).set('range', 'bytes=2-5').set('if-range', part.headers['etag']!).expect(206)
  const beyond = await call('get', path).set('range', 'bytes=10-').expect(416)
  assert.equal(beyond.body.code, 'range_not_satisfiable')
  assert.equal(beyond.headers['content-range'], 'bytes */10')
  const changed = await call('get', path).set('if-match', '"other"').expect(412)
  assert.equal(changed.body.code, 'precondition_failed')
})

test('several files are listed and given one by one; the single download says where', async (t) => {
  const harness = httpApp(t)
  const { service, call } = harness
  const id = await createJob(harness)
  service.succeed(id, { 'net.onnx': 'graph', 'weights/net 1.data': 'data' })
  const list = await call('get', `/v1/jobs/${id}/artifacts`).expect(200)
  assert.deepEqual(
    list.body.items.map(({ name, sizeBytes, url }: Record<string, unknown>) => ({ name, sizeBytes, url })),
    [
      { name: 'net.onnx', sizeBytes: 5, url: `/v1/jobs/${id}/artifacts/net.onnx` },
      { name: 'weights/net 1.data', sizeBytes: 4, url: `/v1/jobs/${id}/artifacts/weights/net%201.data` },
    ],
  )
  const file = await call('get', list.body.items[1].url).buffer(true).expect(200)
  assert.equal(file.body.toString(), 'data')
  const single = await call('get', `/v1/jobs/${id}/artifact`).expect(409)
  assert.equal(single.body.context.files.length, 2)
  const unknown = await call('get', `/v1/jobs/${id}/artifacts/other`).expect(404)
  assert.deepEqual(unknown.body.context.names, ['net.onnx', 'weights/net 1.data'])
})

test('an artifact that misses its requirement is only given on explicit request', async (t) => {
  const harness = httpApp(t)
  const { service, call } = harness
  const id = await createJob(harness)
  service.succeed(id, { 'a.onnx': 'worse' })
  service.move(id, {
    state: 'failed',
    artifact: { files: [], requirementMet: false, reused: false },
    error: { code: 'requirement_not_met', detail: 'top1 drops by 0.02.', context: {} },
  })
  const refused = await call('get', `/v1/jobs/${id}/artifact`).expect(422)
  assert.equal(refused.body.code, 'requirement_not_met')
  await call('get', `/v1/jobs/${id}/artifact?evenIfUnmet=true`).expect(200)
  await call('get', `/v1/jobs/${id}/artifacts`).expect(422)
  await call('get', `/v1/jobs/${id}/artifact?evenIfUnmet=yes`).expect(400)
})

test('a file that vanished from the store is a clear failure', async (t) => {
  const harness = httpApp(t)
  const { service, call } = harness
  const id = await createJob(harness)
  service.succeed(id, { 'a.onnx': 'x' })
  service.jobs.artifactFiles = async () => [
    { name: 'a.onnx', path: '/nonexistent/a', sizeBytes: 1, sha256: 'a'.repeat(64) },
  ]
  const gone = await call('get', `/v1/jobs/${id}/artifact`).expect(500)
  assert.equal(gone.body.code, 'store_failed')
  assert.equal(gone.headers['content-disposition'], undefined)
})

test('a report is JSON by default and a page for browsers', async (t) => {
  const harness = httpApp(t)
  const { service, call } = harness
  const id = await createJob(harness)
  await call('get', `/v1/jobs/${id}/report`).expect(409)
  const report = sampleReport()
  service.succeed(id, { 'a.onnx': 'x' }, report)
  const json = await call('get', `/v1/jobs/${id}/report`).expect(200)
  assert.deepEqual(json.body, JSON.parse(JSON.stringify(report)))
  const text = JSON.stringify(report)
  assert.equal(json.headers['etag'], `"${createHash('sha256').update(text).digest('hex')}"`)
  assert.equal(json.headers['repr-digest'], `sha-256=:${createHash('sha256').update(text).digest('base64')}:`)
  assert.match(json.headers['vary']!, /Accept/)
  await call('get', `/v1/jobs/${id}/report`).set('if-none-match', json.headers['etag']!).expect(304)
  const browser = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'
  const page = await call('get', `/v1/jobs/${id}/report`).set('accept', browser).expect(200)
  assert.match(page.headers['content-type']!, /^text\/html/)
  assert.match(page.text, /^<!doctype html>/i)
  assert.match(page.headers['content-security-policy']!, /default-src 'none'/)
})

interface StreamEvent {
  id?: string
  event?: string
  data?: string
}

function parseEvents(text: string): StreamEvent[] {
  return text
    .split('\n\n')
    .map((block) =>
      Object.fromEntries(
        block
          .split('\n')
          .filter((line) => /^(id|event|data):/.test(line))
          .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
      ),
    )
    .filter((event: StreamEvent) => event.event !== undefined)
}
