// Artifacts and validations as jobs see them: JSON documents and files in the blob store, one row each in the catalogue.
// Entry: createArtifactStore. Nothing here is visible to clients until a finished job names it.

import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { AppError } from '../errors.ts'
import { type BlobStore, hashFile } from './blob-store.ts'
import type { ArtifactRecord, Catalog, FileRecord } from './catalog.ts'
import { inStore } from './file-errors.ts'
import { createKeyedLock } from './keyed-lock.ts'

export interface ArtifactStore {
  find(key: string): Promise<ArtifactRecord | null>
  /** Moves the files out of `folder` into the store. sha256 null: counted on the way. */
  keep(
    key: string,
    folder: string,
    files: readonly { name: string; sha256: string | null }[],
    result: (stored: FileRecord[]) => object,
    measured: boolean,
  ): Promise<ArtifactRecord>
  /** Puts the files under their names into `folder`, for whoever must open them. Throws store_failed when one vanished. */
  place(record: ArtifactRecord, folder: string): Promise<void>
  /** Where the files lie, for streaming. */
  locate(record: ArtifactRecord): Promise<(FileRecord & { path: string })[]>
  /** The artifact was asked for: it counts as used. */
  touch(key: string): Promise<void>
  /** The job makes or uses this artifact: retention leaves it alone until the job has ended. */
  claim(jobId: string, key: string): Promise<void>
  /** Forgets an artifact that no job names. */
  drop(key: string): Promise<void>
  /** Removes the file of a blob that has been unused since then, unless it was put again meanwhile. */
  removeBlob(sha256: string, unusedSince: string): Promise<boolean>
  findValidation(key: string): Promise<unknown | null>
  keepValidation(key: string, artifactKey: string, result: object): Promise<void>
  putDocument(document: object): Promise<string>
  readDocument(sha256: string): Promise<unknown>
  locateDocument(sha256: string): Promise<{ path: string; sizeBytes: number; sha256: string }>
}

export function createArtifactStore(catalog: Catalog, blobs: BlobStore): ArtifactStore {
  /** Putting a blob and removing it exclude one another, or a file would go that was just found to be there already. */
  const exclusively = createKeyedLock()

  async function putDocument(document: object): Promise<string> {
    const bytes = Buffer.from(JSON.stringify(document))
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    await exclusively(sha256, async () => {
      await blobs.putBytes(bytes)
      await catalog.addBlob({ sha256, kind: 'document', sizeBytes: bytes.byteLength }, now())
    })
    return sha256
  }
  async function putFile(path: string, known: string | null): Promise<{ sha256: string; sizeBytes: number }> {
    const sha256 = known ?? (await inStore(`hashing ${path}`, () => hashFile(path)))
    return exclusively(sha256, async () => {
      const put = await blobs.putFile(path, sha256)
      await catalog.addBlob({ ...put, kind: 'artifact' }, now())
      return put
    })
  }
  async function readDocument(sha256: string): Promise<unknown> {
    return JSON.parse((await blobs.read(sha256)).toString('utf8')) as unknown
  }
  const now = () => new Date().toISOString()

  return {
    putDocument,
    readDocument,
    async locateDocument(sha256) {
      return { ...(await blobs.locate(sha256)), sha256 }
    },
    find: (key) => catalog.getArtifact(key),
    async keep(key, folder, files, result, measured) {
      const stored: FileRecord[] = []
      for (const { name, sha256 } of files) {
        stored.push({ name, ...(await putFile(join(folder, name), sha256)) })
      }
      const record = { key, files: stored, resultSha256: await putDocument(result(stored)), measured, createdAt: now() }
      await catalog.putArtifact(record)
      return record
    },
    async place(record, folder) {
      for (const { name, sha256 } of record.files) await blobs.place(sha256, join(folder, name))
    },
    locate: (record) =>
      Promise.all(
        record.files.map(async (file) => {
          const { path, sizeBytes } = await blobs.locate(file.sha256)
          if (sizeBytes === file.sizeBytes) return { ...file, path }
          throw new AppError(
            'store_failed',
            `Artifact file ${JSON.stringify(file.name)} has ${sizeBytes} bytes in the store instead of ${file.sizeBytes}.`,
            { file: file.name },
          )
        }),
      ),
    touch: (key) => catalog.touch('artifact', key, now()),
    claim: (jobId, key) => catalog.claimArtifact(jobId, key, now()),
    removeBlob: (sha256, unusedSince) =>
      exclusively(sha256, async () => {
        if (!(await catalog.isUnusedSince(sha256, unusedSince))) return false
        await blobs.remove(sha256)
        await catalog.forgetBlob(sha256)
        return true
      }),
    drop: (key) => catalog.dropArtifact(key, now()),
    async findValidation(key) {
      const record = await catalog.getValidation(key)
      return record === null ? null : readDocument(record.resultSha256)
    },
    async keepValidation(key, artifactKey, result) {
      const resultSha256 = await putDocument(result)
      await catalog.putValidation({ key, artifactKey, resultSha256, createdAt: now() })
    },
  }
}
