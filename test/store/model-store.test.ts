// What is kept beside a model: documents that are made on first use, and no more of them than their limit.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openDataFolder } from '../../src/store/data-folder.ts'
import { CACHED_DOCUMENTS, createModelStore } from '../../src/store/model-store.ts'
import { openSqliteCatalog } from '../../src/store/sqlite-catalog.ts'
import { tempFolder } from '../support/temp-folder.ts'

test('of the cached documents of a model those that were used last are kept, up to a limit', async (t) => {
  const data = await openDataFolder(tempFolder(t))
  const catalog = openSqliteCatalog(data.catalogPath)
  t.after(async () => {
    await catalog.close()
    data.close()
  })
  const models = createModelStore(data, catalog)
  const folder = join(data.models, 'm', 'histograms')
  mkdirSync(folder, { recursive: true })
  let made = 0
  const ask = (key: string) => models.cached('m', key, async () => ({ key, made: ++made }))

  assert.deepEqual(await ask('first'), { key: 'first', made: 1 })
  assert.deepEqual(await ask('first'), { key: 'first', made: 1 })
  for (let index = 0; index < CACHED_DOCUMENTS - 1; index++) await ask(`key ${index}`)
  assert.equal(readdirSync(folder).length, CACHED_DOCUMENTS)
  // All of them long ago; then the first one is used again.
  for (const name of readdirSync(folder)) utimesSync(join(folder, name), new Date(0), new Date(0))
  assert.deepEqual(await ask('first'), { key: 'first', made: 1 })
  for (let index = 0; index < 20; index++) await ask(`more ${index}`)
  assert.equal(readdirSync(folder).length, CACHED_DOCUMENTS)
  assert.deepEqual(await ask('first'), { key: 'first', made: 1 })
  assert.deepEqual(readdirSync(join(data.root, 'temporary')), [])
})
