// Webhooks seen from the service: what a receiver gets, what the job shows, whose secret signs, kill -9 between attempts.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JobView, Service } from '../../src/jobs/service.ts'
import { KEEP_EVERYTHING } from '../../src/store/retention.ts'
import { verifyDelivery } from '../../src/webhooks/signature.ts'
import { startServiceProcess } from '../support/crash-server.ts'
import { ended, fakeRecipe, LOCAL_WEBHOOKS, startService, uploadModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { startReceiver } from '../support/webhook-receiver.ts'

const OWN_SECRET = 'a-secret-of-this-job'

async function webhookReached(service: Service, id: string, state: string): Promise<JobView> {
  const deadline = Date.now() + 10_000
  for (;;) {
    const job = await service.jobs.get(id)
    if (job.webhook?.state === state) return job
    assert.ok(Date.now() < deadline, JSON.stringify(job.webhook))
    await sleep(5)
  }
}

test('the receiver gets the job as the API shows it, signed with the secret of the job or else of the server', async (t) => {
  const receiver = await startReceiver(t)
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir, webhooks: LOCAL_WEBHOOKS })
  const { id: modelId } = await uploadModel(service)
  for (const [index, secret] of [OWN_SECRET, undefined].entries()) {
    const webhook = { url: receiver.url, ...(secret === undefined ? {} : { secret }) }
    const { job } = await service.jobs.create({ modelId, recipe: 'int8', webhook })
    assert.deepEqual([job.webhook?.state, job.webhook?.origin], ['waiting', `http://127.0.0.1:${receiver.port}`])
    const done = await webhookReached(service, job.id, 'delivered')
    const { headers, body } = receiver.received[index]!
    const event = JSON.parse(body)
    assert.deepEqual(
      [event.id, event.type, event.createdAt, event.job.id, event.job.state],
      [done.webhook?.eventId, 'job.ended', done.finishedAt, job.id, 'succeeded'],
    )
    assert.equal(event.job.links.artifact, `/v1/jobs/${job.id}/artifact`)
    const signature = String(headers['tensorpress-signature'])
    assert.equal(verifyDelivery(secret ?? LOCAL_WEBHOOKS.secret!, body, signature), true)
    assert.doesNotMatch(JSON.stringify(done), /s3cret|a-secret-of/)
    assert.doesNotMatch(body, /s3cret|a-secret-of/)
  }
  await service.close()
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  const rows = db.prepare('SELECT url, secret, origin FROM webhook_deliveries').all()
  const forgotten = { url: '', secret: null, origin: `http://127.0.0.1:${receiver.port}` }
  assert.deepEqual(
    rows.map((row) => ({ ...row })),
    [forgotten, forgotten],
  )
  db.close()
  for (const name of ['catalog.sqlite', 'catalog.sqlite-wal']) {
    try {
      const bytes = readFileSync(join(dataDir, name))
      for (const secret of [OWN_SECRET, 'token=s3cret']) assert.equal(bytes.includes(secret), false, secret)
    } catch (error) {
      assert.match(String(error), /ENOENT/)
    }
  }
})

test('failed and cancelled jobs tell their receivers too', async (t) => {
  const receiver = await startReceiver(t)
  const service = await startService(t, { dataDir: tempFolder(t), webhooks: LOCAL_WEBHOOKS })
  const { id: modelId } = await uploadModel(service)
  const webhook = { url: receiver.url }
  const failing = await service.jobs.create({ modelId, recipe: fakeRecipe('refuse'), webhook })
  await webhookReached(service, failing.job.id, 'delivered')
  const slow = await service.jobs.create({ modelId, recipe: fakeRecipe('slow-60000') })
  const waiting = await service.jobs.create({ modelId, recipe: 'int8', webhook })
  await service.jobs.cancel(waiting.job.id)
  await webhookReached(service, waiting.job.id, 'delivered')
  await service.jobs.cancel(slow.job.id)
  const states = receiver.received.map(({ body }) => JSON.parse(body).job)
  assert.deepEqual(
    states.map(({ state, error }) => [state, error.code]),
    [
      ['failed', 'format_invalid'],
      ['cancelled', 'cancelled'],
    ],
  )
  assert.equal((await service.jobs.get(slow.job.id)).webhook, null)
})

test('a webhook that may not be is refused with the job, and the job is not created', async (t) => {
  const service = await startService(t, {
    dataDir: tempFolder(t),
    webhooks: { ...LOCAL_WEBHOOKS, secret: null, allow: [] },
  })
  const { id: modelId } = await uploadModel(service)
  const create = (webhook: { url: string; secret?: string }) =>
    service.jobs.create({ modelId, recipe: 'int8', webhook })
  const secret = OWN_SECRET
  await assert.rejects(create({ url: 'https://169.254.169.254/latest/', secret }), { code: 'webhook_target_forbidden' })
  await assert.rejects(create({ url: 'http://hooks.example.com/', secret }), { code: 'webhook_target_forbidden' })
  await assert.rejects(create({ url: 'gopher://x/', secret }), { code: 'request_invalid' })
  await assert.rejects(create({ url: 'https://hooks.example.com/' }), {
    code: 'request_invalid',
    message: /webhook\.secret is missing/,
  })
  assert.deepEqual((await service.jobs.list({ limit: 9, cursor: null })).items, [])
})

test('an idempotency key covers the webhook', async (t) => {
  const receiver = await startReceiver(t)
  const service = await startService(t, { dataDir: tempFolder(t), webhooks: LOCAL_WEBHOOKS })
  const { id: modelId } = await uploadModel(service)
  const request = { modelId, recipe: 'int8', webhook: { url: receiver.url } }
  const options = { idempotencyKey: 'k' }
  const first = await service.jobs.create(request, options)
  assert.equal((await service.jobs.create(request, options)).replayed, true)
  const others = [
    { modelId, recipe: 'int8' },
    { ...request, webhook: { url: receiver.url, secret: OWN_SECRET } },
  ]
  for (const other of others)
    await assert.rejects(service.jobs.create(other, options), { code: 'idempotency_key_reused' })
  await webhookReached(service, first.job.id, 'delivered')
  await sleep(50)
  assert.equal(receiver.received.length, 1)
})

test('a delivery that was given up is made again when it is asked for', async (t) => {
  const receiver = await startReceiver(t)
  receiver.answer = (response) => response.writeHead(404).end()
  const settings = { ...LOCAL_WEBHOOKS.settings, attempts: 2 }
  const outcomes: string[] = []
  const dataDir = tempFolder(t)
  const service = await startService(t, {
    dataDir,
    webhooks: { ...LOCAL_WEBHOOKS, settings },
    hooks: { webhookAttempted: (outcome) => outcomes.push(outcome) },
  })
  const { id: modelId } = await uploadModel(service)
  const { job } = await service.jobs.create({ modelId, recipe: 'int8', webhook: { url: receiver.url } })
  const dead = await webhookReached(service, job.id, 'dead')
  assert.deepEqual([dead.state, dead.webhook?.attempts, dead.webhook?.lastStatus], ['succeeded', 2, 404])
  assert.deepEqual((await service.health()).webhooks, { pending: 0, dead: 1 })
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'), { readOnly: true })
  assert.match(String(db.prepare('SELECT url FROM webhook_deliveries').get()?.['url']), /^1\.[\w-]+$/, 'sealed')
  db.close()
  receiver.answer = (response) => response.writeHead(204).end()
  assert.equal((await service.jobs.redeliverWebhook(job.id)).webhook?.state, 'pending')
  await webhookReached(service, job.id, 'delivered')
  assert.deepEqual(outcomes, ['refused', 'refused', 'delivered'])
  await assert.rejects(service.jobs.redeliverWebhook(job.id), {
    code: 'conflict',
    message: /was delivered, and its URL/,
  })
  const bare = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  await assert.rejects(service.jobs.redeliverWebhook(bare.id), { code: 'conflict', message: /no webhook/ })
  await assert.rejects(service.jobs.redeliverWebhook('none'), { code: 'not_found' })
})

test('a job whose webhook is still to be delivered is not removed by retention', async (t) => {
  const receiver = await startReceiver(t)
  receiver.answer = (response) => response.writeHead(500).end()
  const policy = { ...KEEP_EVERYTHING, maxAgeMs: { ...KEEP_EVERYTHING.maxAgeMs, job: 1 } }
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir, webhooks: LOCAL_WEBHOOKS, retention: { policy, sweepEveryMs: 5 } })
  const { id: modelId } = await uploadModel(service)
  const { job } = await service.jobs.create({ modelId, recipe: 'int8', webhook: { url: receiver.url } })
  await receiver.reached(3)
  assert.equal((await service.jobs.get(job.id)).state, 'succeeded')
  receiver.answer = (response) => response.writeHead(200).end()
  while ((await service.jobs.list({ limit: 1, cursor: null })).items.length > 0) await sleep(5)
  await service.close()
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  assert.equal(db.prepare('SELECT count(*) AS n FROM webhook_deliveries').get()?.['n'], 0)
  db.close()
})

test('kill -9 between attempts, over and over: the event arrives, always under its one id', async (t) => {
  const receiver = await startReceiver(t)
  receiver.answer = (response) => response.writeHead(503).end()
  const dataDir = tempFolder(t)
  let modelId = ''
  let jobId = ''
  for (let kill = 0; kill < 3; kill++) {
    const server = startServiceProcess(dataDir)
    await server.ready
    if (kill === 0) {
      modelId = (await server.ask({ op: 'upload', seed: 1 })) as string
      const request = { op: 'job', modelId, recipe: 'int8', key: 'k', webhook: receiver.url } as const
      jobId = (await server.ask(request)) as string
    }
    await receiver.reached(receiver.received.length + 2)
    await server.kill()
    // An attempt that the kill cut is made again when its lease is over, after 22 s: it is let run out here.
    const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
    db.prepare('UPDATE webhook_deliveries SET next_attempt_at = ?').run(new Date().toISOString())
    db.close()
  }
  receiver.answer = (response) => response.writeHead(200).end()
  const before = receiver.received.length
  const service = await startService(t, { dataDir, webhooks: LOCAL_WEBHOOKS })
  const job = await webhookReached(service, jobId, 'delivered')
  assert.equal(receiver.received.length, before + 1)
  assert.ok(job.webhook!.attempts >= 7, `${job.webhook!.attempts}`)
  const ids = new Set(receiver.received.map(({ headers }) => headers['tensorpress-event']))
  assert.deepEqual([...ids], [job.webhook?.eventId])
  for (const { body, headers } of receiver.received) {
    assert.equal(verifyDelivery(LOCAL_WEBHOOKS.secret!, body, String(headers['tensorpress-signature'])), true)
  }
})
