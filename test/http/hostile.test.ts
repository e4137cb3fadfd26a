// Input that nobody sends by accident: whatever it is, the answer is a documented problem and never a 500 or a hang.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { httpApp } from '../support/http-app.ts'

const TYPE = 'content-type'
const multipart = 'multipart/form-data; boundary=b'
const filePart = (name: string, fileName: string, content = 'x') =>
  `--b\r\nContent-Disposition: form-data; name="${name}"; filename="${fileName}"\r\n\r\n${content}\r\n`
const textPart = (name: string, value: string) =>
  `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`

test('names of Object.prototype are unknown parts, files and ids like any other', { timeout: 20_000 }, async (t) => {
  const { call, service } = httpApp(t)
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    const file = await call('post', '/v1/compress')
      .set(TYPE, multipart)
      .send(`${filePart('model', 'm')}${filePart(name, 'f')}--b--\r\n`)
    assert.equal(file.status, 400, name)
    assert.equal(file.body.context.path, name)
    const text = await call('post', '/v1/compress')
      .set(TYPE, multipart)
      .send(`${filePart('model', 'm')}${textPart(name, 'v')}${textPart('recipe', 'int8')}--b--\r\n`)
    assert.equal(text.status, 400, name)
    await call('get', `/docs/${name}`).expect(404)
    await call('get', `/v1/jobs/${name}`).expect(404)
    await call('get', `/v1/models?${name}=1`).expect(400)
  }
  assert.deepEqual(service.leftovers(), [])
  assert.deepEqual(service.requests, [])
})

test('nested and bracketed field names are refused', async (t) => {
  const { call } = httpApp(t)
  for (const name of ['recipe[steps][0]', 'recipe[]', 'recipe[__proto__][x]', 'recipe[1000000]']) {
    const response = await call('post', '/v1/compress')
      .set(TYPE, multipart)
      .send(`${filePart('model', 'm')}${textPart(name, 'int8')}--b--\r\n`)
    assert.equal(response.status, 400, name)
  }
})

test('a field name, a header block and a text beyond their limits are refused', async (t) => {
  const { call } = httpApp(t, { jsonBytes: 1024 })
  const long = await call('post', '/v1/compress')
    .set(TYPE, multipart)
    .send(`${filePart('model', 'm')}${textPart('r'.repeat(200), 'x')}--b--\r\n`)
  assert.equal(long.status, 400)
  const text = await call('post', '/v1/compress')
    .set(TYPE, multipart)
    .send(`${filePart('model', 'm')}${textPart('recipe', 'x'.repeat(2000))}--b--\r\n`)
  assert.equal(text.status, 413)
  assert.equal(text.body.context.limit, 'jsonBytes')
  const file = await call('post', '/v1/compress')
    .set(TYPE, multipart)
    .send(`${filePart('model', 'm')}${filePart('recipe', 'r.yaml', 'x'.repeat(2000))}--b--\r\n`)
  assert.equal(file.status, 413)
})

test('any JSON body gets 202, 400 or 404, whatever it holds', { timeout: 60_000 }, async (t) => {
  const { call } = httpApp(t)
  const model = await call('put', '/v1/models/net.onnx').send(Buffer.from('weights'))
  const field = fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.constantFrom(model.body.id, 'int8', null, true))
  const body = fc.oneof(
    fc.jsonValue({ maxDepth: 4 }),
    fc.record({ model: field, recipe: field, require: field, output: field, dataset: field }, { requiredKeys: [] }),
  )
  await fc.assert(
    fc.asyncProperty(body, async (value) => {
      const response = await call('post', '/v1/jobs')
        .set('content-type', 'application/json')
        .send(JSON.stringify(value))
      assert.ok([202, 400, 404].includes(response.status), `${response.status} for ${JSON.stringify(value)}`)
    }),
    { numRuns: 150, seed: 1 },
  )
})

test('any multipart body is answered, and leaves no file', { timeout: 60_000 }, async (t) => {
  const { call, service } = httpApp(t)
  const piece = fc.oneof(
    fc.constantFrom(
      filePart('model', 'm'),
      filePart('data', '../../x'),
      filePart('model', ''),
      textPart('recipe', 'int8'),
      '--b\r\n',
      '--b--\r\n',
      '\r\n\r\n',
      'Content-Disposition: form-data; name="model"; filename*=utf-8\'\'%ff\r\n\r\n',
    ),
    fc.string({ maxLength: 30 }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 6 }), async (pieces) => {
      const response = await call('post', '/v1/models').set(TYPE, multipart).send(pieces.join(''))
      assert.ok([200, 201, 400].includes(response.status), `${response.status} for ${JSON.stringify(pieces)}`)
      assert.deepEqual(service.leftovers(), [])
    }),
    { numRuns: 150, seed: 2 },
  )
})
