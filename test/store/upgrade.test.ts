// From each released schema to today's: the folder of test/fixtures/data-folder-<version>, written by the release itself, is
// opened and everything in it is found. And back: a newer folder is refused before anything in it is touched.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { openDataFolder } from '../../src/store/data-folder.ts'
import { MIGRATIONS } from '../../src/store/sqlite-schema.ts'
import { ended, startService } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

const FIXTURES = join(import.meta.dirname, '..', 'fixtures')

/** A copy of the fixture as the release left it on disk. */
function folderOfSchema(t: TestContext, version: number): string {
  const dataDir = join(tempFolder(t), 'data')
  cpSync(join(FIXTURES, `data-folder-${version}`), dataDir, { recursive: true })
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  db.exec(readFileSync(join(dataDir, 'catalog.sql'), 'utf8'))
  db.close()
  return dataDir
}

const A = '1b9217a4ce09b550ab2133c77f5786013aa2f290a8979b9f01d3ae85408ce06f'
const B = '1411bb87e68b3d8503a68c3098a1d2c5093faa2ac6b45c5e0acdd911df79e1e3'
const DATASET = 'f3fb3dc8745b051c0bed8589491242b6a9554e0d1d4e0f20d307d47dfbc10706'
const DONE = '74244774-7e7b-4321-bafb-93fd2bcdad9b'
const UNMET = '0b1fe205-e3f5-49bf-808d-447375b866c3'
const REFUSED = '3a2224bb-d7ee-4869-a263-fba4ae5fc28e'
const CANCELLED = '71bb97ad-20db-4b89-b5ca-be610ecca302'
const WAITING = '9454d94a-d6dc-4de1-9de3-686df22cdbc3'
const INTERRUPTED = '1deeb7a1-e12d-4b9e-9795-e3031abe461a'

test('a folder of schema 1 is upgraded: models, datasets, jobs, artifacts, reports and keys are all there', async (t) => {
  const dataDir = folderOfSchema(t, 1)
  const service = await startService(t, { dataDir })
  const models = await service.models.list({ limit: 9, cursor: null })
  assert.deepEqual(
    models.items.map(({ id, sizeBytes, files }) => [id, sizeBytes, files[0]!.name]),
    [
      [B, 1096, 'second.safetensors'],
      [A, 1096, 'tiny.safetensors'],
    ],
  )
  assert.equal((await service.models.tensors(A, 0, 9)).items.length, 1)
  assert.equal((await service.datasets.get(DATASET)).file.name, 'samples.npz')

  const states = await Promise.all([DONE, UNMET, REFUSED, CANCELLED].map(async (id) => service.jobs.get(id)))
  assert.deepEqual(
    states.map(({ state, error, artifactExpired }) => [state, error?.code ?? null, artifactExpired]),
    [
      ['succeeded', null, false],
      ['failed', 'requirement_not_met', false],
      ['failed', 'format_invalid', false],
      ['cancelled', 'cancelled', false],
    ],
  )
  const [file] = await service.jobs.artifactFiles(DONE)
  assert.equal(createHash('sha256').update(readFileSync(file!.path)).digest('hex'), file!.sha256)
  assert.equal(JSON.parse(readFileSync((await service.jobs.report(DONE)).path, 'utf8')).jobId, DONE)

  // What waited runs, and the key still answers with its job.
  assert.equal((await ended(service, WAITING)).state, 'succeeded')
  await service.jobs.cancel(INTERRUPTED)
  const again = await service.jobs.create({ modelId: A, recipe: 'int8' }, { idempotencyKey: 'release-1' })
  assert.deepEqual([again.job.id, again.replayed], [DONE, true])
})

test('an upgraded folder knows what everything weighs and when it was used, so that retention works on it', async (t) => {
  const dataDir = folderOfSchema(t, 1)
  const service = await startService(t, { dataDir, limits: { drainGraceMs: 0 } })
  const { usage } = (await service.health()).store
  // Two models, one dataset, one artifact file; result, validation and two reports.
  assert.equal(usage.modelBytes, 2192)
  assert.equal(usage.datasetBytes, 260)
  await service.close()
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  const one = (sql: string) => Object.values(db.prepare(sql).get() ?? {})[0]
  assert.equal(one(`SELECT size_bytes FROM blobs WHERE sha256 LIKE '696bfa75%'`), 1096)
  assert.equal(one(`SELECT count(*) FROM blob_uses WHERE sha256 NOT IN (SELECT sha256 FROM blobs)`), 0)
  assert.equal(
    one(`SELECT size_bytes FROM blobs WHERE sha256 = (SELECT report_sha256 FROM jobs WHERE id = '${DONE}')`),
    3461,
  )
  assert.equal(
    one(`SELECT last_used_at FROM models WHERE id = '${A}'`),
    one(`SELECT max(finished_at) FROM jobs WHERE model_id = '${A}'`),
  )
  assert.equal(one(`SELECT last_used_at FROM datasets`), one('SELECT created_at FROM datasets'))
  db.close()
})

test('a released migration is never changed', () => {
  const released = ['47d078a4b5']
  assert.deepEqual(
    released.map((_, index) => createHash('sha256').update(MIGRATIONS[index]!).digest('hex').slice(0, 10)),
    released,
  )
})

test('a folder of a newer version is refused by number before anything in it is touched', async (t) => {
  const dataDir = tempFolder(t)
  ;(await openDataFolder(dataDir)).close()
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  db.exec('CREATE TABLE schema_versions (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL) STRICT')
  db.exec(`INSERT INTO schema_versions VALUES (900, '2030-01-01')`)
  db.close()
  mkdirSync(join(dataDir, 'temporary', 'of-the-newer-version'))
  await assert.rejects(openDataFolder(dataDir), (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'store_failed')
    assert.match(
      error.detail,
      /written by a newer Tensorpress: .*catalog\.sqlite has schema version 900, this version knows up to \d+\. Start the newer version/,
    )
    return true
  })
  assert.equal(existsSync(join(dataDir, 'temporary', 'of-the-newer-version')), true)
})

test('a catalogue that is no database is refused and nothing is touched', async (t) => {
  const dataDir = tempFolder(t)
  writeFileSync(join(dataDir, 'catalog.sqlite'), 'x'.repeat(9000))
  mkdirSync(join(dataDir, 'temporary', 'kept'), { recursive: true })
  await assert.rejects(openDataFolder(dataDir), (error) => AppError.from(error).code === 'store_failed')
  assert.equal(existsSync(join(dataDir, 'temporary', 'kept')), true)
})
