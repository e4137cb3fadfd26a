// Retention seen from the service: expired artifacts, the cap on uploads and jobs, what counts as use, and the sweeps.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import { startExpirySweeps } from '../../src/jobs/expiry-sweeps.ts'
import { KEEP_EVERYTHING, type RetentionPolicy } from '../../src/store/retention.ts'
import { ended, fakeRecipe, startService, tinyModel, uploadModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

const SILENT = { debug() {}, info() {}, warn() {}, error() {} }
const code = (expected: ErrorCode) => (error: unknown) => error instanceof AppError && error.code === expected
const retention = (policy: Partial<RetentionPolicy>, sweepEveryMs = 3_600_000) => ({
  policy: { ...KEEP_EVERYTHING, ...policy },
  sweepEveryMs,
})

/** Makes everything of the table look as if it was last used a day ago. */
function age(dataDir: string, table: 'models' | 'artifacts'): void {
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  db.prepare(`UPDATE ${table} SET last_used_at = ?`).run(new Date(Date.now() - 86_400_000).toISOString())
  db.close()
}

test('a job whose artifact has expired says so, keeps its report, and an equal job makes it again', async (t) => {
  const dataDir = tempFolder(t)
  const expired: unknown[] = []
  const service = await startService(t, {
    dataDir,
    hooks: { expired: (...facts) => expired.push(facts) },
    retention: retention({ maxAgeMs: { ...KEEP_EVERYTHING.maxAgeMs, artifact: 3_600_000 } }, 50),
  })
  const { id: modelId } = await uploadModel(service)
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  assert.equal(job.artifactExpired, false)
  const [file] = await service.jobs.artifactFiles(job.id)
  const bytes = readFileSync(file!.path)
  age(dataDir, 'artifacts')
  while ((await service.jobs.get(job.id)).artifact !== null) await sleep(10)
  const gone = await service.jobs.get(job.id)
  assert.deepEqual([gone.state, gone.artifact, gone.artifactExpired], ['succeeded', null, true])
  await assert.rejects(service.jobs.artifactFiles(job.id), code('artifact_expired'))
  assert.ok((await service.jobs.report(job.id)).sizeBytes > 0)
  while (expired.length === 0) await sleep(5)
  const [kind, reason, size] = expired[0] as [string, string, number]
  assert.deepEqual([kind, reason], ['artifact', 'age'])
  assert.ok(size > bytes.byteLength)
  assert.equal(existsSync(file!.path), false)

  const again = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  assert.equal(again.artifact?.reused, false)
  assert.deepEqual(readFileSync((await service.jobs.artifactFiles(again.id))[0]!.path), bytes)
  // The bytes are the same, so the first job has its artifact again.
  assert.equal((await service.jobs.get(job.id)).artifactExpired, false)
})

test('an upload beyond the cap is refused with the figures, and leaves nothing', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir, retention: retention({ storeBytes: 5000, graceMs: 60_000 }) })
  await uploadModel(service, tinyModel(1, 1024))
  const bytes = tinyModel(2, 1024)
  for (const declared of [bytes.byteLength, null]) {
    const upload = service.models.beginUpload()
    await assert.rejects(upload.addFile('m.safetensors', Readable.from([Buffer.from(bytes)]), declared), (error) => {
      assert.ok(error instanceof AppError)
      assert.equal(error.code, 'store_quota_exceeded')
      const { limit, allowed, requested } = error.context
      assert.deepEqual([limit, allowed, requested], ['storeBytes', 5000, bytes.byteLength])
      return true
    })
    await upload.discard()
  }
  assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [])
  assert.equal((await service.models.list({ limit: 9, cursor: null })).items.length, 1)
  // What was refused holds nothing back.
  await uploadModel(service, tinyModel(3, 128))
})

test('an upload beyond the cap makes room by evicting what was used longest ago', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir, retention: retention({ storeBytes: 9000, graceMs: 60_000 }) })
  const first = await uploadModel(service, tinyModel(1, 1024))
  age(dataDir, 'models')
  const second = await uploadModel(service, tinyModel(2, 1024))
  const third = await uploadModel(service, tinyModel(3, 1024))
  assert.deepEqual(
    (await service.models.list({ limit: 9, cursor: null })).items.map(({ id }) => id),
    [third.id, second.id],
  )
  assert.equal(existsSync(join(dataDir, 'models', first.id)), false)
})

test('uploading a model again, planning and a histogram are uses of it', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const { id } = await uploadModel(service)
  const lastUse = () => {
    const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
    const value = db.prepare('SELECT last_used_at FROM models').get()?.['last_used_at']
    db.close()
    return Date.parse(String(value))
  }
  const uses = [
    () => uploadModel(service),
    () => service.plans.create({ modelId: id, recipe: 'int8' }),
    () => service.models.histogram(id, 'w', 4),
  ]
  for (const use of uses) {
    age(dataDir, 'models')
    await use()
    assert.ok(Date.now() - lastUse() < 60_000)
  }
})

test('a download is a use of its artifact', async (t) => {
  const dataDir = tempFolder(t)
  const open = await startService(t, { dataDir })
  const { id: modelId } = await uploadModel(open)
  const job = await ended(open, (await open.jobs.create({ modelId, recipe: 'int8' })).job.id)
  age(dataDir, 'artifacts')
  await open.jobs.artifactFiles(job.id)
  await open.close()
  const strict = await startService(t, { dataDir, retention: retention({ storeBytes: 1, graceMs: 60_000 }, 20) })
  await sleep(200)
  assert.equal((await strict.jobs.get(job.id)).artifactExpired, false)
})

test('a job whose artifact would not fit is refused before any work; one that exists already is not', async (t) => {
  const dataDir = tempFolder(t)
  const first = await startService(t, { dataDir })
  const { id: modelId, sizeBytes } = await uploadModel(first, tinyModel(1, 65_536))
  const done = await ended(first, (await first.jobs.create({ modelId, recipe: 'fp16' })).job.id)
  await first.close()
  const stored = sizeBytes + done.artifact!.files[0]!.sizeBytes
  const capped = { storeBytes: stored + 60_000, graceMs: 60_000 }
  const service = await startService(t, { dataDir, retention: retention(capped) })
  // int8 takes a quarter of 256 KiB and its scales: more than what is left.
  await assert.rejects(service.jobs.create({ modelId, recipe: 'int8' }), (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'store_quota_exceeded')
    const requested = Number(error.context['requested'])
    assert.ok(requested > 65_536 && requested < 70_000, `${requested}`)
    return true
  })
  assert.equal((await service.jobs.list({ limit: 9, cursor: null })).items.length, 1)
  const again = await ended(service, (await service.jobs.create({ modelId, recipe: 'fp16' })).job.id)
  assert.deepEqual([again.state, again.artifact?.reused], ['succeeded', true])
})

test('a job that finds the store full when it comes to store its artifact fails with that code', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, {
    dataDir,
    // The plan of int8 is a quarter of what the fake worker then writes.
    retention: retention({ storeBytes: 400_000, graceMs: 60_000 }),
  })
  const { id: modelId } = await uploadModel(service, tinyModel(1, 65_536))
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  assert.deepEqual(
    [job.state, job.error?.code, job.error?.context['limit']],
    ['failed', 'store_quota_exceeded', 'storeBytes'],
  )
  assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [])
})

test('nothing that a running job needs goes while sweeps run under it', async (t) => {
  const dataDir = tempFolder(t)
  const ages = { model: 1, dataset: 1, artifact: 1, job: null }
  const open = await startService(t, { dataDir })
  const { id: modelId } = await uploadModel(open)
  await open.jobs.create({ modelId, recipe: fakeRecipe('slow-400') })
  await open.close()
  const strict = await startService(t, { dataDir, retention: retention({ maxAgeMs: ages }, 5) })
  const [job] = (await strict.jobs.list({ limit: 1, cursor: null })).items
  assert.equal((await ended(strict, job!.id)).state, 'succeeded')
  while (existsSync(join(dataDir, 'models', modelId))) await sleep(5)
  await assert.rejects(strict.models.get(modelId), code('not_found'))
})

test('sweeps go on after one that failed, keep to their jittered pause, and end with the server', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let sweepsRun = 0
  const errors: string[] = []
  const randoms = [0, 1, 0.5]
  const collector = {
    async collect() {
      sweepsRun++
      if (sweepsRun === 1) throw new AppError('store_failed', 'the disk is away')
      return []
    },
  }
  const log = { ...SILENT, error: (fields: Record<string, unknown>) => errors.push(String(fields['error'])) }
  const sweeps = startExpirySweeps(collector, 100_000, log, { nowMs: () => Date.now() }, () => randoms.shift() ?? 0.5)
  const settle = async () => {
    for (let turn = 0; turn < 5; turn++) await Promise.resolve()
  }
  t.mock.timers.tick(47_999) // the first one comes after a minute, less a fifth
  assert.equal(sweepsRun, 0)
  t.mock.timers.tick(1)
  await settle()
  assert.deepEqual([sweepsRun, errors], [1, ['the disk is away']])
  t.mock.timers.tick(119_999) // then every 100 s, plus a fifth
  await settle()
  assert.equal(sweepsRun, 1)
  t.mock.timers.tick(1)
  await settle()
  assert.equal(sweepsRun, 2)
  await sweeps.stop()
  t.mock.timers.tick(1_000_000)
  await settle()
  assert.equal(sweepsRun, 2)
})
