// The SQLite catalogue: the contract, and what is its own (durability settings, migrations, clear refusals).

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { openSqliteCatalog } from '../../src/store/sqlite-catalog.ts'
import { MIGRATIONS } from '../../src/store/sqlite-schema.ts'
import { catalogContract, modelRow, newJob } from '../support/catalog-contract.ts'
import { tempFolder } from '../support/temp-folder.ts'

const folder = mkdtempSync(join(tmpdir(), 'tensorpress-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))
let count = 0

catalogContract('sqlite', async () => openSqliteCatalog(join(folder, `${count++}.sqlite`)))

test('rows are there after the file is opened again', async (t) => {
  const path = join(tempFolder(t), 'catalog.sqlite')
  const first = openSqliteCatalog(path)
  await first.addModel(modelRow('m'))
  await first.close()
  const second = openSqliteCatalog(path)
  assert.deepEqual(await second.getModel('m'), modelRow('m'))
  await second.close()
})

test('every commit reaches the disk: write-ahead log with full synchronisation', async (t) => {
  const path = join(tempFolder(t), 'catalog.sqlite')
  await openSqliteCatalog(path).close()
  const db = new DatabaseSync(path)
  assert.equal(db.prepare('PRAGMA journal_mode').get()?.['journal_mode'], 'wal')
  const versions = db
    .prepare('SELECT version FROM schema_versions')
    .all()
    .map((row) => row['version'])
  assert.deepEqual(
    versions,
    MIGRATIONS.map((_, index) => index + 1),
  )
  db.close()
})

test('a catalogue of version 1 keeps its jobs and its idempotency keys, as those of nobody', async (t) => {
  const path = join(tempFolder(t), 'catalog.sqlite')
  const db = new DatabaseSync(path)
  db.exec(`CREATE TABLE schema_versions (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL) STRICT;
    ${MIGRATIONS[0]}
    INSERT INTO schema_versions VALUES (1, '2026-01-01');
    INSERT INTO jobs (id, state, attempt, model_id, payload, created_at) VALUES ('old', 'queued', 1, 'm', '{}', '2026-01-01');
    INSERT INTO idempotency_keys VALUES ('k', 'body', 'old', '2026-01-01');`)
  db.close()
  const catalog = openSqliteCatalog(path)
  assert.equal((await catalog.getJob('old'))?.submittedBy, null)
  const key = { key: 'k', fingerprint: 'body' }
  const limits = { maxQueued: 10, maxPerSubmitter: 10 }
  const again = await catalog.enqueueJob(newJob('new'), key, limits)
  assert.ok(again.kind === 'replayed' && again.job.id === 'old')
  await catalog.addModel(modelRow('m'))
  assert.equal((await catalog.enqueueJob({ ...newJob('new'), submittedBy: 'ci' }, key, limits)).kind, 'created')
  await catalog.close()
})

test('a catalogue of a newer version is refused by number and left alone', async (t) => {
  const path = join(tempFolder(t), 'catalog.sqlite')
  await openSqliteCatalog(path).close()
  const db = new DatabaseSync(path)
  db.exec(`INSERT INTO schema_versions VALUES (${MIGRATIONS.length + 6}, '2030-01-01')`)
  db.close()
  assert.throws(
    () => openSqliteCatalog(path),
    (error) => {
      assert.ok(error instanceof AppError)
      assert.equal(error.code, 'store_failed')
      assert.match(
        error.detail,
        new RegExp(`schema version ${MIGRATIONS.length + 6}, this version knows up to ${MIGRATIONS.length}`),
      )
      return true
    },
  )
})

test('a file that is no database is refused with store_failed', (t) => {
  const path = join(tempFolder(t), 'catalog.sqlite')
  writeFileSync(path, 'this is not a database, it only lies where one is expected')
  assert.throws(
    () => openSqliteCatalog(path),
    (error) => error instanceof AppError && error.code === 'store_failed' && error.detail.includes(path),
  )
})
