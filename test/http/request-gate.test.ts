// Requests in work: how many there may be, of all callers and of one, and that probes are answered all the same.

import assert from 'node:assert/strict'
import http from 'node:http'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseApiKeys } from '../../src/access/api-key.ts'
import { fixedRing } from '../../src/access/key-ring.ts'
import { httpApp, listening, type TestApp } from '../support/http-app.ts'

const SECRET = (name: string) => `${name}-0123456789-0123456789-0123456789`
const KEYS = ['a', 'b', 'm'].map((name) => `${name}:${name === 'm' ? 'metrics' : 'submit,read'}:${SECRET(name)}`)

/** Opens event streams on a job that does not move, and resolves once each has begun. */
async function followers(
  t: TestContext,
  port: number,
  path: string,
  count: number,
  headers: Record<string, string> = {},
) {
  const open: http.ClientRequest[] = []
  for (let index = 0; index < count; index++) {
    const request = http.get({ port, path, headers, agent: false })
    request.on('error', () => {})
    t.after(() => request.destroy())
    const response = await new Promise<http.IncomingMessage>((resolve) => request.once('response', resolve))
    assert.equal(response.statusCode, 200)
    response.resume()
    open.push(request)
  }
  return open
}

async function queuedJob({ call }: TestApp, headers: Record<string, string> = {}): Promise<string> {
  const model = await call('put', '/v1/models/net.onnx').set(headers).send(Buffer.from('weights'))
  const job = await call('post', '/v1/jobs').set(headers).send({ model: model.body.id, recipe: 'int8' }).expect(202)
  return `/v1/jobs/${job.body.id}/events`
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    if (await condition()) return
    await sleep(10)
  }
  throw new Error('not within 3 s')
}

test('beyond parallelRequests the answer is 503 with Retry-After and the limit; probes and metrics are answered', async (t) => {
  const app = httpApp(t, { parallelRequests: 3 })
  const path = await queuedJob(app)
  const port = await listening(t, app.app)
  const open = await followers(t, port, path, 3)
  const refused = await app.call('get', '/v1/models').expect(503)
  assert.equal(refused.headers['retry-after'], '5')
  assert.equal(refused.body.code, 'overloaded')
  assert.deepEqual(refused.body.context, { limit: 'parallelRequests', allowed: 3, requested: 4 })
  await app.call('get', '/healthz').expect(200)
  await app.call('get', '/readyz').expect(200)
  assert.match((await app.call('get', '/metrics').expect(200)).text, /^tensorpress_http_requests_in_work 3$/m)
  open[0]!.destroy()
  await until(async () => (await app.call('get', '/v1/models')).status === 200)
})

test('a refused upload is refused before its body is read', async (t) => {
  const app = httpApp(t, { parallelRequests: 1 })
  const path = await queuedJob(app)
  const port = await listening(t, app.app)
  await followers(t, port, path, 1)
  const upload = http.request({ port, method: 'PUT', path: '/v1/models/x', headers: { 'content-length': 4e9 } })
  t.after(() => upload.destroy())
  upload.on('error', () => {})
  upload.write(Buffer.alloc(1000))
  const response = await new Promise<http.IncomingMessage>((resolve) => upload.once('response', resolve))
  assert.equal(response.statusCode, 503)
  assert.deepEqual(app.service.leftovers(), [])
})

test('one key, and all callers without one, may have so many in work; other keys go on', async (t) => {
  const app = httpApp(t, { requestsPerKey: 2 }, {}, fixedRing(parseApiKeys(KEYS.join(' '), 'test')))
  const of = (name: string) => ({ authorization: `Bearer ${SECRET(name)}` })
  const path = await queuedJob(app, of('a'))
  const port = await listening(t, app.app)
  await followers(t, port, path, 2, of('a'))
  const refused = await app.call('get', '/v1/models').set(of('a')).expect(429)
  assert.equal(refused.headers['retry-after'], '5')
  assert.deepEqual(refused.body.context, { limit: 'requestsPerKey', allowed: 2, requested: 3 })
  await app.call('get', '/v1/models').set(of('b')).expect(200)
  await app.call('get', '/docs').expect(200)
  await app.call('get', '/metrics').set(of('m')).expect(200)
  await app.call('get', '/v1/models').expect(401)
})

test('without keys only the whole number counts', async (t) => {
  const app = httpApp(t, { requestsPerKey: 1, parallelRequests: 3 })
  const path = await queuedJob(app)
  const port = await listening(t, app.app)
  await followers(t, port, path, 2)
  await app.call('get', '/v1/models').expect(200)
})
