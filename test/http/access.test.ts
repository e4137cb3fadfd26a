// API keys on every route: who is let in, what those who are not are told, and that nothing is read from them before.

import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { type TestContext, test } from 'node:test'
import { parseApiKeys, SCOPE_NAMES, type Scope } from '../../src/access/api-key.ts'
import { fixedRing } from '../../src/access/key-ring.ts'
import { loadConfig } from '../../src/config.ts'
import { closeServer, listen } from '../../src/http/server.ts'
import { httpApp } from '../support/http-app.ts'

const secretOf = (scope: string) => `${scope}-key-0123456789-0123456789-0123456789`
const KEYS = parseApiKeys(SCOPE_NAMES.map((scope) => `${scope}-key:${scope}:${secretOf(scope)}`).join('\n'), 'test')

function keyedApp(t: TestContext, limits: Parameters<typeof httpApp>[1] = {}) {
  return httpApp(t, limits, {}, fixedRing(KEYS))
}

const bearer = (scope: Scope) => `Bearer ${secretOf(scope)}`
const basic = (scope: Scope, user = '') => `Basic ${Buffer.from(`${user}:${secretOf(scope)}`).toString('base64')}`

/** What each call needs, spelt out: a new route has to be added here, with a decision. */
const NEEDS: Record<string, Scope | 'open'> = {
  'post /v1/compress': 'submit',
  'post /v1/models': 'submit',
  'put /v1/models/{id}': 'submit',
  'get /v1/models': 'read',
  'get /v1/models/{id}': 'read',
  'get /v1/models/{id}/tensors': 'read',
  'get /v1/models/{id}/histogram': 'read',
  'delete /v1/models/{id}': 'admin',
  'post /v1/datasets': 'submit',
  'get /v1/datasets': 'read',
  'get /v1/datasets/{id}': 'read',
  'delete /v1/datasets/{id}': 'admin',
  'options /v1/uploads': 'open',
  'post /v1/uploads': 'submit',
  'head /v1/uploads/{id}': 'submit',
  'get /v1/uploads/{id}': 'submit',
  'patch /v1/uploads/{id}': 'submit',
  'delete /v1/uploads/{id}': 'submit',
  'post /v1/upload-sets': 'submit',
  'post /v1/plans': 'read',
  'post /v1/jobs': 'submit',
  'post /v1/jobs/{id}/webhook/redeliver': 'submit',
  'get /v1/jobs': 'read',
  'get /v1/jobs/{id}': 'read',
  'delete /v1/jobs/{id}': 'submit',
  'get /v1/jobs/{id}/events': 'read',
  'get /v1/jobs/{id}/report': 'read',
  'get /v1/jobs/{id}/artifact': 'read',
  'get /v1/jobs/{id}/artifacts': 'read',
  'get /v1/jobs/{id}/artifacts/{name}': 'read',
  'get /healthz': 'open',
  'get /readyz': 'open',
  'get /metrics': 'metrics',
  'get /': 'open',
  'get /openapi.json': 'open',
  'get /docs': 'open',
  'get /docs/{file}': 'open',
}

test('every route names the scope that it was decided to need', (t) => {
  const { routes } = keyedApp(t)
  const found = Object.fromEntries(routes.map(({ method, path, scope }) => [`${method} ${path}`, scope]))
  assert.deepEqual(found, NEEDS)
})

test('every route that is not open answers 401 without a key, 403 with a key of other scopes, and lets its scope and admin in', async (t) => {
  const { routes, call } = keyedApp(t)
  for (const { method, path, scope } of routes) {
    const url = path.replace('{file}', 'page.css').replaceAll(/\{\w+\}/g, 'x')
    const where = `${method} ${url}`
    const without = await call(method, url)
    if (scope === 'open') {
      assert.ok(without.status < 400, `${where}: ${without.status}`)
      continue
    }
    assert.equal(without.status, 401, where)
    // The answer to HEAD has no body that could say more.
    const hasBody = method !== 'head'
    if (hasBody) {
      assert.equal(without.body.code, 'unauthorized', where)
      assert.deepEqual(without.body.context, { scope }, where)
    }
    assert.equal(
      without.headers['www-authenticate'],
      'Bearer realm="Tensorpress", Basic realm="Tensorpress", charset="UTF-8"',
      where,
    )
    for (const has of SCOPE_NAMES) {
      const response = await call(method, url).set('authorization', bearer(has))
      if (has === scope || has === 'admin') {
        assert.ok(![401, 403].includes(response.status), `${where} with ${has}: ${response.status}`)
        continue
      }
      assert.equal(response.status, 403, `${where} with ${has}`)
      if (!hasBody) continue
      assert.equal(response.body.code, 'forbidden', where)
      assert.deepEqual(response.body.context, { scope, key: `${has}-key`, has: [has] }, where)
    }
  }
})

test('the key comes as Bearer in any case, or as the password of Basic under any user name', async (t) => {
  const { call } = keyedApp(t)
  const list = (authorization: string) => call('get', '/v1/models').set('authorization', authorization)
  for (const header of [
    bearer('read'),
    bearer('read').replace('Bearer', 'bearer'),
    bearer('read').replace(' ', '   '),
    basic('read'),
    basic('read', 'anna'),
    basic('read').replace('Basic', 'BASIC'),
  ]) {
    await list(header).expect(200)
  }
})

test('anything else is 401, and what was sent is repeated neither in the answer nor in a log line', async (t) => {
  const { call, lines } = keyedApp(t)
  const wrong = `wrong-${secretOf('read')}`
  for (const header of [
    `Bearer ${wrong}`,
    `Bearer ${secretOf('read')} x`,
    `Bearer ${secretOf('read').toUpperCase()}`,
    `Bearer ${KEYS[0]!.hash.toString('hex')}`,
    'Bearer',
    `Basic ${secretOf('read')}`,
    `Basic ${Buffer.from(secretOf('read')).toString('base64')}`,
    `Basic ${Buffer.from(`${secretOf('read')}:`).toString('base64')}`,
    `Basic ${Buffer.from(`x:${wrong}`).toString('base64')}`,
    `Digest username="${wrong}"`,
    secretOf('read'),
  ]) {
    const response = await call('get', '/v1/models').set('authorization', header)
    assert.equal(response.status, 401, header)
    assert.ok(!response.text.includes('0123456789'), header)
  }
  assert.ok(!JSON.stringify(lines).includes('0123456789'))
  assert.ok(!JSON.stringify(lines).includes(Buffer.from(`x:${wrong}`).toString('base64')))
})

test('a key in the query string is not a key', async (t) => {
  const { call } = keyedApp(t)
  await call('get', `/v1/models?key=${secretOf('read')}&access_token=${secretOf('read')}`).expect(401)
})

test('unknown paths and methods are what they are, with or without a key', async (t) => {
  const { call } = keyedApp(t)
  await call('get', '/v1/nothing').expect(404)
  await call('patch', '/v1/jobs/1').expect(405)
  await call('options', '/v1/jobs').expect(204)
})

test('readyz says without a key no more than whether it is ready; scopes read and metrics see why', async (t) => {
  const { call, service } = keyedApp(t)
  assert.deepEqual((await call('get', '/readyz').expect(200)).body, { status: 'ready' })
  assert.deepEqual((await call('get', '/readyz').set('authorization', bearer('submit')).expect(200)).body, {
    status: 'ready',
  })
  for (const scope of ['read', 'metrics', 'admin'] as const) {
    const { body } = await call('get', '/readyz').set('authorization', bearer(scope)).expect(200)
    assert.deepEqual([body.access, body.device.adapter], ['keys', 'llvmpipe (LLVM 19)'])
  }
  service.healthChanges = { ready: false, draining: true }
  assert.deepEqual((await call('get', '/readyz').expect(503)).body, { status: 'not_ready' })
})

test('the front page shows device and queue with a key only, and curl lines that send one', async (t) => {
  const { call } = keyedApp(t)
  const page = await call('get', '/').expect(200)
  assert.ok(!page.text.includes('llvmpipe'))
  assert.match(page.text, /curl -f -H "Authorization: Bearer \$KEY" -F model=@model\.onnx/)
  const seen = await call('get', '/').set('authorization', basic('read')).expect(200)
  assert.match(seen.text, /llvmpipe/)
})

test('without keys readyz and metrics say how the server can be reached', async (t) => {
  const { call } = httpApp(t)
  assert.equal((await call('get', '/readyz').expect(200)).body.access, 'loopback')
  assert.match((await call('get', '/metrics').expect(200)).text, /^tensorpress_insecure 0$/m)
  const { call: open } = httpApp(t, {}, { TENSORPRESS_HOST: '0.0.0.0', TENSORPRESS_INSECURE: '1' })
  assert.equal((await open('get', '/readyz').expect(200)).body.access, 'insecure')
  assert.match((await open('get', '/metrics').expect(200)).text, /^tensorpress_insecure 1$/m)
  const { call: keyed } = keyedApp(t)
  const { text } = await keyed('get', '/metrics').set('authorization', bearer('metrics')).expect(200)
  assert.match(text, /^tensorpress_api_keys 4$/m)
  assert.match(text, /^tensorpress_api_keys_current 1$/m)
})

async function listening(t: TestContext, app: http.RequestListener) {
  const { server, url } = await listen(app, loadConfig({ TENSORPRESS_PORT: '0' }))
  t.after(() => closeServer(server, 0))
  return Number(new URL(url).port)
}

test('who may not upload is answered before the body is read, and never told to go on', async (t) => {
  const { app, service } = keyedApp(t)
  const port = await listening(t, app)
  const head = (authorization: string) =>
    `PUT /v1/models/x HTTP/1.1\r\nHost: localhost\r\n${authorization}Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n`
  const first = async (text: string) => {
    const socket = net.connect(port, '127.0.0.1')
    t.after(() => socket.destroy())
    socket.on('error', () => {})
    socket.write(text)
    return new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(String(chunk))))
  }
  assert.match(await first(head('')), /^HTTP\/1\.1 401 Unauthorized\r\n/)
  assert.match(await first(head(`Authorization: ${bearer('read')}\r\n`)), /^HTTP\/1\.1 403 Forbidden\r\n/)
  assert.deepEqual(service.leftovers(), [])
  assert.equal(await first(head(`Authorization: ${bearer('submit')}\r\n`)), 'HTTP/1.1 100 Continue\r\n\r\n')
})

test('a body of gigabytes without a key costs one answer', async (t) => {
  const { app, service } = keyedApp(t)
  const port = await listening(t, app)
  const request = http.request({ port, method: 'POST', path: '/v1/jobs', headers: { 'content-length': 4e9 } })
  t.after(() => request.destroy())
  request.on('error', () => {})
  request.write(Buffer.alloc(1_000_000))
  const response = await new Promise<http.IncomingMessage>((resolve) => request.once('response', resolve))
  assert.equal(response.statusCode, 401)
  assert.deepEqual(service.requests, [])
})

async function asks(app: ReturnType<typeof keyedApp>, scope: Scope, idempotencyKey: string) {
  const model = await app
    .call('put', '/v1/models/net.onnx')
    .set('authorization', bearer('submit'))
    .send(Buffer.from('weights'))
  return app
    .call('post', '/v1/jobs')
    .set('authorization', bearer(scope))
    .set('idempotency-key', idempotencyKey)
    .send({ model: model.body.id, recipe: 'int8' })
    .expect(202)
}

test('the same Idempotency-Key of two keys means two jobs, and neither hears of the other', async (t) => {
  const app = keyedApp(t)
  const first = await asks(app, 'submit', 'release-1')
  const second = await asks(app, 'admin', 'release-1')
  assert.notEqual(first.body.id, second.body.id)
  assert.deepEqual([first.body.submittedBy, second.body.submittedBy], ['submit-key', 'admin-key'])
  assert.equal((await asks(app, 'submit', 'release-1')).headers['idempotency-replayed'], 'true')
})

test('a job is cancelled by the key that asked for it or by an admin, by nobody else', async (t) => {
  const app = keyedApp(t)
  const own = await asks(app, 'submit', 'a')
  const foreign = await asks(app, 'admin', 'b')
  const cancel = (id: string, scope: Scope) => app.call('delete', `/v1/jobs/${id}`).set('authorization', bearer(scope))
  const refused = await cancel(foreign.body.id, 'submit').expect(403)
  assert.deepEqual(refused.body.context, { scope: 'admin', key: 'submit-key', job: foreign.body.id })
  await cancel(own.body.id, 'submit').expect(200)
  await cancel(foreign.body.id, 'admin').expect(200)
})

test('no answer carries a CORS header, whatever origin asks for what', async (t) => {
  const { routes, call } = keyedApp(t)
  for (const { method, path } of routes) {
    const url = path.replaceAll(/\{\w+\}/g, 'x')
    for (const verb of [method, 'options'] as const) {
      const response = await call(verb, url)
        .set('origin', 'https://evil.example')
        .set('access-control-request-method', 'PUT')
        .set('access-control-request-headers', 'authorization')
      const cors = Object.keys(response.headers).filter((name) => name.startsWith('access-control-'))
      assert.deepEqual(cors, [], `${verb} ${url}`)
    }
  }
})
