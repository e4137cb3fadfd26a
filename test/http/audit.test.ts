// The audit log: one line for each change and each refused attempt, with who, what and how it ended, and nothing secret.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { parseApiKeys } from '../../src/access/api-key.ts'
import { fixedRing } from '../../src/access/key-ring.ts'
import { auditLog, createLog } from '../../src/telemetry/log.ts'
import { httpApp, type TestApp } from '../support/http-app.ts'

const SECRET = 'deploy-0123456789-0123456789-0123456789'
const READER = 'reader-0123456789-0123456789-0123456789'
const BEARER = `Bearer ${SECRET}`

function keyedApp(t: TestContext): TestApp {
  const keys = parseApiKeys(`deploy:submit,admin:${SECRET} reader:read:${READER}`, 'test')
  return httpApp(t, {}, {}, fixedRing(keys))
}

const audited = ({ lines }: TestApp) =>
  lines
    .filter((line) => line['audit'] === true)
    .map(({ time: _, service: __, audit: ___, client: ____, ...line }) => line)

test('every change leaves one line that names key, action, target, outcome and request', async (t) => {
  const app = keyedApp(t)
  const send = (method: 'put' | 'post' | 'delete', path: string, id: string) =>
    app.call(method, path).set('authorization', BEARER).set('x-request-id', id)
  const model = await send('put', '/v1/models/secret-name.onnx', 'r-1').send(Buffer.from('weights'))
  const body = { model: model.body.id, recipe: 'int8' }
  const job = await send('post', '/v1/jobs', 'r-2').send(body).expect(202)
  await send('delete', `/v1/models/${model.body.id}?x=1`, 'r-3').expect(409)
  await send('delete', `/v1/jobs/${job.body.id}`, 'r-4').expect(200)
  await send('delete', `/v1/models/${model.body.id}`, 'r-5').expect(204)
  const line = (action: string, target: string, status: number, request_id: string, code: string | null = null) => ({
    level: 'info',
    who: 'deploy',
    action,
    target,
    outcome: status < 400 ? 'done' : 'failed',
    status,
    code,
    request_id,
    msg: 'audit',
  })
  assert.deepEqual(audited(app), [
    line('putModel', `/v1/models/${model.body.id}`, 201, 'r-1'),
    line('createJob', `/v1/jobs/${job.body.id}`, 202, 'r-2'),
    line('deleteModel', `/v1/models/${model.body.id}`, 409, 'r-3', 'conflict'),
    line('cancelJob', `/v1/jobs/${job.body.id}`, 200, 'r-4'),
    line('deleteModel', `/v1/models/${model.body.id}`, 204, 'r-5'),
  ])
})

test('reads and plans leave none, refused attempts of any kind do', async (t) => {
  const app = keyedApp(t)
  await app.call('get', '/v1/models').set('authorization', `Bearer ${READER}`).expect(200)
  await app.call('post', '/v1/plans').set('authorization', `Bearer ${READER}`).send({}).expect(400)
  await app.call('get', '/nowhere').expect(404)
  assert.deepEqual(audited(app), [])
  await app.call('get', '/v1/models?secret=1').expect(401)
  await app.call('delete', '/v1/models/x').set('authorization', `Bearer ${READER}`).expect(403)
  await app.call('get', '/v1/models').set('host', 'evil.example').expect(403)
  assert.deepEqual(
    audited(app).map(({ who, action, target, outcome, status, code }) => ({
      who,
      action,
      target,
      outcome,
      status,
      code,
    })),
    [
      { who: null, action: 'listModels', target: '/v1/models', outcome: 'refused', status: 401, code: 'unauthorized' },
      {
        who: 'reader',
        action: 'deleteModel',
        target: '/v1/models/x',
        outcome: 'refused',
        status: 403,
        code: 'forbidden',
      },
      { who: null, action: null, target: '/v1/models', outcome: 'refused', status: 403, code: 'origin_forbidden' },
    ],
  )
})

test('no line holds a key, its hash, a query or what a body held', async (t) => {
  const app = keyedApp(t)
  await app.call('put', '/v1/models/m.onnx').set('authorization', BEARER).send(Buffer.from('top-secret-weights'))
  await app.call('post', '/v1/jobs?token=in-the-query').set('authorization', BEARER).send({ recipe: 'in-the-body' })
  await app.call('post', '/v1/jobs').set('authorization', `Bearer not-${SECRET}`).expect(401)
  const text = JSON.stringify(app.lines)
  for (const secret of [SECRET, 'top-secret', 'in-the-query', 'in-the-body', 'Bearer']) {
    assert.ok(!text.includes(secret), secret)
  }
})

test('audit lines are written at log level error as well, and not when the log is silent', () => {
  for (const [level, expected] of [
    ['error', 1],
    ['silent', 0],
  ] as const) {
    const lines: string[] = []
    const log = createLog(level, { write: (line: string) => void lines.push(line) })
    auditLog(log).info({}, 'audit')
    log.info({}, 'request')
    assert.equal(lines.length, expected)
  }
})
