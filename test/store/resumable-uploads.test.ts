// Resumable uploads on disk: what is acknowledged stays, what is not is cut off, and nothing is left over.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { createLocalBlobStore } from '../../src/store/blob-store.ts'
import { openDataFolder } from '../../src/store/data-folder.ts'
import { findOrphans, removeOrphans } from '../../src/store/orphans.ts'
import { CHECKPOINT_BYTES } from '../../src/store/receive-bytes.ts'
import { createResumableUploads } from '../../src/store/resumable-uploads.ts'
import { openSqliteCatalog } from '../../src/store/sqlite-catalog.ts'
import { createStoreQuota } from '../../src/store/store-quota.ts'
import { seededBytes } from '../support/seeded-random.ts'
import { startService, tinyModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const NEVER = new AbortController().signal
const LIMITS = {
  maxUploadBytes: 1e9,
  maxDatasetBytes: 1e8,
  maxFiles: 4,
  minFreeBytes: 0,
  maxOpen: 10,
  maxOpenPerKey: 5,
  expiryMs: 60_000,
}

/** Opens store and catalogue as a server would; `close` lets another one follow. */
async function open(dataDir: string, limits = LIMITS) {
  const data = await openDataFolder(dataDir)
  const catalog = openSqliteCatalog(data.catalogPath)
  const uploads = createResumableUploads(
    data,
    catalog,
    limits,
    createStoreQuota(null, catalog, { makeRoom: async () => false }),
  )
  return {
    data,
    catalog,
    uploads,
    async close() {
      await catalog.close()
      data.close()
    },
  }
}

const upload = (id: string, sizeBytes: number) => ({
  id,
  kind: 'model' as const,
  fileName: 'a.onnx',
  setName: null,
  sizeBytes,
  expectedSha256: null,
  metadata: {},
  submittedBy: null,
})

test('bytes of several requests lie in one file, hashed without reading it again', async (t) => {
  const { uploads, close } = await open(tempFolder(t))
  const bytes = seededBytes(3_000_000, 7)
  await uploads.create(upload('u', bytes.length))
  for (const [from, to] of [
    [0, 10],
    [10, 2_000_001],
    [2_000_001, 3_000_000],
  ] as const) {
    assert.equal(await uploads.append('u', from, Readable.from([bytes.subarray(from, to)]), NEVER), to)
  }
  assert.ok(readFileSync(uploads.pathOf('u')).equals(bytes))
  // The file is not read: its hash would differ.
  writeFileSync(uploads.pathOf('u'), 'overwritten')
  assert.equal(await uploads.hash(await uploads.get('u')), sha256(bytes))
  await close()
})

test('a stream that breaks keeps what had arrived, and the hash goes on from there', async (t) => {
  const { uploads, close } = await open(tempFolder(t))
  const bytes = seededBytes(2_500_000, 8)
  await uploads.create(upload('u', bytes.length))
  async function* broken() {
    yield bytes.subarray(0, 1_000_000)
    yield bytes.subarray(1_000_000, 1_234_567)
    throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' })
  }
  await assert.rejects(uploads.append('u', 0, Readable.from(broken()), NEVER), { code: 'request_invalid' })
  assert.equal((await uploads.get('u')).storedBytes, 1_234_567)
  await uploads.append('u', 1_234_567, Readable.from([bytes.subarray(1_234_567)]), NEVER)
  assert.ok(readFileSync(uploads.pathOf('u')).equals(bytes))
  assert.equal(await uploads.hash(await uploads.get('u')), sha256(bytes))
  await close()
})

test('after a restart it goes on at the acknowledged offset; bytes behind it are cut off', async (t) => {
  const dataDir = tempFolder(t)
  const bytes = seededBytes(1_500_000, 9)
  const first = await open(dataDir)
  await first.uploads.create(upload('u', bytes.length))
  await first.uploads.append('u', 0, Readable.from([bytes.subarray(0, 700_000)]), NEVER)
  appendFileSync(first.uploads.pathOf('u'), Buffer.alloc(1_000_000, 0xee))
  await first.close()
  const second = await open(dataDir)
  assert.equal(await second.uploads.sweep(), 0)
  assert.equal((await second.uploads.get('u')).storedBytes, 700_000)
  await second.uploads.append('u', 700_000, Readable.from([bytes.subarray(700_000)]), NEVER)
  assert.ok(readFileSync(second.uploads.pathOf('u')).equals(bytes))
  assert.equal(await second.uploads.hash(await second.uploads.get('u')), sha256(bytes))
  await second.close()
})

test('a long request is acknowledged every 64 MiB', async (t) => {
  const { uploads, close } = await open(tempFolder(t))
  const piece = Buffer.alloc(1 << 20)
  const pieces = CHECKPOINT_BYTES / piece.length + 3
  await uploads.create(upload('u', pieces * piece.length))
  const seen: number[] = []
  async function* stream() {
    for (let index = 0; index < pieces; index++) {
      yield piece
      if (index === pieces - 1) seen.push((await uploads.get('u')).storedBytes)
    }
  }
  await uploads.append('u', 0, Readable.from(stream(), { highWaterMark: 1 }), NEVER)
  assert.deepEqual(seen, [CHECKPOINT_BYTES])
  await close()
})

test('more bytes than announced, a wrong offset and a stopped server are refused', async (t) => {
  const { uploads, close } = await open(tempFolder(t))
  await uploads.create(upload('u', 10))
  const send = (offset: number, bytes: string, stop = NEVER) =>
    uploads.append('u', offset, Readable.from([Buffer.from(bytes)]), stop)
  await assert.rejects(send(0, '01234567890'), { code: 'body_too_large' })
  await assert.rejects(send(3, '0'), { code: 'conflict' })
  await assert.rejects(send(0, '0', AbortSignal.abort()), { code: 'shutting_down' })
  assert.equal((await uploads.get('u')).storedBytes, 0)
  assert.equal(await send(0, '0123456789'), 10)
  await close()
})

test('files without a row and rows without their bytes are removed at start', async (t) => {
  const dataDir = tempFolder(t)
  const first = await open(dataDir)
  for (const id of ['kept', 'lost', 'cut']) {
    await first.uploads.create(upload(id, 10))
    await first.uploads.append(id, 0, Readable.from([Buffer.from('01234')]), NEVER)
  }
  writeFileSync(join(dataDir, 'uploads', 'orphan'), 'x')
  rmSync(first.uploads.pathOf('lost'))
  writeFileSync(first.uploads.pathOf('cut'), '012')
  await first.close()
  const second = await open(dataDir)
  const blobs = createLocalBlobStore(second.data.blobs, second.data.makeTemporary)
  const orphans = await findOrphans(second.data, second.catalog, blobs)
  assert.deepEqual(orphans, [{ kind: 'upload', id: 'orphan', sizeBytes: 1 }])
  await removeOrphans(second.data, second.catalog, blobs, orphans)
  assert.equal(await second.uploads.sweep(), 2)
  assert.deepEqual(readdirSync(join(dataDir, 'uploads')), ['kept'])
  await assert.rejects(second.uploads.get('lost'), { code: 'not_found' })
  await assert.rejects(second.uploads.get('cut'), { code: 'not_found' })
  await second.close()
})

test('an upload without new bytes expires, one that is worked on does not', async (t) => {
  const { uploads, close } = await open(tempFolder(t), { ...LIMITS, expiryMs: 0 })
  await uploads.create(upload('idle', 10))
  await uploads.create(upload('busy', 10))
  assert.equal(await uploads.removeExpired((id) => id === 'busy', Date.now()), 1)
  assert.equal(existsSync(uploads.pathOf('idle')), false)
  await assert.rejects(uploads.get('idle'), { code: 'not_found' })
  assert.equal((await uploads.get('busy')).id, 'busy')
  await close()
})

test('an upload that is taken up again while others expire stays', async (t) => {
  const { uploads, close } = await open(tempFolder(t), { ...LIMITS, expiryMs: 0 })
  await uploads.create(upload('idle', 10))
  await uploads.create(upload('late', 10))
  // Its client comes back in the moment in which the other one is removed.
  const busy = (id: string) => id === 'late' && !existsSync(uploads.pathOf('idle'))
  assert.equal(await uploads.removeExpired(busy, Date.now()), 1)
  assert.equal((await uploads.get('late')).id, 'late')
  await close()
})

test('a file of a set that would be a folder of another one is refused when it is announced', async (t) => {
  const { uploads, close } = await open(tempFolder(t))
  await uploads.create({ ...upload('one', 10), fileName: 'weights', setName: 's' })
  const two = { ...upload('two', 10), fileName: 'weights/part', setName: 's' }
  await assert.rejects(uploads.create(two), (error: AppError) => {
    assert.equal(error.code, 'request_invalid')
    // The client takes a conflict that names an upload for its own.
    assert.equal('upload' in error.context, false)
    return true
  })
  assert.equal(existsSync(uploads.pathOf('two')), false)
  await close()
})

test('an id that no row has removes nothing, whatever it looks like', async (t) => {
  const dataDir = tempFolder(t)
  const { uploads, close } = await open(dataDir)
  await assert.rejects(uploads.remove('../catalog.sqlite'), { code: 'not_found' })
  assert.ok(statSync(join(dataDir, 'catalog.sqlite')).size > 0)
  await close()
})

/** The bytes are all there, and the process ends before anything is made of them. */
async function completeThenStop(t: TestContext, dataDir: string, bytes: Uint8Array, expectedSha256: string | null) {
  const service = await startService(t, { dataDir })
  const view = await service.uploads.create({
    id: 'u',
    kind: 'model',
    fileName: 'tiny.safetensors',
    set: null,
    sizeBytes: bytes.length,
    expectedSha256,
    metadata: {},
    submittedBy: null,
  })
  await service.uploads.append(view.id, 0, Readable.from([Buffer.from(bytes)]))
  await service.close()
}

test('a complete upload becomes a model when the server starts again', async (t) => {
  const dataDir = tempFolder(t)
  const bytes = tinyModel()
  await completeThenStop(t, dataDir, bytes, sha256(bytes))
  const service = await startService(t, { dataDir })
  const view = await service.uploads.finish('u')
  assert.equal(view.state, 'finished')
  assert.equal(view.modelId, sha256(bytes))
  assert.equal((await service.models.get(sha256(bytes))).sizeBytes, bytes.length)
  assert.deepEqual(readdirSync(join(dataDir, 'uploads')), [])
})

test('a wrong hash is found after a restart as well', async (t) => {
  const dataDir = tempFolder(t)
  await completeThenStop(t, dataDir, tinyModel(), sha256(tinyModel(2)))
  const service = await startService(t, { dataDir })
  await assert.rejects(service.uploads.finish('u'), (error) => AppError.from(error).code === 'checksum_mismatch')
  assert.equal((await service.uploads.get('u')).state, 'refused')
  assert.deepEqual(readdirSync(join(dataDir, 'uploads')), [])
})

test('what open uploads announced counts against the cap, and one that does not fit is refused', async (t) => {
  const { data, catalog, close } = await open(tempFolder(t))
  const quota = createStoreQuota(25, catalog, { makeRoom: async () => false })
  const uploads = createResumableUploads(data, catalog, LIMITS, quota)
  await uploads.create(upload('a', 10))
  await uploads.create(upload('b', 10))
  assert.equal((await catalog.usage()).uploadBytes, 20)
  await assert.rejects(uploads.create(upload('c', 10)), (error) => {
    assert.ok(error instanceof AppError)
    assert.deepEqual(
      [error.code, error.context['limit'], error.context['allowed'], error.context['requested']],
      ['store_quota_exceeded', 'storeBytes', 25, 10],
    )
    return true
  })
  assert.deepEqual(readdirSync(data.uploads).sort(), ['a', 'b'])
  await uploads.remove('a')
  await uploads.create(upload('c', 10))
  await close()
})
