// Webhooks over HTTP: the field of a job and of /v1/compress, its view, redelivery; and the docs' snippet for receivers.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { signDelivery } from '../../src/webhooks/signature.ts'
import { httpApp, type TestApp } from '../support/http-app.ts'
import { tempFolder } from '../support/temp-folder.ts'

const WEBHOOK = { url: 'https://hooks.example.com/t/0815?key=9', secret: 'a-secret-of-this-job' }

async function uploaded({ call }: TestApp): Promise<string> {
  return (await call('put', '/v1/models/m.onnx').send(Buffer.from('model')).expect(201)).body.id as string
}

test('a job takes a webhook, and shows where it goes and how it stands, never its path or secret', async (t) => {
  const app = httpApp(t)
  const model = await uploaded(app)
  const { body, text } = await app
    .call('post', '/v1/jobs')
    .send({ model, recipe: 'int8', webhook: WEBHOOK })
    .expect(202)
  assert.deepEqual(app.service.requests[0]?.webhook, WEBHOOK)
  assert.deepEqual([body.webhook.origin, body.webhook.state], ['https://hooks.example.com', 'waiting'])
  assert.doesNotMatch(text + JSON.stringify(app.lines), /0815|a-secret-of/)
  const without = await app.call('post', '/v1/jobs').send({ model, recipe: 'int8' }).expect(202)
  assert.equal(without.body.webhook, null)
})

test('a webhook with an unknown field, a short secret or no URL is refused by name', async (t) => {
  const app = httpApp(t)
  const model = await uploaded(app)
  const cases = [
    [{ ...WEBHOOK, retries: 3 }, 'body.webhook.retries'],
    [{ ...WEBHOOK, secret: 'short' }, 'body.webhook.secret'],
    [{ secret: WEBHOOK.secret }, 'body.webhook.url'],
    ['https://hooks.example.com/', 'body.webhook'],
  ] as const
  for (const [webhook, path] of cases) {
    const { body } = await app.call('post', '/v1/jobs').send({ model, recipe: 'int8', webhook }).expect(400)
    assert.equal(body.context.path, path)
  }
})

test('/v1/compress takes the webhook as JSON text', async (t) => {
  const app = httpApp(t)
  await app
    .call('post', '/v1/compress')
    .set('Prefer', 'respond-async')
    .field('recipe', 'int8')
    .field('webhook', JSON.stringify(WEBHOOK))
    .attach('model', Buffer.from('model'), 'm.onnx')
    .expect(202)
  assert.deepEqual(app.service.requests[0]?.webhook, WEBHOOK)
  const { body } = await app
    .call('post', '/v1/compress')
    .field('recipe', 'int8')
    .field('webhook', 'https://hooks.example.com/')
    .attach('model', Buffer.from('model'), 'm.onnx')
    .expect(400)
  assert.equal(body.context.path, 'body.webhook')
})

test('redelivery answers 202 once the job has ended, 409 before or without a webhook', async (t) => {
  const app = httpApp(t)
  const model = await uploaded(app)
  const { body } = await app.call('post', '/v1/jobs').send({ model, recipe: 'int8', webhook: WEBHOOK })
  const path = `/v1/jobs/${body.id}/webhook/redeliver`
  await app.call('post', path).expect(409)
  app.service.succeed(body.id, { 'm.onnx': 'x' })
  const again = await app.call('post', path).expect(202)
  assert.equal(again.body.webhook.state, 'pending')
  const bare = await app.call('post', '/v1/jobs').send({ model, recipe: 'int8' })
  await app.call('post', `/v1/jobs/${bare.body.id}/webhook/redeliver`).expect(409)
})

test('an expired artifact answers 410, and its job says so', async (t) => {
  const app = httpApp(t)
  const model = await uploaded(app)
  const { body } = await app.call('post', '/v1/jobs').send({ model, recipe: 'int8' })
  app.service.succeed(body.id, { 'm.onnx': 'x' }, { verdict: {} })
  app.service.expireArtifact(body.id)
  for (const path of ['artifact', 'artifacts', 'artifacts/m.onnx']) {
    const gone = await app.call('get', `/v1/jobs/${body.id}/${path}`).expect(410)
    assert.equal(gone.body.code, 'artifact_expired')
  }
  const job = await app.call('get', `/v1/jobs/${body.id}`).expect(200)
  assert.deepEqual([job.body.artifact, job.body.artifactExpired, job.body.links.artifact], [null, true, null])
  assert.equal(job.body.links.report, `/v1/jobs/${body.id}/report`)
})

test('metrics show what is stored, the cap, and webhooks that are not delivered', async (t) => {
  const { call } = httpApp(t)
  const { text } = await call('get', '/metrics').expect(200)
  for (const line of [
    'tensorpress_store_bytes{kind="model"} 4000',
    'tensorpress_store_bytes{kind="document"} 1',
    'tensorpress_store_quota_bytes 10000000000',
    'tensorpress_webhooks{state="pending"} 3',
    'tensorpress_webhooks{state="dead"} 1',
    'tensorpress_webhook_attempts_total{outcome="forbidden"} 0',
    'tensorpress_expired_total{kind="artifact",reason="quota"} 0',
  ]) {
    assert.ok(text.includes(`${line}\n`), line)
  }
})

test('the receivers of docs/api.md take a delivery as it is signed, and refuse a changed one', (t) => {
  const docs = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'api.md'), 'utf8')
  const folder = tempFolder(t)
  const secret = 'whsec-0123456789abcdef'
  const body = '{"id":"e","type":"job.ended"}'
  const signature = signDelivery(secret, body, Math.floor(Date.now() / 1000))
  const snippets = {
    js: { run: [process.execPath], call: (args: string) => `\nconsole.log(verify(${args}) ? 'yes' : 'no')\n` },
    python: { run: ['python3'], call: (args: string) => `\nprint('yes' if verify(${args}) else 'no')\n` },
  }
  for (const [language, { run, call }] of Object.entries(snippets)) {
    const code = new RegExp(`\`\`\`${language}\n(.*?verify.*?)\`\`\``, 's').exec(docs)?.[1]
    assert.ok(code, `docs/api.md has no receiver in ${language}`)
    if (spawnSync(run[0]!, ['--version']).status !== 0) {
      t.diagnostic(`${run[0]} is not installed: its receiver was not run`)
      continue
    }
    for (const [text, expected] of [
      [body, 'yes'],
      [`${body} `, 'no'],
    ] as const) {
      const path = join(folder, language === 'js' ? 'verify.mjs' : 'verify.py')
      writeFileSync(path, code + call([secret, text, signature].map((value) => JSON.stringify(value)).join(', ')))
      const { stdout, stderr } = spawnSync(run[0]!, [path], { encoding: 'utf8' })
      assert.equal(stdout.trim(), expected, stderr)
    }
  }
})
