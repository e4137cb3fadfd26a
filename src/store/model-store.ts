// Uploaded models: one folder per id, a row that makes it visible. Entry: createModelStore. The id is the sha256 of the file;
// for several files the sha256 over the lines "<sha256>  <name>\n" sorted by name. A folder without a row is an orphan of a
// crash and is removed at start (orphans.ts); a row without its folder is a vanished file and says so when it is used.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { AppError } from '../errors.ts'
import type { SourceFile } from '../tensor/model.ts'
import type { Catalog, FileRecord, ModelRecord } from './catalog.ts'
import type { DataFolder } from './data-folder.ts'
import { publish, syncTree } from './durable-files.ts'
import { inStore } from './file-errors.ts'
import { createKeyedLock } from './keyed-lock.ts'
import type { StagedFiles } from './upload.ts'

export interface ModelStore {
  /** Publishes staged files with their description. created: false when the same content is there already. */
  publish(
    upload: StagedFiles,
    about: Pick<ModelRecord, 'summary' | 'tensorCount' | 'parameterCount'>,
    tensors: readonly object[],
  ): Promise<{ record: ModelRecord; created: boolean }>
  /** Throws not_found. */
  get(id: string): Promise<ModelRecord>
  /** Paths of the files, the main one first. Throws store_failed when one vanished or changed its size. */
  sources(record: ModelRecord): Promise<SourceFile[]>
  /** Rows [offset, offset + limit) of the tensor table, as they were published. */
  tensors(id: string, offset: number, limit: number): Promise<object[]>
  /** A JSON document kept beside the model under this key, made on first use; CACHED_DOCUMENTS of them are kept. */
  cached<T>(id: string, key: string, make: () => Promise<T>): Promise<T>
  /** Throws not_found, conflict. */
  delete(id: string): Promise<void>
  /** Unless it was used since `usedBefore` or a queued or running job uses it (null). Returns the bytes that were freed. */
  removeUnused(id: string, usedBefore: string): Promise<number | null>
}

/**
 * Of one model, those that were used last. A page shows some dozens of histograms, and each is made again in moments; a client
 * could ask for thousands of each tensor. With the most bins one has 80 KB: 20 MB.
 */
export const CACHED_DOCUMENTS = 256

/** See the header. */
export function modelId(files: readonly FileRecord[]): string {
  const only = files[0]
  if (only !== undefined && files.length === 1) return only.sha256
  const hash = createHash('sha256')
  for (const { name, sha256 } of files.toSorted((a, b) => (a.name < b.name ? -1 : 1)))
    hash.update(`${sha256}  ${name}\n`)
  return hash.digest('hex')
}

export function createModelStore(data: DataFolder, catalog: Catalog): ModelStore {
  const exclusively = createKeyedLock()
  const folderOf = (id: string) => join(data.models, id)

  async function get(id: string): Promise<ModelRecord> {
    const record = await catalog.getModel(id)
    if (record === null) throw new AppError('not_found', `There is no model "${id}".`, { model: id })
    return record
  }

  /** After a failed publication: gigabytes must not wait for the next start to be swept. What has a row, or may have one, stays. */
  async function removeUnlisted(id: string, staged: string): Promise<void> {
    const row = await catalog.getModel(id).catch(() => 'unknown')
    const orphans = row === null ? [staged, folderOf(id)] : [staged]
    for (const path of orphans) await fs.rm(path, { recursive: true, force: true }).catch(() => {})
  }

  /** Beyond CACHED_DOCUMENTS, those whose last use is longest ago. */
  async function dropOldest(folder: string): Promise<void> {
    const names = await fs.readdir(folder)
    if (names.length <= CACHED_DOCUMENTS) return
    const files = await Promise.all(
      names.map(async (name) => {
        const path = join(folder, name)
        return { path, usedMs: (await fs.stat(path)).mtimeMs }
      }),
    )
    files.sort((a, b) => a.usedMs - b.usedMs)
    for (const { path } of files.slice(0, files.length - CACHED_DOCUMENTS)) await fs.rm(path, { force: true })
  }

  return {
    get,
    publish: (upload, about, tensors) => {
      const id = modelId(upload.files)
      return exclusively(id, async () => {
        const known = await catalog.getModel(id)
        if (known !== null) {
          await catalog.touch('model', id, new Date().toISOString())
          await upload.discard()
          return { record: known, created: false }
        }
        const record: ModelRecord = {
          id,
          files: upload.files,
          sizeBytes: upload.files.reduce((sum, file) => sum + file.sizeBytes, 0),
          createdAt: new Date().toISOString(),
          ...about,
        }
        const staged = await data.makeTemporary('model')
        try {
          await inStore(`publishing model ${id}`, async () => {
            await fs.rename(upload.folder, join(staged, 'files'))
            await fs.mkdir(join(staged, 'histograms'))
            await fs.writeFile(join(staged, 'tensors.ndjson'), lines(tensors), { flush: true })
            await syncTree(staged)
            await fs.rm(folderOf(id), { recursive: true, force: true })
            await publish(staged, folderOf(id))
          })
          await catalog.addModel(record, upload.uploadIds)
        } catch (error) {
          await removeUnlisted(id, staged)
          throw error
        }
        return { record, created: true }
      })
    },
    async sources(record) {
      return Promise.all(
        record.files.map(async ({ name, sizeBytes }) => {
          const path = join(folderOf(record.id), 'files', name)
          const found = await fs.stat(path).catch(() => null)
          if (found?.size === sizeBytes) return { name, path, sizeBytes }
          const what = found === null ? 'is gone' : `has ${found.size} bytes instead of ${sizeBytes}`
          throw new AppError(
            'store_failed',
            `File ${JSON.stringify(name)} of model ${record.id} ${what}. Delete the model and upload it again.`,
            { model: record.id, file: name },
          )
        }),
      )
    },
    async tensors(id, offset, limit) {
      const rows: object[] = []
      await inStore(`reading the tensor table of model ${id}`, async () => {
        const input = createReadStream(join(folderOf(id), 'tensors.ndjson'))
        let index = 0
        for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
          if (index >= offset + limit) break
          if (index >= offset) rows.push(JSON.parse(line) as object)
          index++
        }
        input.destroy()
      })
      return rows
    },
    async cached<T>(id: string, key: string, make: () => Promise<T>): Promise<T> {
      const name = `${createHash('sha256').update(key).digest('hex')}.json`
      const path = join(folderOf(id), 'histograms', name)
      try {
        const known = JSON.parse(await fs.readFile(path, 'utf8')) as T
        const now = new Date()
        await fs.utimes(path, now, now).catch(() => {}) // that it was used is worth no failure
        return known
      } catch {
        // not made yet, or damaged: make it again
      }
      const made = await make()
      const temporary = await data.makeTemporary('cached')
      try {
        await fs.writeFile(join(temporary, name), JSON.stringify(made))
        await fs.rename(join(temporary, name), path)
        await dropOldest(join(folderOf(id), 'histograms'))
      } catch {
        // a cache that cannot be written is no failure of the request; the model may be gone by now
      } finally {
        await fs.rm(temporary, { recursive: true, force: true })
      }
      return made
    },
    delete: (id) =>
      exclusively(id, async () => {
        const result = await catalog.deleteModel(id)
        if (result.kind === 'missing') await get(id)
        if (result.kind === 'in_use') {
          throw new AppError(
            'conflict',
            `Job ${result.jobId} uses model ${id}. Cancel it, or wait until it has ended.`,
            {
              model: id,
              job: result.jobId,
            },
          )
        }
        await inStore(`deleting model ${id}`, () => fs.rm(folderOf(id), { recursive: true, force: true }))
      }),
    removeUnused: (id, usedBefore) =>
      exclusively(id, async () => {
        const result = await catalog.removeUnused('model', id, usedBefore, new Date().toISOString())
        if (result.kind === 'kept') return null
        await inStore(`removing model ${id}`, () => fs.rm(folderOf(id), { recursive: true, force: true }))
        return result.freedBytes
      }),
  }
}

/** Tables of 100,000 rows exist: a piece at a time, so that the server answers others in between. */
const ROWS_PER_WRITE = 256

function* lines(rows: readonly object[]): Generator<string> {
  for (let start = 0; start < rows.length; start += ROWS_PER_WRITE) {
    const piece = rows.slice(start, start + ROWS_PER_WRITE)
    yield piece.map((row) => `${JSON.stringify(row)}\n`).join('')
  }
}
