// Uploads that go on after a broken connection and a restart of the server. Entry: createResumableUploads. A row of the
// catalogue says how many bytes are acknowledged; they lie in uploads/<id>, synced before the row says so. What is behind
// them in the file after a crash is cut off. The hash is kept while bytes arrive; only after a restart is a file read again.

import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { AppError } from '../errors.ts'
import type { Catalog } from './catalog.ts'
import type { DataFolder } from './data-folder.ts'
import { syncFolder } from './durable-files.ts'
import { inStore, isMissing, storeError } from './file-errors.ts'
import { receiveBytes } from './receive-bytes.ts'
import type { StoreQuota } from './store-quota.ts'
import { checkFileName, clientGone, namesClash, type UploadLimits } from './upload.ts'
import type { UploadKind, UploadRecord } from './upload-catalog.ts'

export interface ResumableLimits extends Omit<UploadLimits, 'sizeLimit'> {
  maxDatasetBytes: number
  /** Uploads that are not finished. */
  maxOpen: number
  /** Those of one API key. */
  maxOpenPerKey: number
  /** An upload without new bytes for this long is removed. */
  expiryMs: number
}

export interface NewUpload {
  id: string
  kind: UploadKind
  fileName: string
  setName: string | null
  sizeBytes: number
  expectedSha256: string | null
  metadata: Record<string, string | null>
  submittedBy: string | null
}

export interface ResumableUploads {
  /**
   * Throws request_invalid, body_too_large, limit_exceeded, too_many_uploads, disk_full, store_quota_exceeded, conflict
   * (name in its set), store_failed.
   */
  create(upload: NewUpload): Promise<UploadRecord>
  /** Throws not_found. */
  get(id: string): Promise<UploadRecord>
  /**
   * Takes bytes from `offsetBytes` on; resolves with the offset after them. What arrived before a failure is kept. One call
   * at a time for an upload. `stop` ends it early with shutting_down.
   */
  append(id: string, offsetBytes: number, stream: Readable, stop: AbortSignal): Promise<number>
  /** SHA-256 of a complete upload. */
  hash(record: UploadRecord): Promise<string>
  pathOf(id: string): string
  /** Removes the bytes, not the row; safe to repeat. */
  dropBytes(id: string): Promise<void>
  /** Removes bytes and row. Throws not_found. */
  remove(id: string): Promise<void>
  /** Removes what is past its time, except uploads that `busy` names. Returns how many. */
  removeExpired(busy: (id: string) => boolean, nowMs: number): Promise<number>
  /** Removes rows without files (files without rows: orphans.ts). Call it before anything is received. Returns how many. */
  sweep(): Promise<number>
}

export function createResumableUploads(
  data: DataFolder,
  catalog: Catalog,
  limits: ResumableLimits,
  quota: StoreQuota,
): ResumableUploads {
  const pathOf = (id: string) => join(data.uploads, id)
  /** Hashes of the bytes [0, endBytes) that this process saw. */
  const hashes = new Map<string, { hash: Hash; endBytes: number }>()
  const expiry = () => new Date(Date.now() + limits.expiryMs).toISOString()

  async function get(id: string): Promise<UploadRecord> {
    const record = await catalog.getUpload(id)
    if (record === null) throw new AppError('not_found', `There is no upload "${id}".`, { upload: id })
    return record
  }

  async function dropBytes(id: string): Promise<void> {
    hashes.delete(id)
    await inStore(`removing upload ${id}`, () => fs.rm(pathOf(id), { force: true }))
  }

  /** The row first: an id that no row has came from a client and names no file of ours. */
  async function remove(id: string): Promise<void> {
    await get(id)
    await dropBytes(id)
    await catalog.deleteUpload(id)
  }

  return {
    get,
    pathOf,
    dropBytes,
    remove,

    async create(upload) {
      checkFileName(upload.fileName)
      const [limit, allowed] =
        upload.kind === 'dataset'
          ? (['datasetBytes', limits.maxDatasetBytes] as const)
          : (['uploadBytes', limits.maxUploadBytes] as const)
      if (upload.sizeBytes > allowed) throw tooLarge(limit, allowed, upload.sizeBytes)
      const { missingBytes } = await catalog.openUploadBytes()
      await data.requireFree(upload.sizeBytes + missingBytes, limits.minFreeBytes)
      const now = new Date().toISOString()
      const record: UploadRecord = {
        ...upload,
        storedBytes: 0,
        sha256: null,
        state: 'receiving',
        resultId: null,
        error: null,
        createdAt: now,
        expiresAt: expiry(),
      }
      const room = quota.open()
      try {
        await room.growTo(upload.sizeBytes)
        await inStore(`creating upload ${upload.id}`, async () => {
          await fs.writeFile(pathOf(upload.id), '', { flag: 'wx' })
          await syncFolder(data.uploads)
        })
        const { maxOpen, maxOpenPerKey, maxUploadBytes: maxSetBytes, maxFiles: maxSetFiles } = limits
        const rules = { maxOpen, maxOpenPerKey, maxSetBytes, maxSetFiles }
        const added = await catalog.addUpload(record, rules)
        if (added.kind !== 'added') throw refusal(added, upload, limits)
      } catch (error) {
        await dropBytes(upload.id)
        throw error
      } finally {
        room.release() // its row counts now
      }
      hashes.set(upload.id, { hash: createHash('sha256'), endBytes: 0 })
      return record
    },

    async append(id, offsetBytes, stream, stop) {
      const record = await get(id)
      if (record.state !== 'receiving' || offsetBytes !== record.storedBytes) {
        throw new AppError(
          'conflict',
          `Upload ${id} is ${record.state} and has ${record.storedBytes} bytes; bytes from ${offsetBytes} on do not fit.`,
          { upload: id, state: record.state, offset: record.storedBytes },
        )
      }
      await data.requireFree(record.sizeBytes - offsetBytes, limits.minFreeBytes)
      const known = hashes.get(id)
      const hash = known?.endBytes === offsetBytes ? known.hash : null
      hashes.delete(id)
      let allowed = record.sizeBytes - offsetBytes
      const handle = await inStore(`opening upload ${id}`, () => fs.open(pathOf(id), 'r+'))
      const draining = new AppError('shutting_down', 'The server is draining; go on afterwards.')
      const onStop = () => stream.destroy(draining)
      stop.addEventListener('abort', onStop)
      try {
        if (stop.aborted) throw draining
        await handle.truncate(offsetBytes)
        const endBytes = await receiveBytes(stream, {
          handle,
          offsetBytes,
          hash,
          take(chunkBytes) {
            allowed -= chunkBytes
            if (allowed >= 0) return
            const { sizeBytes } = record
            throw new AppError('body_too_large', `Upload ${id} was announced with ${sizeBytes} bytes; more arrived.`, {
              limit: 'Upload-Length',
              allowed: sizeBytes,
              requested: sizeBytes - allowed,
            })
          },
          async checkpoint(storedBytes) {
            await handle.datasync()
            const changed = await catalog.changeUpload(id, { storedBytes, expiresAt: expiry() })
            if (changed === null) throw new AppError('not_found', `Upload ${id} was removed.`, { upload: id })
            if (hash !== null) hashes.set(id, { hash: hash.copy(), endBytes: storedBytes })
            await data.requireFree(0, limits.minFreeBytes)
          },
        })
        return endBytes
      } catch (error) {
        throw clientGone(error) ?? storeError(error, `receiving upload ${id}`)
      } finally {
        stop.removeEventListener('abort', onStop)
        await handle.close()
      }
    },

    async hash(record) {
      const known = hashes.get(record.id) ?? { hash: createHash('sha256'), endBytes: 0 }
      hashes.delete(record.id)
      if (known.endBytes < record.sizeBytes) {
        await inStore(`reading upload ${record.id}`, async () => {
          const rest = createReadStream(pathOf(record.id), { start: known.endBytes, highWaterMark: 1024 * 1024 })
          for await (const chunk of rest) known.hash.update(chunk as Buffer)
        })
      }
      return known.hash.digest('hex')
    },

    async removeExpired(busy, nowMs) {
      let removed = 0
      for (const { id } of await catalog.expiredUploads(new Date(nowMs).toISOString())) {
        // Asked again for each: while those before it were removed, a client may have come back.
        if (busy(id)) continue
        await remove(id)
        removed++
      }
      return removed
    },

    async sweep() {
      const rows = await catalog.listUploads(null)
      let removed = 0
      for (const record of rows.filter(({ state }) => state === 'receiving' || state === 'stored')) {
        const sizeBytes = await fs.stat(pathOf(record.id)).then(
          ({ size }) => size,
          (error: unknown) =>
            isMissing(error) ? -1 : Promise.reject(storeError(error, `reading upload ${record.id}`)),
        )
        if (sizeBytes >= record.storedBytes) continue
        await remove(record.id)
        removed++
      }
      return removed
    },
  }
}

function tooLarge(limit: 'uploadBytes' | 'datasetBytes', allowed: number, requested: number): AppError {
  return new AppError('body_too_large', `The upload has ${requested} bytes; limit ${limit} allows ${allowed}.`, {
    limit,
    allowed,
    requested,
  })
}

function refusal(
  result: Exclude<Awaited<ReturnType<Catalog['addUpload']>>, { kind: 'added' }>,
  { fileName, setName, submittedBy }: NewUpload,
  limits: ResumableLimits,
): AppError {
  switch (result.kind) {
    case 'too_many': {
      const detail = `${result.open} uploads are open, as many as are allowed. Finish or delete some, or try again later.`
      const context = { limit: 'openUploads', allowed: limits.maxOpen, requested: result.open + 1 }
      return new AppError('too_many_uploads', detail, context)
    }
    case 'too_many_of_key': {
      const detail = `${result.open} uploads of API key "${submittedBy}" are open, as many as limit openUploadsPerKey allows. Finish or delete some.`
      const context = { limit: 'openUploadsPerKey', allowed: limits.maxOpenPerKey, requested: result.open + 1 }
      return new AppError('too_many_uploads', detail, context)
    }
    case 'set_too_large':
      return tooLarge('uploadBytes', limits.maxUploadBytes, result.sizeBytes)
    case 'set_too_long': {
      const context = { limit: 'uploadParts', allowed: limits.maxFiles, requested: result.files }
      return new AppError(
        'limit_exceeded',
        `A model may have ${limits.maxFiles} files; set "${setName}" has more.`,
        context,
      )
    }
    case 'name_taken':
      return new AppError(
        'conflict',
        `Set "${setName}" has ${JSON.stringify(fileName)} already, as upload ${result.uploadId}. Go on with that one, or delete it.`,
        { upload: result.uploadId },
      )
    case 'names_clash':
      return namesClash(fileName, result.fileName)
  }
}
