// Deliveries over real sockets to a receiver on this machine, which is allowed by name for that: signed, tried again, given
// up, never elsewhere, and durable.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Catalog } from '../../src/store/catalog.ts'
import { openSqliteCatalog } from '../../src/store/sqlite-catalog.ts'
import type { DeliveryRecord } from '../../src/store/webhook-catalog.ts'
import {
  type AttemptOutcome,
  createDeliveryQueue,
  type DeliveryParts,
  type DeliveryQueue,
} from '../../src/webhooks/delivery-queue.ts'
import { verifyDelivery } from '../../src/webhooks/signature.ts'
import { createTargetGuard } from '../../src/webhooks/target-guard.ts'
import { modelRow, newJob, ROOMY } from '../support/catalog-contract.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { type Receiver, startReceiver } from '../support/webhook-receiver.ts'

const SECRET = 'whsec-0123456789abcdef'
const SILENT = { info() {}, warn() {} }
const SETTINGS = { attempts: 4, timeoutMs: 2000, parallel: 4, firstPauseMs: 20, longestPauseMs: 100 }

interface Bench {
  catalog: Catalog
  queue: DeliveryQueue
  outcomes: AttemptOutcome[]
  /** A job that has ended with this webhook; its id. */
  ended(id: string, url: string): Promise<string>
  /** Once the delivery is in this state. */
  reached(id: string, state: DeliveryRecord['state']): Promise<DeliveryRecord>
}

async function bench(t: TestContext, parts: Partial<DeliveryParts> = {}, shared?: Catalog): Promise<Bench> {
  const catalog = shared ?? openSqliteCatalog(join(tempFolder(t), 'catalog.sqlite'))
  await catalog.addModel(modelRow('m'))
  const outcomes: AttemptOutcome[] = []
  const queue = createDeliveryQueue({
    catalog,
    guard: createTargetGuard(['127.0.0.1']),
    settings: SETTINGS,
    userAgent: 'tensorpress/test',
    bodyOf: async ({ jobId, eventId }) => JSON.stringify({ id: eventId, job: { id: jobId } }),
    urlOf: async ({ url }) => url,
    secretOf: async () => SECRET,
    log: SILENT,
    onAttempt: (outcome) => outcomes.push(outcome),
    random: () => 1,
    ...parts,
  })
  queue.start()
  t.after(async () => {
    await queue.close(0)
    if (shared === undefined) await catalog.close()
  })
  return {
    catalog,
    queue,
    outcomes,
    async ended(id, url) {
      const webhook = { eventId: `event-${id}`, url, origin: new URL(url).origin, secret: null }
      await catalog.enqueueJob({ ...newJob(id), webhook }, null, { ...ROOMY, maxQueued: 1000 })
      await catalog.requestCancel(id, new Date().toISOString())
      queue.wake()
      return id
    },
    async reached(id, state) {
      // Not by the wall clock, which some of these tests move.
      const deadline = performance.now() + 10_000
      for (;;) {
        const delivery = await catalog.getDelivery(id)
        if (delivery?.state === state) return delivery
        if (performance.now() > deadline) throw new Error(`still ${JSON.stringify(delivery)}`)
        await sleep(5)
      }
    },
  }
}

test('a delivery is one signed POST, and its receiver can check it', async (t) => {
  const receiver = await startReceiver(t)
  const { ended, reached, outcomes } = await bench(t)
  await ended('j', receiver.url)
  const delivery = await reached('j', 'delivered')
  assert.equal(receiver.received.length, 1)
  const [{ method, url, headers, body }] = receiver.received as [Receiver['received'][number]]
  assert.deepEqual([method, url, body], ['POST', '/hook?token=s3cret', '{"id":"event-j","job":{"id":"j"}}'])
  assert.equal(headers['content-type'], 'application/json')
  assert.equal(headers['user-agent'], 'tensorpress/test')
  assert.deepEqual([headers['tensorpress-event'], headers['tensorpress-attempt']], ['event-j', '1'])
  assert.equal(verifyDelivery(SECRET, body, String(headers['tensorpress-signature'])), true)
  const { attempts, lastStatus, lastError, nextAttemptAt } = delivery
  assert.deepEqual([attempts, lastStatus, lastError, nextAttemptAt], [1, 204, null, null])
  assert.ok(Math.abs(Date.parse(delivery.deliveredAt!) - Date.now()) < 5000)
  assert.deepEqual(outcomes, ['delivered'])
})

test('an answer other than 2xx is tried again after pauses that double, under the same event id, each time signed anew', async (t) => {
  const receiver = await startReceiver(t)
  receiver.answer = (response, index) => response.writeHead(index < 3 ? 503 : 200).end('late')
  const { ended, reached, outcomes } = await bench(t)
  await ended('j', receiver.url)
  const delivery = await reached('j', 'delivered')
  assert.deepEqual([delivery.attempts, delivery.lastStatus], [4, 200])
  assert.deepEqual(outcomes, ['refused', 'refused', 'refused', 'delivered'])
  assert.deepEqual(
    receiver.received.map(({ headers }) => [headers['tensorpress-event'], headers['tensorpress-attempt']]),
    ['1', '2', '3', '4'].map((attempt) => ['event-j', attempt]),
  )
  const gaps = receiver.received.slice(1).map(({ atMs }, index) => atMs - receiver.received[index]!.atMs)
  for (const [index, least] of [20, 40, 80].entries()) assert.ok(gaps[index]! >= least - 2, `${gaps}`)
})

test('the pause is random from nothing up to its bound, and the bound has an end', async (t) => {
  const receiver = await startReceiver(t)
  receiver.answer = (response) => response.writeHead(500).end()
  const { ended, reached } = await bench(t, {
    settings: { ...SETTINGS, attempts: 3, firstPauseMs: 60_000, longestPauseMs: 90_000 },
    random: () => 0.5,
  })
  const before = Date.now()
  await ended('j', receiver.url)
  await receiver.reached(1)
  let waits = await reached('j', 'pending')
  while (waits.lastStatus === null) {
    await sleep(5)
    waits = await reached('j', 'pending')
  }
  const pauseMs = Date.parse(waits.nextAttemptAt!) - before
  assert.ok(pauseMs >= 30_000 && pauseMs < 35_000, `${pauseMs}`)
})

test('after its last attempt a delivery is dead and says why; asked for again it starts over', async (t) => {
  const receiver = await startReceiver(t)
  receiver.answer = (response) => response.writeHead(500).end()
  const lines: string[] = []
  const keep = (fields: object, message: string) => void lines.push(JSON.stringify([fields, message]))
  const { catalog, ended, reached, queue } = await bench(t, { log: { info: keep, warn: keep } })
  await ended('j', receiver.url)
  const { attempts, lastStatus, lastError, nextAttemptAt } = await reached('j', 'dead')
  assert.deepEqual([attempts, lastStatus, lastError, nextAttemptAt], [4, 500, 'The receiver answered 500.', null])
  assert.deepEqual(await catalog.countDeliveries(), { pending: 0, dead: 1 })
  receiver.answer = (response) => response.writeHead(200).end()
  assert.equal(await catalog.redeliver('j'), 'pending')
  queue.wake()
  assert.equal((await reached('j', 'delivered')).attempts, 1)
  assert.equal(receiver.received.length, 5)
  assert.equal(lines.length, 5)
  assert.doesNotMatch(lines.join(), /s3cret|\/hook/)

  const webhook = { eventId: 'e', url: receiver.url, origin: 'http://x', secret: null }
  await catalog.enqueueJob({ ...newJob('live'), webhook }, null, ROOMY)
  assert.equal(await catalog.redeliver('live'), 'waiting')
  assert.equal(await catalog.redeliver('none'), 'missing')
})

const DAY_MS = 86_400_000

test('a wall clock that is moved back holds up no retry', { timeout: 30_000 }, async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() })
  const receiver = await startReceiver(t)
  receiver.answer = (response, index) => response.writeHead(index < 2 ? 503 : 204).end()
  const settings = { ...SETTINGS, firstPauseMs: 300, longestPauseMs: 300 }
  const { ended, reached } = await bench(t, { settings })
  await ended('j', receiver.url)
  await receiver.reached(1)
  t.mock.timers.setTime(Date.now() - DAY_MS)
  assert.equal((await reached('j', 'delivered')).attempts, 3)
})

test('a wall clock that is moved ahead makes no retry due before its pause is over', { timeout: 30_000 }, async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() })
  const receiver = await startReceiver(t)
  receiver.answer = (response) => response.writeHead(503).end()
  const settings = { ...SETTINGS, firstPauseMs: 60_000, longestPauseMs: 60_000 }
  const { catalog, queue, ended, reached } = await bench(t, { settings })
  for (const id of ['a', 'b', 'c']) await ended(id, receiver.url)
  await receiver.reached(3)
  for (const id of ['a', 'b', 'c']) while ((await catalog.getDelivery(id))?.lastStatus === null) await sleep(5)
  t.mock.timers.setTime(Date.now() + DAY_MS)
  queue.wake()
  await sleep(200)
  assert.equal(receiver.received.length, 3)
  receiver.answer = (response) => response.writeHead(204).end()
  await ended('new', receiver.url)
  await reached('new', 'delivered')
  assert.equal(receiver.received.length, 4)
})

test('after a restart nothing waits for a time that a clock ahead had written', async (t) => {
  const receiver = await startReceiver(t)
  receiver.answer = (response) => response.writeHead(503).end()
  const catalog = openSqliteCatalog(join(tempFolder(t), 'catalog.sqlite'))
  t.after(() => catalog.close())
  const ahead = () => Date.now() + DAY_MS
  const settings = { ...SETTINGS, timeoutMs: 1000, firstPauseMs: 60_000, longestPauseMs: 60_000 }
  const first = await bench(t, { settings, nowMs: ahead }, catalog)
  await first.ended('j', receiver.url)
  await receiver.reached(1)
  await first.queue.close(1000)
  assert.ok(Date.parse((await catalog.getDelivery('j'))!.nextAttemptAt!) > Date.now() + DAY_MS)
  await bench(t, { settings }, catalog)
  const { state, nextAttemptAt } = (await catalog.getDelivery('j'))!
  assert.equal(state, 'pending')
  assert.ok(Date.parse(nextAttemptAt!) <= Date.now() + 61_000, nextAttemptAt!)
})

test('a redirect is an answer and no way to another place', async (t) => {
  const receiver = await startReceiver(t)
  const inside = await startReceiver(t)
  receiver.answer = (response) => response.writeHead(307, { Location: inside.url }).end()
  const { ended, reached } = await bench(t, { settings: { ...SETTINGS, attempts: 1 } })
  await ended('j', receiver.url)
  const { lastStatus, lastError } = await reached('j', 'dead')
  assert.deepEqual([lastStatus, lastError], [307, 'The receiver answered 307; redirects are not followed.'])
  await sleep(50)
  assert.equal(inside.received.length, 0)
})

test('a name that turns to a private address is refused at the delivery, and nothing is sent', async (t) => {
  const inside = await startReceiver(t)
  let asked = 0
  const resolve = async () => {
    asked++
    return [{ address: '127.0.0.1', family: 4 as const }]
  }
  const { ended, reached, outcomes } = await bench(t, {
    guard: createTargetGuard([], resolve),
    settings: { ...SETTINGS, attempts: 2 },
  })
  await ended('j', `https://rebound.example:${inside.port}/`)
  const { lastError, lastStatus } = await reached('j', 'dead')
  assert.equal(lastStatus, null)
  assert.match(lastError!, /rebound\.example is, or resolves to, an address that is private/)
  assert.deepEqual([outcomes, asked, inside.received.length], [['forbidden', 'forbidden'], 2, 0])
})

test('the connection goes to the address that was checked, whatever DNS says a moment later', async (t) => {
  const receiver = await startReceiver(t)
  const answers = ['127.0.0.1', '192.0.2.1']
  const resolve = async () => [{ address: answers.shift() ?? '192.0.2.1', family: 4 as const }]
  const { ended, reached } = await bench(t, { guard: createTargetGuard(['hooks.test'], resolve) })
  await ended('j', `http://hooks.test:${receiver.port}/`)
  await reached('j', 'delivered')
  assert.deepEqual(answers, ['192.0.2.1'], 'asked once')
  assert.equal(receiver.received[0]?.headers.host, `hooks.test:${receiver.port}`)
})

test('what nobody answers for, what hangs and what floods each end as an attempt', async (t) => {
  const receiver = await startReceiver(t)
  const settings = { ...SETTINGS, attempts: 1, timeoutMs: 300 }
  const { ended, reached, outcomes } = await bench(t, { settings })
  receiver.answer = () => {}
  await ended('hangs', receiver.url)
  assert.equal((await reached('hangs', 'dead')).lastError, 'No answer within 0.3 seconds.')
  receiver.answer = (response) => {
    response.writeHead(200)
    const flood = setInterval(() => response.write(Buffer.alloc(65_536)), 1)
    response.once('close', () => clearInterval(flood))
  }
  const start = performance.now()
  await ended('floods', receiver.url)
  await reached('floods', 'delivered')
  assert.ok(performance.now() - start < 250, 'the answer is not read to its end')
  receiver.answer = (response) => {
    response.writeHead(200).write('x') // and never ends
  }
  await ended('drips', receiver.url)
  await reached('drips', 'delivered')
  receiver.answer = (response) => response.writeHead(101, { Upgrade: 'x', Connection: 'upgrade' }).end()
  await ended('upgrades', receiver.url)
  assert.match((await reached('upgrades', 'dead')).lastError!, /closed the connection without an answer|hang up/)
  await ended('nobody', 'http://127.0.0.1:1/')
  assert.equal((await reached('nobody', 'dead')).lastError, 'ECONNREFUSED: connect failed for http://127.0.0.1:1')
  assert.deepEqual(outcomes, ['timeout', 'delivered', 'delivered', 'unreachable', 'unreachable'])
})

test('a name that does not resolve, and a server without a certificate that is trusted, are unreachable', async (t) => {
  const receiver = await startReceiver(t)
  const failing = async () => {
    throw Object.assign(new Error('getaddrinfo ENOTFOUND gone.example'), { code: 'ENOTFOUND', syscall: 'getaddrinfo' })
  }
  const settings = { ...SETTINGS, attempts: 1 }
  const lost = await bench(t, { settings, guard: createTargetGuard([], failing) })
  await lost.ended('j', 'https://gone.example/')
  assert.equal((await lost.reached('j', 'dead')).lastError, 'ENOTFOUND: getaddrinfo failed for https://gone.example')
  const plain = await bench(t, { settings })
  await plain.ended('j', `https://127.0.0.1:${receiver.port}/`)
  assert.match((await plain.reached('j', 'dead')).lastError!, /wrong version number|EPROTO|ECONNRESET/)
  assert.deepEqual([lost.outcomes, plain.outcomes], [['unreachable'], ['unreachable']])
})

test('at most so many deliveries are in work, and a receiver that hangs does not hold up another', async (t) => {
  const slow = await startReceiver(t)
  const quick = await startReceiver(t)
  slow.answer = () => {}
  const { ended, reached } = await bench(t, { settings: { ...SETTINGS, timeoutMs: 1500, parallel: 4, attempts: 1 } })
  for (let index = 0; index < 6; index++) await ended(`slow-${index}`, slow.url)
  await slow.reached(2)
  const start = performance.now()
  for (let index = 0; index < 6; index++) await ended(`quick-${index}`, quick.url)
  for (let index = 0; index < 6; index++) await reached(`quick-${index}`, 'delivered')
  assert.ok(performance.now() - start < 1400)
  assert.equal(slow.received.length, 2)
})

test('an attempt that was cut by the end of the server does not count, and is made by the next one', async (t) => {
  const receiver = await startReceiver(t)
  receiver.answer = () => {}
  const catalog = openSqliteCatalog(join(tempFolder(t), 'catalog.sqlite'))
  t.after(() => catalog.close())
  const first = await bench(t, {}, catalog)
  await first.ended('j', receiver.url)
  await receiver.reached(1)
  await first.queue.close(20)
  const cut = await catalog.getDelivery('j')
  assert.deepEqual([cut?.state, cut?.attempts, cut?.lastError], ['pending', 0, null])
  assert.equal(cut?.nextAttemptAt, null, 'at once')
  receiver.answer = (response) => response.writeHead(200).end()
  const second = await bench(t, {}, catalog)
  assert.equal((await second.reached('j', 'delivered')).attempts, 1)
})

test('an attempt whose process died is made again once its lease is over, and counts', async (t) => {
  const catalog = openSqliteCatalog(join(tempFolder(t), 'catalog.sqlite'))
  t.after(() => catalog.close())
  await catalog.addModel(modelRow('m'))
  const webhook = { eventId: 'e', url: 'https://a.example/', origin: 'https://a.example', secret: null }
  await catalog.enqueueJob({ ...newJob('j'), webhook }, null, ROOMY)
  const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString()
  const claim = (second: number, until: number, except: string[] = []) =>
    catalog.claimDelivery({ dueBy: at(second), leaseUntil: at(until), at: at(second) }, except)
  assert.equal(await claim(0, 30), null, 'the job has not ended')
  await catalog.requestCancel('j', at(1))
  assert.deepEqual(await catalog.nextDelivery(), { dueAt: null })
  assert.equal(await claim(2, 30, ['https://a.example']), null)
  assert.equal((await claim(2, 30))?.attempts, 1)
  assert.equal(await claim(29, 60), null)
  assert.deepEqual(await catalog.nextDelivery(), { dueAt: at(30) })
  assert.equal((await claim(30, 60))?.attempts, 2)
  // What the first one has to say comes too late.
  await catalog.settleDelivery('j', 1, { state: 'dead', status: 500, error: 'late', at: at(31) })
  assert.equal((await catalog.getDelivery('j'))?.state, 'pending')
  await catalog.settleDelivery('j', 2, { state: 'delivered', status: 200, error: null, at: at(32) })
  assert.deepEqual([(await catalog.getDelivery('j'))?.state, await catalog.nextDelivery()], ['delivered', null])
})
