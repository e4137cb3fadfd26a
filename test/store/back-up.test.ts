// Backups: what a copy of a live folder holds, what a second one copies, and what is refused.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { backUp } from '../../src/store/back-up.ts'
import { openStore } from '../../src/store/open-store.ts'
import { KEEP_EVERYTHING } from '../../src/store/retention.ts'
import { createSecretBox } from '../../src/store/secret-box.ts'
import { openTestStore } from '../support/store-with-items.ts'
import { tempFolder } from '../support/temp-folder.ts'

async function filledStore(t: Parameters<typeof openTestStore>[0]) {
  const store = await openTestStore(t)
  await store.model('m1', 100, 1)
  await store.dataset('d1', 30, 1)
  await store.artifact('a1', 'artifact bytes', 1)
  await store.endedJob('j1', 'm1', 'a1', 1)
  for (const id of ['m1', 'm2']) tensorTable(store.dataDir, id)
  return store
}

function tensorTable(dataDir: string, id: string): void {
  mkdirSync(join(dataDir, 'models', id), { recursive: true })
  writeFileSync(join(dataDir, 'models', id, 'tensors.ndjson'), '{}\n')
}

test('a backup of a folder in use is a whole data folder, and the server goes on meanwhile', async (t) => {
  const store = await filledStore(t)
  const to = join(tempFolder(t), 'backup')
  const report = await backUp(store.dataDir, to)
  // Model file and table, dataset, artifact, its result, the report.
  assert.deepEqual([report.files, report.copiedFiles, report.vanished], [6, 6, []])
  await store.model('m2', 50, 0)
  const restored = await openStore(to, { policy: KEEP_EVERYTHING })
  assert.deepEqual([...(await restored.catalog.modelIds())], ['m1'])
  const [file] = await restored.artifacts.locate((await restored.artifacts.find('a1'))!)
  assert.equal(readFileSync(file!.path, 'utf8'), 'artifact bytes')
  const job = await restored.catalog.getJob('j1')
  assert.deepEqual(await restored.artifacts.readDocument(job!.reportSha256!), { reportOf: 'j1' })
  await restored.close()
  assert.deepEqual([...(await store.catalog.modelIds())].sort(), ['m1', 'm2'])
})

test('a second backup into the same folder copies only what is new and replaces the catalogue', async (t) => {
  const store = await filledStore(t)
  const to = tempFolder(t)
  await backUp(store.dataDir, to)
  await store.model('m2', 50, 0)
  const report = await backUp(store.dataDir, to)
  assert.deepEqual([report.files, report.copiedFiles], [8, 2])
  const restored = await openStore(to, { policy: KEEP_EVERYTHING })
  assert.deepEqual([...(await restored.catalog.modelIds())].sort(), ['m1', 'm2'])
  await restored.close()
})

test('a file that was deleted before it was copied is told, and the rest is there', async (t) => {
  const store = await filledStore(t)
  rmSync(join(store.data.datasets, 'd1.npz'))
  const report = await backUp(store.dataDir, tempFolder(t))
  assert.deepEqual([report.files, report.vanished], [5, [join('datasets', 'd1.npz')]])
})

test('the key that seals secrets comes along, for its owner only', async (t) => {
  const store = await filledStore(t)
  const sealed = await createSecretBox(store.data.secretKeyPath).seal('0123456789abcdef', 'j1')
  const to = tempFolder(t)
  await backUp(store.dataDir, to)
  const key = join(to, 'webhook-secrets.key')
  assert.equal(await createSecretBox(key).open(sealed, 'j1'), '0123456789abcdef')
  if (process.platform !== 'win32') assert.equal(statSync(key).mode & 0o777, 0o600)
})

test('a copy that fails leaves the catalogue of the earlier backup in place, and the next one completes it', async (t) => {
  const store = await filledStore(t)
  const to = tempFolder(t)
  await backUp(store.dataDir, to)
  const before = readFileSync(join(to, 'catalog.sqlite'))
  await store.model('m2', 50, 0)
  writeFileSync(join(to, 'models', 'm2'), 'a file where a folder has to be')
  await assert.rejects(backUp(store.dataDir, to), { code: 'store_failed' })
  assert.deepEqual(readFileSync(join(to, 'catalog.sqlite')), before)
  rmSync(join(to, 'models', 'm2'))
  assert.equal((await backUp(store.dataDir, to)).copiedFiles, 2)
})

test('no data folder, the folder itself, and a folder that a server has used are refused', async (t) => {
  const store = await filledStore(t)
  const empty = tempFolder(t)
  await assert.rejects(backUp(empty, tempFolder(t)), { code: 'not_found' })
  await assert.rejects(backUp(store.dataDir, `${store.dataDir}/../${store.dataDir.split('/').at(-1)}`), {
    code: 'conflict',
  })
  const used = await openTestStore(t)
  await assert.rejects(backUp(store.dataDir, used.dataDir), { code: 'conflict' })
  assert.equal(existsSync(join(empty, 'catalog.sqlite')), false)
  assert.deepEqual(readdirSync(used.data.models), [])
})
