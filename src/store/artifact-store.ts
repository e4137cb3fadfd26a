// Artifacts and validations as jobs see them: JSON documents and files in the blob store, one row each in the catalogue.
// Entry: createArtifactStore. Nothing here is visible to clients until a finished job names it.

import { join } from 'node:path'
import { AppError } from '../errors.ts'
import type { BlobStore } from './blob-store.ts'
import type { ArtifactRecord, Catalog, FileRecord } from './catalog.ts'

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
  /** Forgets an artifact that no job names. */
  drop(key: string): Promise<void>
  findValidation(key: string): Promise<unknown | null>
  keepValidation(key: string, artifactKey: string, result: object): Promise<void>
  putDocument(document: object): Promise<string>
  readDocument(sha256: string): Promise<unknown>
  locateDocument(sha256: string): Promise<{ path: string; sizeBytes: number; sha256: string }>
}

export function createArtifactStore(catalog: Catalog, blobs: BlobStore): ArtifactStore {
  async function putDocument(document: object): Promise<string> {
    return (await blobs.putBytes(Buffer.from(JSON.stringify(document)))).sha256
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
        stored.push({ name, ...(await blobs.putFile(join(folder, name), sha256)) })
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
    drop: (key) => catalog.dropArtifact(key),
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
