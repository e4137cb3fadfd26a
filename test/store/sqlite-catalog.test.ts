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
import { catalogContract, modelRow } from '../support/catalog-contract.ts'
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
