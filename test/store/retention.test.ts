// Expiry by age, count and space: what goes, in which order, why, and what stays because it is in use.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { type Expiry, KEEP_EVERYTHING } from '../../src/store/retention.ts'
import { newJob, ROOMY } from '../support/catalog-contract.ts'
import { hours, hoursAgo, NOW_MS, openTestStore } from '../support/store-with-items.ts'

const NEVER = KEEP_EVERYTHING.maxAgeMs
const short = (items: Expiry[]) => items.map(({ kind, id, reason, sizeBytes }) => [kind, id, reason, sizeBytes])
const blobFiles = (root: string) => readdirSync(root).flatMap((folder) => readdirSync(join(root, folder)))

test('without settings nothing ever goes', async (t) => {
  const store = await openTestStore(t)
  await store.model('m', 1000, 100_000)
  await store.artifact('a', 'x'.repeat(500), 100_000)
  await store.endedJob('j', 'm', 'a', 100_000)
  assert.deepEqual(await store.collector.plan(NOW_MS), [])
  assert.deepEqual(await store.collector.collect(NOW_MS), [])
})

test('each kind goes when it was unused for longer than its age, and its files with it', async (t) => {
  const maxAgeMs = { model: hours(10), dataset: hours(5), artifact: hours(2), job: null }
  const store = await openTestStore(t, { maxAgeMs })
  await store.model('old-model', 100, 11)
  await store.model('model', 100, 9)
  await store.dataset('old-dataset', 30, 6)
  await store.dataset('dataset', 30, 4)
  await store.artifact('old-artifact', 'old bytes', 3)
  await store.artifact('artifact', 'bytes', 1)
  const expected = [
    ['model', 'old-model', 'age', 100],
    ['dataset', 'old-dataset', 'age', 30],
    ['artifact', 'old-artifact', 'age', 32],
  ]
  assert.deepEqual(short(await store.collector.plan(NOW_MS)), expected)
  assert.equal((await store.catalog.modelIds()).size, 2, 'a plan changes nothing')
  assert.deepEqual(short(await store.collector.collect(NOW_MS)), expected)
  assert.deepEqual(short(store.told), expected)
  assert.deepEqual([...(await store.catalog.modelIds())], ['model'])
  assert.deepEqual(readdirSync(store.data.models), ['model'])
  assert.deepEqual(readdirSync(store.data.datasets), ['dataset.npz'])
  assert.equal(await store.catalog.getArtifact('old-artifact'), null)
  assert.deepEqual(new Set(blobFiles(store.data.blobs)), await store.catalog.referencedBlobs())
  assert.deepEqual(await store.collector.collect(NOW_MS), [])
})

test('over the cap, what was used longest ago goes first, whatever it is, and no more than needed', async (t) => {
  const store = await openTestStore(t, { storeBytes: 250 })
  await store.model('m1', 100, 5)
  await store.dataset('d1', 100, 4)
  await store.model('m2', 100, 3)
  await store.model('m3', 100, 2)
  const expected = [
    ['model', 'm1', 'quota', 100],
    ['dataset', 'd1', 'quota', 100],
  ]
  assert.deepEqual(short(await store.collector.plan(NOW_MS)), expected)
  assert.deepEqual(short(await store.collector.collect(NOW_MS)), expected)
  assert.deepEqual(await store.catalog.usage(), {
    modelBytes: 200,
    datasetBytes: 0,
    uploadBytes: 0,
    artifactBytes: 0,
    documentBytes: 0,
  })
})

test('what is too old goes before anything is evicted, so that an old model stays when that is enough', async (t) => {
  const store = await openTestStore(t, { storeBytes: 150, maxAgeMs: { ...NEVER, dataset: hours(1) } })
  await store.model('m', 100, 50)
  await store.dataset('d', 100, 2)
  const expected = [['dataset', 'd', 'age', 100]]
  assert.deepEqual(short(await store.collector.plan(NOW_MS)), expected)
  assert.deepEqual(short(await store.collector.collect(NOW_MS)), expected)
})

test('nothing that was used within the grace is evicted', async (t) => {
  const store = await openTestStore(t, { storeBytes: 1, graceMs: hours(2) })
  await store.model('m1', 100, 3)
  await store.model('m2', 100, 1)
  assert.deepEqual(short(await store.collector.collect(NOW_MS)), [['model', 'm1', 'quota', 100]])
})

test('the model and dataset of a queued or running job stay, and so does the artifact it works on', async (t) => {
  const ages = { model: hours(1), dataset: hours(1), artifact: hours(1), job: null }
  const store = await openTestStore(t, { storeBytes: 1, maxAgeMs: ages })
  const { catalog, collector } = store
  await store.model('m', 100, 9)
  await store.dataset('d', 30, 9)
  await store.artifact('a', 'bytes', 9)
  await catalog.enqueueJob({ ...newJob('j', 'm', 'd'), createdAt: hoursAgo(9) }, null, ROOMY)
  await catalog.claimArtifact('j', 'a', hoursAgo(9))
  assert.deepEqual(await collector.plan(NOW_MS), [])
  assert.deepEqual(await collector.collect(NOW_MS), [])
  await catalog.claimJob(hoursAgo(8))
  assert.deepEqual(await collector.collect(NOW_MS), [])
  // The check is part of the removal itself, not only of the list.
  assert.deepEqual(await catalog.removeUnused('model', 'm', hoursAgo(0), hoursAgo(0)), { kind: 'kept' })
  assert.deepEqual(await catalog.removeUnused('artifact', 'a', hoursAgo(0), hoursAgo(0)), { kind: 'kept' })
  await catalog.requestCancel('j', hoursAgo(8))
  await catalog.recoverJobs(hoursAgo(8))
  assert.deepEqual(
    (await collector.collect(NOW_MS)).map(({ kind }) => kind),
    ['artifact', 'dataset', 'model'],
  )
})

test('a use between the list and the removal keeps the item', async (t) => {
  const store = await openTestStore(t)
  await store.model('m', 100, 9)
  await store.catalog.touch('model', 'm', hoursAgo(1))
  assert.deepEqual(await store.catalog.removeUnused('model', 'm', hoursAgo(9), hoursAgo(0)), { kind: 'kept' })
  assert.equal((await store.catalog.removeUnused('model', 'm', hoursAgo(1), hoursAgo(0))).kind, 'removed')
})

test('accepting and ending a job are uses of its model, dataset and artifact', async (t) => {
  const store = await openTestStore(t)
  await store.model('m', 100, 9)
  await store.artifact('a', 'bytes', 9)
  await store.endedJob('j', 'm', 'a', 2)
  const unused = await store.catalog.listUnused({ usedBefore: hoursAgo(0), after: null, limit: 9 })
  assert.deepEqual(
    unused.map(({ kind, id, lastUsedAt }) => [kind, id, lastUsedAt]),
    [
      ['artifact', 'a', hoursAgo(2)],
      ['model', 'm', hoursAgo(2)],
    ],
  )
})

test('a file that two artifacts share goes with the second, and the plan knows', async (t) => {
  const store = await openTestStore(t, { maxAgeMs: { ...NEVER, artifact: hours(1) } })
  await store.artifact('a', 'the same bytes', 4)
  await store.artifact('b', 'the same bytes', 3)
  assert.equal((await store.catalog.usage()).artifactBytes, 14)
  const expected = [
    ['artifact', 'a', 'age', 12],
    ['artifact', 'b', 'age', 26],
  ]
  assert.deepEqual(short(await store.collector.plan(NOW_MS)), expected)
  assert.deepEqual(short(await store.collector.collect(NOW_MS)), expected)
  assert.deepEqual(blobFiles(store.data.blobs), [])
})

test('with an artifact go its validations, and the report of its job stays', async (t) => {
  const store = await openTestStore(t, { maxAgeMs: { ...NEVER, artifact: hours(1) } })
  await store.model('m', 100, 9)
  await store.artifact('a', 'bytes', 9)
  await store.artifacts.keepValidation('v', 'a', { top1: 0.9 })
  await store.endedJob('j', 'm', 'a', 3)
  await store.collector.collect(NOW_MS)
  assert.equal(await store.catalog.getValidation('v'), null)
  const job = await store.catalog.getJob('j')
  assert.deepEqual(await store.artifacts.readDocument(job!.reportSha256!), { reportOf: 'j' })
  assert.deepEqual(blobFiles(store.data.blobs), [job!.reportSha256])
})

test('ended jobs go by age and by count, oldest first, with report and idempotency key; others stay', async (t) => {
  const store = await openTestStore(t, { maxAgeMs: { ...NEVER, job: hours(5) }, maxEndedJobs: 2 })
  await store.model('m', 100, 0)
  const ago = [9, 6, 4, 3, 2]
  for (const [index, hour] of ago.entries()) await store.endedJob(`j${index + 1}`, 'm', null, hour)
  await store.catalog.enqueueJob(
    { ...newJob('live', 'm'), createdAt: hoursAgo(9) },
    { key: 'k', fingerprint: 'f' },
    ROOMY,
  )
  const reasons = [
    ['job', 'j1', 'age', 17],
    ['job', 'j2', 'age', 17],
    ['job', 'j3', 'count', 17],
  ]
  assert.deepEqual(short(await store.collector.plan(NOW_MS)), reasons)
  assert.deepEqual(short(await store.collector.collect(NOW_MS)), reasons)
  const left = await store.catalog.listJobs({ limit: 9, cursor: null })
  assert.deepEqual(
    left.items.map(({ id }) => id),
    ['live', 'j5', 'j4'],
  )
  assert.equal(blobFiles(store.data.blobs).length, 2)
  assert.deepEqual(await store.catalog.removeJob('live', hoursAgo(0)), { kind: 'kept' })
  // The key of a job that is gone may be used again.
  await store.catalog.requestCancel('live', hoursAgo(1))
  assert.equal((await store.catalog.removeJob('live', hoursAgo(0))).kind, 'removed')
  const again = await store.catalog.enqueueJob(newJob('new', 'm'), { key: 'k', fingerprint: 'other' }, ROOMY)
  assert.equal(again.kind, 'created')
})

test('a document that never got its row goes after an hour, not before', async (t) => {
  const store = await openTestStore(t)
  await store.artifacts.putDocument({ lost: true })
  const now = Date.now()
  assert.deepEqual(await store.collector.collect(now + hours(0.9)), [])
  assert.deepEqual(
    short(await store.collector.collect(now + hours(1.1))).map(([kind, , reason, bytes]) => [kind, reason, bytes]),
    [['blob', 'orphan', 13]],
  )
  assert.deepEqual(blobFiles(store.data.blobs), [])
})

test('a blob that is put again while it is about to be removed stays', async (t) => {
  const store = await openTestStore(t)
  await store.artifact('a', 'bytes', 9)
  const removed = await store.catalog.removeUnused('artifact', 'a', hoursAgo(9), hoursAgo(0))
  assert.ok(removed.kind === 'removed')
  await store.artifact('b', 'bytes', 1)
  for (const blob of removed.blobs) await store.artifacts.removeBlob(blob, removed.unusedSince)
  const [file] = await store.artifacts.locate((await store.artifacts.find('b'))!)
  assert.equal(file?.sizeBytes, 5)
  assert.equal(existsSync(file.path), true)
})

test('a removal that ended between its row and its files leaves an orphan, which the next start removes', async (t) => {
  const store = await openTestStore(t)
  await store.artifact('a', 'bytes', 9)
  await store.catalog.removeUnused('artifact', 'a', hoursAgo(0), hoursAgo(0))
  assert.equal(blobFiles(store.data.blobs).length, 2)
  const { findOrphans, removeOrphans } = await import('../../src/store/orphans.ts')
  writeFileSync(join(store.data.temporary, 'half-upload'), 'half')
  const orphans = await findOrphans(store.data, store.catalog, store.blobs)
  assert.deepEqual(orphans.map(({ kind, sizeBytes }) => [kind, sizeBytes]).sort(), [
    ['blob', 12],
    ['blob', 5],
    ['temporary', 4],
  ])
  await removeOrphans(store.data, store.catalog, store.blobs, orphans)
  assert.deepEqual([blobFiles(store.data.blobs), readdirSync(store.data.temporary)], [[], []])
  assert.deepEqual(await store.catalog.listUnusedBlobs(hoursAgo(-9)), [])
})

test('hundreds of items are gone through page by page', async (t) => {
  const store = await openTestStore(t, { maxAgeMs: { ...NEVER, model: hours(1) }, storeBytes: 10 })
  for (let index = 0; index < 250; index++) await store.catalog.addModel({ ...modelAt(index) })
  const planned = await store.collector.plan(NOW_MS)
  assert.equal(planned.length, 250)
  assert.equal(new Set(planned.map(({ id }) => id)).size, 250)
  assert.equal((await store.collector.collect(NOW_MS)).length, 250)
})

function modelAt(index: number) {
  const id = `m${index}`
  // Many share one instant: the page must go on within it.
  const createdAt = hoursAgo(2 + (index % 2))
  const summary = { format: 'onnx', irVersion: 8, opset: 17, producer: null, metadata: {} } as const
  return {
    id,
    files: [{ name: 'm.onnx', sizeBytes: 1, sha256: id }],
    sizeBytes: 1,
    summary: { ...summary, inputs: [], outputs: [], alreadyCompressed: [], notes: [] },
    tensorCount: 1,
    parameterCount: 1,
    createdAt,
  }
}

test('a reservation makes room by evicting, and is refused when not enough may go', async (t) => {
  const store = await openTestStore(t, { storeBytes: 300 })
  const { quota, catalog } = store
  await store.model('m1', 100, 5)
  await store.model('m2', 100, 4)
  await catalog.enqueueJob({ ...newJob('j', 'm2'), createdAt: hoursAgo(4) }, null, ROOMY)
  const first = quota.open()
  await first.growTo(100)
  assert.deepEqual(store.told, [])
  const second = quota.open()
  await second.growTo(60)
  assert.deepEqual(short(store.told), [['model', 'm1', 'quota', 100]])
  await assert.rejects(second.growTo(101), (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'store_quota_exceeded')
    assert.deepEqual(error.context, { limit: 'storeBytes', allowed: 300, requested: 101, stored: 100, promised: 160 })
    return true
  })
  first.release()
  first.release()
  await second.growTo(200)
  second.release()
  const whole = quota.open()
  await whole.growTo(200)
})

test('a request larger than the whole cap evicts nothing', async (t) => {
  const store = await openTestStore(t, { storeBytes: 300 })
  await store.model('m1', 100, 5)
  await assert.rejects(store.quota.open().growTo(301), /store_quota_exceeded/)
  await assert.rejects(
    (async () => {
      const other = store.quota.open()
      await other.growTo(150)
      await store.quota.open().growTo(300)
    })(),
    /store_quota_exceeded/,
  )
  assert.deepEqual(store.told, [])
})
