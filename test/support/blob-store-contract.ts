// What every BlobStore must do, whatever stands behind it. Entry: blobStoreContract(name, open).

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import type { BlobStore } from '../../src/store/blob-store.ts'

export const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex')

/** `open` gives an empty store and a folder for files that are to be put. */
export function blobStoreContract(
  name: string,
  open: (t: TestContext) => Promise<{ blobs: BlobStore; folder: string }>,
): void {
  test(`${name}: a file is moved in and read back under the hash of its content`, async (t) => {
    const { blobs, folder } = await open(t)
    const path = join(folder, 'a')
    writeFileSync(path, 'weights')
    const put = await blobs.putFile(path, null)
    assert.deepEqual(put, { sha256: sha256('weights'), sizeBytes: 7 })
    assert.equal(existsSync(path), false)
    assert.equal((await blobs.read(put.sha256)).toString(), 'weights')
    const { path: at, sizeBytes } = await blobs.locate(put.sha256)
    assert.equal(sizeBytes, 7)
    assert.equal(readFileSync(at, 'utf8'), 'weights')
  })

  test(`${name}: the same content twice is one blob, also when put at the same time`, async (t) => {
    const { blobs, folder } = await open(t)
    const paths = ['a', 'b', 'c'].map((file) => join(folder, file))
    for (const path of paths) writeFileSync(path, 'same')
    const put = await Promise.all(paths.map((path) => blobs.putFile(path, sha256('same'))))
    assert.deepEqual(new Set(put.map((blob) => blob.sha256)), new Set([sha256('same')]))
    assert.deepEqual(
      paths.map((path) => existsSync(path)),
      [false, false, false],
    )
    assert.deepEqual(await blobs.list(), { blobs: [sha256('same')], strays: [] })
  })

  test(`${name}: bytes of any length are kept, none included`, async (t) => {
    const { blobs } = await open(t)
    for (const length of [0, 1, 100_000]) {
      const bytes = new Uint8Array(length).fill(7)
      const { sha256: id } = await blobs.putBytes(bytes)
      assert.deepEqual(await blobs.read(id), Buffer.from(bytes))
    }
  })

  test(`${name}: a blob is placed where somebody needs it under another name`, async (t) => {
    const { blobs, folder } = await open(t)
    const { sha256: id } = await blobs.putBytes(Buffer.from('weights'))
    const path = join(folder, 'deep', 'model.onnx')
    await blobs.place(id, path)
    assert.equal(readFileSync(path, 'utf8'), 'weights')
  })

  test(`${name}: every blob is listed, and a removed one is gone while the others stay`, async (t) => {
    const { blobs } = await open(t)
    const kept = await blobs.putBytes(Buffer.from('kept'))
    const dropped = await blobs.putBytes(Buffer.from('dropped'))
    assert.deepEqual(new Set((await blobs.list()).blobs), new Set([kept.sha256, dropped.sha256]))
    await blobs.remove(dropped.sha256)
    await blobs.remove(dropped.sha256)
    assert.deepEqual(await blobs.list(), { blobs: [kept.sha256], strays: [] })
    assert.equal((await blobs.read(kept.sha256)).toString(), 'kept')
    await assert.rejects(
      blobs.read(dropped.sha256),
      (error) => error instanceof AppError && error.code === 'store_failed',
    )
  })

  test(`${name}: a stream that was opened before its blob was removed reads to the end`, async (t) => {
    const { blobs } = await open(t)
    const bytes = new Uint8Array(300_000).fill(5)
    const { sha256: id } = await blobs.putBytes(bytes)
    const stream = createReadStream((await blobs.locate(id)).path, { highWaterMark: 1000 })
    await once(stream, 'open')
    await blobs.remove(id)
    let read = 0
    for await (const chunk of stream) read += (chunk as Buffer).byteLength
    assert.equal(read, 300_000)
  })
}
