// The local blob store: the contract, and no temporary file left.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createLocalBlobStore } from '../../src/store/blob-store.ts'
import { openDataFolder } from '../../src/store/data-folder.ts'
import { blobStoreContract } from '../support/blob-store-contract.ts'
import { tempFolder } from '../support/temp-folder.ts'

blobStoreContract('local', async (t) => {
  const data = await openDataFolder(tempFolder(t))
  t.after(() => data.close())
  const folder = join(data.root, 'incoming')
  mkdirSync(folder)
  return { blobs: createLocalBlobStore(data.blobs, data.makeTemporary), folder }
})

test('putting bytes leaves no temporary file', async (t) => {
  const data = await openDataFolder(tempFolder(t))
  t.after(() => data.close())
  const blobs = createLocalBlobStore(data.blobs, data.makeTemporary)
  await blobs.putBytes(Buffer.from('x'))
  assert.deepEqual(readdirSync(join(data.root, 'temporary')), [])
})
