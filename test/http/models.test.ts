// /v1/models over a fake service: uploads in both forms, what is refused, and what is left behind (nothing).

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import http from 'node:http'
import { test } from 'node:test'
import { parseApiKeys } from '../../src/access/api-key.ts'
import { fixedRing } from '../../src/access/key-ring.ts'
import { AppError } from '../../src/errors.ts'
import { httpApp, listening } from '../support/http-app.ts'

const sha256 = (content: string) => createHash('sha256').update(content).digest('hex')

test('a multipart upload answers 201 with the SHA-256 as id and its Location', async (t) => {
  const { call, service } = httpApp(t)
  const response = await call('post', '/v1/models').attach('model', Buffer.from('weights'), 'net.onnx').expect(201)
  const id = sha256('weights')
  assert.equal(response.body.id, id)
  assert.equal(response.headers['location'], `/v1/models/${id}`)
  assert.deepEqual(response.body.files, [{ name: 'net.onnx', sizeBytes: 7, sha256: id }])
  assert.deepEqual(service.leftovers(), [])
})

test('the same content again answers 200 with the same id', async (t) => {
  const { call } = httpApp(t)
  await call('post', '/v1/models').attach('model', Buffer.from('weights'), 'net.onnx').expect(201)
  const again = await call('put', '/v1/models/other.onnx').send(Buffer.from('weights')).expect(200)
  assert.equal(again.body.id, sha256('weights'))
  assert.equal(again.headers['location'], `/v1/models/${sha256('weights')}`)
})

test('parts "data" are stored under the names of the client, folders included', async (t) => {
  const { call } = httpApp(t)
  const files = { 'net.onnx': 'graph', 'weights/0.bin': 'one', 'größe.bin': 'two' }
  const parts = Object.entries(files).map(([name, content], index) => {
    const part = index === 0 ? 'model' : 'data'
    return `--b\r\nContent-Disposition: form-data; name="${part}"; filename="${name}"\r\n\r\n${content}\r\n`
  })
  const response = await call('post', '/v1/models')
    .set('content-type', 'multipart/form-data; boundary=b')
    .send(`${parts.join('')}--b--\r\n`)
    .expect(201)
  assert.deepEqual(
    response.body.files.map((file: { name: string }) => file.name),
    ['net.onnx', 'weights/0.bin', 'größe.bin'],
  )
})

test('a raw PUT takes the name from the path, decoded', async (t) => {
  const { call } = httpApp(t)
  const response = await call('put', '/v1/models/my%20net.onnx')
    .set('content-type', 'application/octet-stream')
    .send(Buffer.from('weights'))
    .expect(201)
  assert.equal(response.body.files[0].name, 'my net.onnx')
})

test('a multipart upload without the part "model" is refused by name', async (t) => {
  const { call, service } = httpApp(t)
  const missing = await call('post', '/v1/models').field('note', 'x').expect(400)
  assert.equal(missing.body.code, 'request_invalid')
  assert.equal(missing.body.context.path, 'note')
  const empty = await call('post', '/v1/models')
    .set('content-type', 'multipart/form-data; boundary=b')
    .send('--b--\r\n')
  assert.equal(empty.status, 400)
  assert.match(empty.body.detail, /Part "model" is missing/)
  assert.deepEqual(service.leftovers(), [])
})

test('data before model, model twice and unknown parts are refused, and nothing stays', async (t) => {
  const { call, service } = httpApp(t)
  const before = await call('post', '/v1/models')
    .attach('data', Buffer.from('x'), 'x')
    .attach('model', Buffer.from('y'), 'y')
  assert.equal(before.status, 400)
  assert.equal(before.body.context.path, 'data')
  const twice = await call('post', '/v1/models')
    .attach('model', Buffer.from('x'), 'x')
    .attach('model', Buffer.from('y'), 'y')
  assert.equal(twice.status, 400)
  assert.match(twice.body.detail, /comes twice/)
  const unknown = await call('post', '/v1/models').attach('weights', Buffer.from('x'), 'x')
  assert.equal(unknown.status, 400)
  assert.deepEqual(unknown.body.context, { path: 'weights', allowed: ['model', 'data'] })
  assert.deepEqual(service.leftovers(), [])
})

test('a body that is not multipart gets 415 with what is taken', async (t) => {
  const { call } = httpApp(t)
  const json = await call('post', '/v1/models').send({ model: 'x' }).expect(415)
  assert.equal(json.body.code, 'content_type_unsupported')
  assert.deepEqual(json.body.context.allowed, ['multipart/form-data'])
  const put = await call('put', '/v1/models/x').attach('model', Buffer.from('x'), 'x').expect(415)
  assert.match(put.body.detail, /POST \/v1\/models takes multipart/)
  await call('put', '/v1/models/x').set('content-encoding', 'gzip').send(Buffer.from('x')).expect(415)
})

test('a malformed multipart body gets 400', async (t) => {
  const { call } = httpApp(t)
  const noBoundary = await call('post', '/v1/models').set('content-type', 'multipart/form-data').send('x').expect(400)
  assert.equal(noBoundary.body.code, 'request_invalid')
  const cut = await call('post', '/v1/models')
    .set('content-type', 'multipart/form-data; boundary=b')
    .send('--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\nhalf')
    .expect(400)
  assert.match(cut.body.detail, /multipart body is malformed/)
})

test('a body that declares too many bytes is refused before it is read; one that turns out so, during', async (t) => {
  const { call, service } = httpApp(t, { uploadBytes: 1000 })
  const declared = await call('put', '/v1/models/x').send(Buffer.alloc(1001)).expect(413)
  assert.deepEqual(declared.body.context, { limit: 'uploadBytes', allowed: 1000, requested: 1001 })
  const chunked = await call('post', '/v1/models').attach('model', Buffer.alloc(1200), 'x').expect(413)
  assert.equal(chunked.body.code, 'body_too_large')
  assert.equal(chunked.body.context.limit, 'uploadBytes')
  assert.deepEqual(service.leftovers(), [])
})

test('a dataset that declares more than datasetBytes is refused before it is read', async (t) => {
  const { call, service } = httpApp(t, { datasetBytes: 500 })
  const response = await call('post', '/v1/datasets').attach('dataset', Buffer.alloc(600), 'd.npz').expect(413)
  assert.equal(response.body.context.limit, 'datasetBytes')
  assert.equal(response.body.context.allowed, 500)
  assert.ok(response.body.context.requested > 600)
  assert.deepEqual(service.leftovers(), [])
  await call('post', '/v1/models').attach('model', Buffer.alloc(600), 'm').expect(201)
})

test('more parts than uploadParts are refused with the limit', async (t) => {
  const { call } = httpApp(t, { uploadParts: 2 })
  const response = await call('post', '/v1/models')
    .attach('model', Buffer.from('a'), 'a')
    .attach('data', Buffer.from('b'), 'b')
    .attach('data', Buffer.from('c'), 'c')
    .expect(413)
  assert.equal(response.body.code, 'limit_exceeded')
  assert.deepEqual(response.body.context, { limit: 'uploadParts', allowed: 2, requested: null })
})

test('a model that the inspect child refuses gets 422 and leaves nothing', async (t) => {
  const { call, service } = httpApp(t)
  service.refuseModel = new AppError('format_unrecognised', 'x.onnx is a PNG image.', { file: 'x.onnx' })
  const response = await call('put', '/v1/models/x.onnx').send(Buffer.from('png')).expect(422)
  assert.equal(response.body.code, 'format_unrecognised')
  assert.equal(response.body.detail, 'x.onnx is a PNG image.')
  assert.equal(response.body.type, 'urn:tensorpress:error:format_unrecognised')
  assert.deepEqual(service.leftovers(), [])
})

test('a client that leaves half-way leaves no file, in both forms of upload', { timeout: 30_000 }, async (t) => {
  const { app, service, metrics } = httpApp(t)
  const port = await listening(t, app)
  const forms = [
    { method: 'PUT', path: '/v1/models/x', type: 'application/octet-stream', start: 'half' },
    {
      method: 'POST',
      path: '/v1/models',
      type: 'multipart/form-data; boundary=b',
      start: '--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\nhalf',
    },
  ]
  for (const { method, path, type, start } of forms) {
    const headers = { 'content-type': type, 'content-length': 1_000_000 }
    const request = http.request({ port, host: '127.0.0.1', method, path, headers })
    request.on('error', () => {})
    request.write(start)
    while (service.leftovers().length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    request.destroy()
    while (service.leftovers().length > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  assert.match(await metrics.registry.metrics(), /tensorpress_uploads_in_progress 0/)
})

test('uploads beyond parallelUploads get 429 with Retry-After', { timeout: 30_000 }, async (t) => {
  const { app, call, service } = httpApp(t, { parallelUploads: 1 })
  const port = await listening(t, app)
  const held = http.request({ port, host: '127.0.0.1', method: 'PUT', path: '/v1/models/x' })
  held.on('error', () => {})
  held.write('half')
  while (service.leftovers().length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  const refused = await call('put', '/v1/models/y').send(Buffer.from('y')).expect(429)
  assert.equal(refused.body.code, 'too_many_uploads')
  assert.deepEqual(refused.body.context, { limit: 'parallelUploads', allowed: 1, requested: 2 })
  assert.equal(refused.headers['retry-after'], '5')
  held.destroy()
})

test('uploads of one key beyond parallelUploadsPerKey get 429; other keys send on', { timeout: 30_000 }, async (t) => {
  const secret = 'A'.repeat(43)
  const keys = fixedRing(parseApiKeys(`ann:submit:${secret}1 bob:submit:${secret}2`, 'keys'))
  const { app, call, service } = httpApp(t, { parallelUploads: 2, parallelUploadsPerKey: 1 }, {}, keys)
  const port = await listening(t, app)
  const as = (who: number) => ({ authorization: `Bearer ${secret}${who}` })
  const held = http.request({ port, host: '127.0.0.1', method: 'PUT', path: '/v1/models/x', headers: as(1) })
  held.on('error', () => {})
  held.write('half')
  while (service.leftovers().length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  const refused = await call('put', '/v1/models/y').set(as(1)).send(Buffer.from('y')).expect(429)
  assert.equal(refused.body.code, 'too_many_uploads')
  assert.deepEqual(refused.body.context, { limit: 'parallelUploadsPerKey', allowed: 1, requested: 2 })
  await call('put', '/v1/models/y').set(as(2)).send(Buffer.from('y')).expect(201)
  held.destroy()
  while (service.leftovers().length > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  await call('put', '/v1/models/z').set(as(1)).send(Buffer.from('z')).expect(201)
})

test('models are listed newest first, a page at a time', async (t) => {
  const { call } = httpApp(t)
  for (const name of ['a', 'b', 'c']) await call('put', `/v1/models/${name}`).send(Buffer.from(name)).expect(201)
  const first = await call('get', '/v1/models?limit=2').expect(200)
  assert.deepEqual(
    first.body.items.map((model: { id: string }) => model.id),
    [sha256('c'), sha256('b')],
  )
  const second = await call('get', `/v1/models?limit=2&cursor=${first.body.next}`).expect(200)
  assert.equal(second.body.items[0].id, sha256('a'))
  assert.equal(second.body.next, null)
  const bad = await call('get', '/v1/models?limit=0').expect(400)
  assert.equal(bad.body.context.path, 'query.limit')
  const unknown = await call('get', '/v1/models?size=5').expect(400)
  assert.equal(unknown.body.context.path, 'query.size')
})

test('describe, tensors and histogram of a model, tensor names with a slash included', async (t) => {
  const { call } = httpApp(t)
  const { body } = await call('put', '/v1/models/a').send(Buffer.from('a'))
  const model = await call('get', body.links.self).expect(200)
  assert.equal(model.body.opset, 17)
  const tensors = await call('get', `${body.links.tensors}?offset=1&limit=5`).expect(200)
  assert.equal(tensors.body.total, 2)
  assert.deepEqual([tensors.body.items.length, tensors.body.items[0].name], [1, 'b'])
  const histogram = await call('get', `${body.links.self}/histogram?tensor=w/0&bins=3`).expect(200)
  assert.equal(histogram.body.bins.length, 3)
  await call('get', `${body.links.self}/histogram?tensor=nope`).expect(404)
  const missing = await call('get', `${body.links.self}/histogram`).expect(400)
  assert.equal(missing.body.context.path, 'query.tensor')
  await call('get', `${body.links.self}/histogram?tensor=w/0&bins=99999`).expect(400)
  await call('get', `/v1/models/${'0'.repeat(64)}`).expect(404)
})

test('a model is deleted once, and not while a job uses it', async (t) => {
  const { call } = httpApp(t)
  const { body } = await call('put', '/v1/models/a').send(Buffer.from('a'))
  const job = await call('post', '/v1/jobs').send({ model: body.id, recipe: 'int8' }).expect(202)
  const inUse = await call('delete', body.links.self).expect(409)
  assert.equal(inUse.body.code, 'conflict')
  await call('delete', job.body.links.self).expect(200)
  await call('delete', body.links.self).expect(204)
  await call('delete', body.links.self).expect(404)
})
