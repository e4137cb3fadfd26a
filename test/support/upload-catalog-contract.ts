// The part of the catalogue contract that is about resumable uploads; catalog-contract.ts runs it.

import assert from 'node:assert/strict'
import type { Catalog } from '../../src/store/catalog.ts'
import type { UploadRecord, UploadRules } from '../../src/store/upload-catalog.ts'

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString()

const RULES: UploadRules = { maxOpen: 10, maxOpenPerKey: 5, maxSetBytes: 1000, maxSetFiles: 3 }

export function uploadRow(id: string, change: Partial<UploadRecord> = {}): UploadRecord {
  return {
    id,
    kind: 'model',
    fileName: `${id}.onnx`,
    setName: null,
    sizeBytes: 100,
    storedBytes: 0,
    expectedSha256: null,
    sha256: null,
    state: 'receiving',
    resultId: null,
    error: null,
    metadata: { filename: `${id}.onnx`, größe: null },
    submittedBy: 'ci',
    createdAt: at(0),
    expiresAt: at(60),
    ...change,
  }
}

export function uploadCatalogContract(
  contract: (sentence: string, work: (catalog: Catalog) => Promise<void>) => void,
): void {
  contract('an upload is read back as it was added, changed in part, and deleted once', async (catalog) => {
    const row = uploadRow('u', { setName: 's', expectedSha256: 'e' })
    assert.deepEqual(await catalog.addUpload(row, RULES), { kind: 'added' })
    assert.deepEqual(await catalog.getUpload('u'), row)
    const error = { code: 'format_invalid', detail: 'x', context: { file: 'ü' } } as const
    const changed = await catalog.changeUpload('u', { storedBytes: 100, state: 'refused', error })
    assert.deepEqual(changed, { ...row, storedBytes: 100, state: 'refused', error })
    assert.deepEqual(await catalog.changeUpload('u', { error: null, resultId: 'm' }), {
      ...row,
      storedBytes: 100,
      state: 'refused',
      resultId: 'm',
    })
    assert.equal(await catalog.changeUpload('other', { storedBytes: 1 }), null)
    assert.equal(await catalog.deleteUpload('u'), true)
    assert.equal(await catalog.deleteUpload('u'), false)
    assert.equal(await catalog.getUpload('u'), null)
  })

  contract(
    'open uploads of one key are counted apart; other keys, and uploads without one, are judged without them',
    async (catalog) => {
      const rules = { ...RULES, maxOpenPerKey: 1, maxOpen: 4 }
      assert.deepEqual(await catalog.addUpload(uploadRow('a'), rules), { kind: 'added' })
      assert.deepEqual(await catalog.addUpload(uploadRow('b'), rules), { kind: 'too_many_of_key', open: 1 })
      assert.deepEqual(await catalog.addUpload(uploadRow('b', { submittedBy: 'cd' }), rules), { kind: 'added' })
      for (const id of ['c', 'd']) {
        assert.deepEqual(await catalog.addUpload(uploadRow(id, { submittedBy: null }), rules), { kind: 'added' })
      }
      assert.deepEqual(await catalog.addUpload(uploadRow('e', { submittedBy: null }), rules), {
        kind: 'too_many',
        open: 4,
      })
      await catalog.changeUpload('a', { state: 'finished', resultId: 'm' })
      assert.deepEqual(await catalog.addUpload(uploadRow('e'), rules), { kind: 'added' })
    },
  )

  contract('open uploads are counted, finished and refused ones are not', async (catalog) => {
    const rules = { ...RULES, maxOpen: 2 }
    await catalog.addUpload(uploadRow('a', { storedBytes: 30 }), rules)
    await catalog.addUpload(uploadRow('b', { state: 'stored', storedBytes: 100 }), rules)
    assert.deepEqual(await catalog.addUpload(uploadRow('c'), rules), { kind: 'too_many', open: 2 })
    assert.deepEqual(await catalog.openUploadBytes(), { storedBytes: 130, missingBytes: 70 })
    await catalog.changeUpload('b', { state: 'finished', resultId: 'm' })
    assert.deepEqual(await catalog.openUploadBytes(), { storedBytes: 30, missingBytes: 70 })
    assert.deepEqual(await catalog.addUpload(uploadRow('c'), rules), { kind: 'added' })
    assert.deepEqual(
      (await catalog.listUploads('receiving')).map(({ id }) => id),
      ['a', 'c'],
    )
    assert.equal((await catalog.listUploads(null)).length, 3)
  })

  contract('the files of a set have different names, and limits together', async (catalog) => {
    const add = (id: string, change: Partial<UploadRecord>) =>
      catalog.addUpload(uploadRow(id, { setName: 's', ...change }), RULES)
    assert.deepEqual(await add('a', { fileName: 'x', sizeBytes: 400 }), { kind: 'added' })
    assert.deepEqual(await add('b', { fileName: 'x' }), { kind: 'name_taken', uploadId: 'a' })
    assert.deepEqual(await add('b', { fileName: 'x', setName: 'other' }), { kind: 'added' })
    assert.deepEqual(await add('c', { fileName: 'x/y' }), { kind: 'names_clash', fileName: 'x' })
    assert.deepEqual(await add('c', { sizeBytes: 601 }), { kind: 'set_too_large', sizeBytes: 1001 })
    assert.deepEqual(await add('c', { sizeBytes: 500 }), { kind: 'added' })
    assert.deepEqual(await add('d', { sizeBytes: 50 }), { kind: 'added' })
    assert.deepEqual(await add('e', { sizeBytes: 50 }), { kind: 'set_too_long', files: 4 })
  })

  contract('uploads expire at their time and not before', async (catalog) => {
    await catalog.addUpload(uploadRow('a', { expiresAt: at(10) }), RULES)
    await catalog.addUpload(uploadRow('b', { expiresAt: at(20) }), RULES)
    const expired = async (second: number) => (await catalog.expiredUploads(at(second))).map(({ id }) => id)
    assert.deepEqual(await expired(9), [])
    assert.deepEqual(await expired(10), ['a'])
    assert.deepEqual(await expired(20), ['a', 'b'])
  })
}
