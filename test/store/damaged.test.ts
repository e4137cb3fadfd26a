// A damaged catalogue: refused at start with its name and the way back; met while running, a clear failure of what touches it.

import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { openSqliteCatalog } from '../../src/store/sqlite-catalog.ts'
import { modelRow } from '../support/catalog-contract.ts'
import { startService, uploadModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

const PAGE_BYTES = 4096

/** Overwrites the middle of every page after the first, which holds the schema's head. */
function damage(path: string): void {
  const file = openSync(path, 'r+')
  for (let at = PAGE_BYTES; at < statSync(path).size; at += PAGE_BYTES) {
    writeSync(file, Buffer.alloc(PAGE_BYTES / 2, 0xa5), 0, PAGE_BYTES / 2, at)
  }
  closeSync(file)
}

async function filledCatalog(t: TestContext): Promise<string> {
  const path = join(tempFolder(t), 'catalog.sqlite')
  const catalog = openSqliteCatalog(path)
  for (let index = 0; index < 200; index++) await catalog.addModel(modelRow(`m${index}`))
  await catalog.close()
  return path
}

test('a catalogue with damaged pages is refused at start, naming the file and how to restore it', async (t) => {
  const path = await filledCatalog(t)
  damage(path)
  const before = readFileSync(path)
  assert.throws(
    () => openSqliteCatalog(path),
    (error) => {
      const { code, detail } = AppError.from(error)
      assert.equal(code, 'store_failed')
      assert.ok(detail.includes(path), detail)
      assert.match(detail, /restore catalog\.sqlite from a backup/)
      assert.match(detail, /sqlite3 catalog\.sqlite \.recover/)
      return true
    },
  )
  assert.deepEqual(readFileSync(path), before, 'what can still be salvaged is left alone')
})

test('one damaged page in the middle is found at start, not weeks later', async (t) => {
  const path = await filledCatalog(t)
  const pages = statSync(path).size / PAGE_BYTES
  assert.ok(pages > 10, `${pages} pages`)
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.alloc(64, 0xff), 0, 64, PAGE_BYTES * (pages - 2))
  closeSync(file)
  assert.throws(() => openSqliteCatalog(path), /damaged/)
})

/** More rows than SQLite keeps in memory, so that the damage is met. */
function fillBeyondCache(path: string): void {
  const db = new DatabaseSync(path)
  db.exec(`
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2000)
    INSERT INTO models (id, files, size_bytes, summary, tensor_count, parameter_count, created_at)
    SELECT 'filler-' || n, '[]', 0, '"' || printf('%.*c', 4000, 'x') || '"', 0, 0, '2026-01-01T00:00:00.000Z' FROM numbers`)
  db.close()
}

test('a catalogue that is damaged under a running server fails the calls that meet it, clearly', async (t) => {
  const dataDir = tempFolder(t)
  const path = join(dataDir, 'catalog.sqlite')
  const first = await startService(t, { dataDir })
  const model = await uploadModel(first)
  await first.close()
  fillBeyondCache(path)
  const service = await startService(t, { dataDir })
  damage(path)
  await assert.rejects(service.models.get(model.id), (error) => {
    const { code, detail } = AppError.from(error)
    assert.equal(code, 'store_failed')
    assert.ok(detail.includes(path), detail)
    assert.match(detail, /restore catalog\.sqlite from a backup/)
    return true
  })
})

test('a server whose catalogue fails is not ready and says why, instead of failing its probes', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  assert.equal((await service.health()).ready, true)
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  db.exec('DROP TABLE jobs')
  db.close()
  const { ready, store, queue } = await service.health()
  assert.deepEqual([ready, store.writable, queue.queued], [false, false, 0])
  assert.match(store.error ?? '', /counting jobs .*no such table: jobs/)
})
