// kill -9 of the server at seeded random instants, over and over on one data folder: nothing acknowledged is lost, no job
// runs twice to two ends, nothing half-made is visible, no child outlives its server, no file leaks.
// TENSORPRESS_CRASH_ROUNDS and TENSORPRESS_CRASH_SEED make it longer or different.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openSqliteCatalog } from '../../src/store/sqlite-catalog.ts'
import { startServiceProcess, survivors } from '../support/crash-server.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { ended, startService } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

const ROUNDS = Number(process.env['TENSORPRESS_CRASH_ROUNDS'] ?? 8)
const SEED = Number(process.env['TENSORPRESS_CRASH_SEED'] ?? 1)
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

test(`${ROUNDS} servers are killed at random instants (seed ${SEED}) and nothing acknowledged is lost`, async (t) => {
  const dataDir = tempFolder(t)
  const random = seededRandom(SEED)
  const models = new Set<string>()
  const jobs = new Map<string, string>()
  let asked = 0

  for (let round = 0; round < ROUNDS; round++) {
    const server = startServiceProcess(dataDir)
    let pids: number[] = []
    const work = (async () => {
      await server.ready
      pids = (await server.ask({ op: 'children' })) as number[]
      for (;;) {
        asked++
        const modelId = (await server.ask({ op: 'upload', seed: 1 + Math.floor(random() * 40) })) as string
        models.add(modelId)
        const key = `key-${asked}`
        const recipe = `slow-${Math.floor(random() * 120)} ${asked}`
        jobs.set((await server.ask({ op: 'job', modelId, recipe, key })) as string, modelId)
        await sleep(random() * 60)
      }
    })().catch((error: unknown) => assert.match(String(error), /server process is gone/))
    // Some servers die while they start, the others after a few acknowledged jobs.
    const target = random() < 0.25 ? 0 : jobs.size + 1 + Math.floor(random() * 5)
    const patience = Date.now() + 30_000
    while (jobs.size < target && Date.now() < patience) await sleep(5)
    await sleep(random() * 400)
    await server.kill()
    await work
    // A child notices within a second that its channel is closed; on Linux the kernel takes it at once.
    const deadline = Date.now() + 2000
    while ((await survivors(pids)).length > 0 && Date.now() < deadline) await sleep(20)
    assert.deepEqual(await survivors(pids), [], 'children outlived their server')
  }

  const service = await startService(t, { dataDir, limits: { maxQueuedJobs: 10_000 } })
  assert.ok(jobs.size >= ROUNDS, `only ${jobs.size} jobs were acknowledged: the test is too short to say anything`)
  for (const id of models) {
    const [file] = (await service.models.get(id)).files
    const path = join(dataDir, 'models', id, 'files', file!.name)
    assert.equal(sha256(readFileSync(path)), file!.sha256)
    assert.equal((await service.models.tensors(id, 0, 10)).items.length, 1)
  }
  for (const [id, modelId] of jobs) {
    const job = await ended(service, id)
    assert.deepEqual([job.state, job.modelId, job.attempt], ['succeeded', modelId, 1])
    const [artifact] = await service.jobs.artifactFiles(id)
    const bytes = readFileSync(artifact!.path)
    assert.equal(sha256(bytes), artifact!.sha256)
    assert.equal(sha256(bytes.map((byte) => 255 - byte)), modelId)
    JSON.parse(readFileSync((await service.jobs.report(id)).path, 'utf8'))
  }
  assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [])
  await service.close()

  // A last start sweeps what the last kill left; afterwards every file belongs to a row.
  await (await startService(t, { dataDir })).close()
  const catalog = openSqliteCatalog(join(dataDir, 'catalog.sqlite'))
  const blobs = readdirSync(join(dataDir, 'blobs')).flatMap((folder) => readdirSync(join(dataDir, 'blobs', folder)))
  assert.deepEqual(new Set(blobs), await catalog.referencedBlobs())
  assert.deepEqual(new Set(readdirSync(join(dataDir, 'models'))), await catalog.modelIds())
  await catalog.close()
  t.diagnostic(`${models.size} models and ${jobs.size} jobs acknowledged over ${ROUNDS} kills, all there`)
})

test('a job that was being cancelled when the server died does not run again', async (t) => {
  const dataDir = tempFolder(t)
  const server = startServiceProcess(dataDir)
  await server.ready
  const modelId = (await server.ask({ op: 'upload', seed: 1 })) as string
  const jobId = (await server.ask({ op: 'job', modelId, recipe: 'hang', key: 'k' })) as string
  await sleep(300)
  const cancelling = server.ask({ op: 'cancel', jobId }).catch(() => {})
  await sleep(50)
  const children = (await server.ask({ op: 'children' })) as number[]
  await server.kill()
  await cancelling
  // The worker hangs in a busy loop and cannot see that its channel closed.
  const deadline = Date.now() + 2000
  while ((await survivors(children)).length > 0 && Date.now() < deadline) await sleep(20)
  assert.deepEqual(await survivors(children), [])
  const service = await startService(t, { dataDir })
  assert.equal((await service.jobs.get(jobId)).state, 'cancelled')
})
