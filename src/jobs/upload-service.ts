// Resumable uploads for the HTTP layer: bytes go to store/resumable-uploads.ts; a complete file is checked, described in the
// inspect child and published like any other upload. Entry: createUploadService. Finishing can be repeated at any point: a
// crash between the last byte and the answer leaves a row that says what is left to do, and the next start does it.

import { constants } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError, ERROR_CODES } from '../errors.ts'
import { syncFile } from '../store/durable-files.ts'
import { inStore } from '../store/file-errors.ts'
import { createKeyedLock } from '../store/keyed-lock.ts'
import { modelId } from '../store/model-store.ts'
import type { ResumableUploads } from '../store/resumable-uploads.ts'
import type { StagedFiles } from '../store/upload.ts'
import type { UploadRecord } from '../store/upload-catalog.ts'
import type { AgeClock } from './age-clock.ts'
import { commitDataset, commitModel, type ModelServiceParts, modelView } from './model-service.ts'
import type { ServiceLog, UploadService, UploadView } from './service.ts'

/** How often expired uploads are looked for; the expiry itself is a day, or a minute at least. */
const EXPIRY_CHECK_MS = 30_000
/** What uploads in progress get at the end to put down what has arrived. */
const CLOSE_GRACE_MS = 5000

export interface RunningUploadService extends UploadService {
  /** Finishes what the last process left complete, and begins to look for expired uploads. */
  start(): Promise<void>
  close(): Promise<void>
}

export function createUploadService(
  parts: ModelServiceParts,
  uploads: ResumableUploads,
  log: ServiceLog,
  clock: AgeClock,
): RunningUploadService {
  const { data, catalog, models, limits } = parts
  const closing = new AbortController()
  const exclusively = createKeyedLock()
  /** Appends and finishes in progress, by upload. */
  const busy = new Map<string, number>()
  const running = new Set<Promise<unknown>>()
  const finishing = new Map<string, Promise<UploadRecord>>()
  /** Ids of each call that joins uploads to a model, or waits for that. */
  const joins = new Set<readonly string[]>()
  const removing = new Set<string>()
  let expiryTimer: NodeJS.Timeout | null = null

  function refuseWhenClosing(): void {
    if (closing.signal.aborted) throw new AppError('shutting_down', 'The server is draining; go on afterwards.')
  }

  /** Keeps expiry and close() away from an upload that is worked on. */
  async function working<T>(ids: readonly string[], work: () => Promise<T>): Promise<T> {
    refuseWhenClosing()
    for (const id of ids) busy.set(id, (busy.get(id) ?? 0) + 1)
    const promise = work()
    running.add(promise)
    try {
      return await promise
    } finally {
      running.delete(promise)
      for (const id of ids) {
        const left = (busy.get(id) ?? 1) - 1
        if (left === 0) busy.delete(id)
        else busy.set(id, left)
      }
    }
  }

  async function change(id: string, change: Parameters<typeof catalog.changeUpload>[1]): Promise<UploadRecord> {
    return (await catalog.changeUpload(id, change)) ?? uploads.get(id)
  }

  /** Gives the files their names in a private folder, without copying where the file system has links. */
  async function stage(records: readonly UploadRecord[]): Promise<StagedFiles> {
    const folder = await data.makeTemporary('upload')
    await inStore('staging uploaded files', async () => {
      for (const { id, fileName } of records) {
        const to = join(folder, fileName)
        await fs.mkdir(dirname(to), { recursive: true })
        try {
          await fs.link(uploads.pathOf(id), to)
        } catch {
          await fs.copyFile(uploads.pathOf(id), to, constants.COPYFILE_FICLONE)
          await syncFile(to)
        }
      }
    })
    return {
      folder,
      files: records.map(storedFile),
      uploadIds: records.map(({ id }) => id),
      discard: () => inStore('discarding staged files', () => fs.rm(folder, { recursive: true, force: true })),
    }
  }

  /** Publishes the files of one model or dataset, and notes its id in every row. */
  async function publish<View extends { id: string }>(
    records: readonly UploadRecord[],
    commit: (parts: ModelServiceParts, staged: StagedFiles) => Promise<{ view: View; created: boolean }>,
  ): Promise<{ view: View; created: boolean }> {
    const staged = await stage(records)
    try {
      const result = await commit(parts, staged)
      await markFinished(records, result.view.id)
      return result
    } finally {
      await staged.discard() // what was published has been moved out
    }
  }

  async function markFinished(records: readonly UploadRecord[], resultId: string): Promise<void> {
    const ids = records.map(({ id }) => id)
    await catalog.finishUploads(ids, resultId)
    for (const id of ids) await uploads.dropBytes(id)
  }

  async function refuse(id: string, error: AppError): Promise<never> {
    await change(id, { state: 'refused', error: error.toObject() })
    await uploads.dropBytes(id)
    throw error
  }

  /** receiving -> stored, when every byte is there. */
  async function seal(record: UploadRecord): Promise<UploadRecord> {
    if (record.state !== 'receiving' || record.storedBytes < record.sizeBytes) return record
    const sha256 = await uploads.hash(record)
    const expected = record.expectedSha256
    if (expected === null || expected === sha256) return change(record.id, { state: 'stored', sha256 })
    const detail = `${JSON.stringify(record.fileName)} was announced with SHA-256 ${expected} and has ${sha256}; nothing was kept. Send it again.`
    return refuse(
      record.id,
      new AppError('checksum_mismatch', detail, { file: record.fileName, expected, found: sha256 }),
    )
  }

  async function finishOnce(id: string): Promise<UploadRecord> {
    const record = await seal(await uploads.get(id))
    if (record.error !== null) throw AppError.fromObject(record.error)
    if (record.state !== 'stored' || record.setName !== null) return record
    try {
      if (record.kind === 'model') await publish([record], commitModel)
      else await publish([record], commitDataset)
    } catch (thrown) {
      const error = AppError.from(thrown)
      if (closing.signal.aborted || !isVerdict(error)) throw error
      return refuse(id, error)
    }
    return uploads.get(id)
  }

  function finish(id: string): Promise<UploadRecord> {
    const inProgress = finishing.get(id)
    if (inProgress !== undefined) return inProgress
    const promise = working([id], () => finishOnce(id)).finally(() => finishing.delete(id))
    finishing.set(id, promise)
    return promise
  }

  /** Complete, and neither finished nor waiting for its set. */
  const isDue = (record: UploadRecord) =>
    record.storedBytes === record.sizeBytes &&
    (record.state === 'receiving' || (record.state === 'stored' && record.setName === null))

  function finishLater(id: string): void {
    finish(id).catch((thrown: unknown) => {
      const { code, detail } = AppError.from(thrown)
      log.warn({ upload: id, code, detail }, 'an upload could not be finished')
    })
  }

  async function setOf(ids: readonly string[]): Promise<UploadRecord[]> {
    const records: UploadRecord[] = []
    for (const id of ids) {
      const record = await uploads.get(id)
      const sameSet = records.length === 0 || record.setName === records[0]?.setName
      if (record.kind !== 'model' || record.setName === null || !sameSet) {
        throw new AppError(
          'request_invalid',
          `Upload ${id} is of kind ${record.kind} and set ${JSON.stringify(record.setName)}: the files of a model are uploads of kind "model" with the same "set".`,
          { path: 'body.uploads', upload: id },
        )
      }
      if (record.error !== null) throw AppError.fromObject(record.error)
      if (record.storedBytes < record.sizeBytes) {
        throw new AppError(
          'conflict',
          `Upload ${id} (${JSON.stringify(record.fileName)}) has ${record.storedBytes} of ${record.sizeBytes} bytes; send the rest first.`,
          { upload: id, offset: record.storedBytes, sizeBytes: record.sizeBytes },
        )
      }
      records.push(record.state === 'receiving' ? await finish(id) : record)
    }
    return records
  }

  async function commitSet(ids: readonly string[]): ReturnType<UploadService['commitSet']> {
    const records = await setOf(ids)
    if (records.every(({ state }) => state === 'stored')) return publish(records, commitModel)
    // Asked again after the answer was lost: the model is there, though perhaps not every row knows it yet.
    const known = await catalog.getModel(modelId(records.map(storedFile)))
    if (known === null) {
      throw new AppError('conflict', 'Some of these uploads became part of another model already; upload them again.', {
        finished: records.filter(({ state }) => state === 'finished').map(({ id }) => id),
      })
    }
    await markFinished(
      records.filter(({ state }) => state === 'stored'),
      known.id,
    )
    return { view: modelView(await models.get(known.id)), created: false }
  }

  return {
    expiryMs: limits.uploadExpiryMs,
    maxBytes: limits.maxUploadBytes,
    async create(upload) {
      refuseWhenClosing()
      const { set, ...rest } = upload
      return uploadView(await uploads.create({ ...rest, setName: set }))
    },
    async get(id) {
      const record = await uploads.get(id)
      if (isDue(record) && !busy.has(id) && !removing.has(id) && !closing.signal.aborted) finishLater(id)
      return uploadView(record)
    },
    append: (id, offsetBytes, stream) => working([id], () => uploads.append(id, offsetBytes, stream, closing.signal)),
    finish: async (id) => uploadView(await finish(id)),
    async commitSet(ids) {
      if (ids.length === 0 || new Set(ids).size !== ids.length) {
        throw new AppError('request_invalid', 'uploads: name at least one upload, and each once.', {
          path: 'body.uploads',
        })
      }
      const gone = ids.find((id) => removing.has(id))
      if (gone !== undefined) {
        throw new AppError('conflict', `Upload ${gone} is being deleted; upload that file again.`, { upload: gone })
      }
      const join = [...ids]
      joins.add(join)
      try {
        const { setName } = await uploads.get(ids[0]!)
        return await working(ids, () => exclusively(setName ?? '', () => commitSet(ids)))
      } finally {
        joins.delete(join)
      }
    },
    async remove(id) {
      if ([...joins].some((ids) => ids.includes(id))) {
        throw new AppError(
          'conflict',
          `Upload ${id} is being joined with others to a model. Delete it when that call was answered.`,
          { upload: id },
        )
      }
      removing.add(id)
      try {
        await finishing.get(id)?.catch(() => {})
        await uploads.remove(id)
      } finally {
        removing.delete(id)
      }
    },

    async start() {
      for (const record of await catalog.listUploads(null)) if (isDue(record)) finishLater(record.id)
      const look = async () => {
        const removed = await uploads.removeExpired((id) => busy.has(id), clock.nowMs())
        if (removed > 0) log.info({ removed }, 'expired uploads were removed')
      }
      await look()
      expiryTimer = setInterval(() => {
        look().catch((error: unknown) => log.warn({ error: String(error) }, 'expired uploads could not be removed'))
      }, EXPIRY_CHECK_MS)
      expiryTimer.unref()
    },
    async close() {
      if (expiryTimer !== null) clearInterval(expiryTimer)
      closing.abort()
      const patience = new AbortController()
      await Promise.race([
        Promise.allSettled([...running]),
        sleep(CLOSE_GRACE_MS, null, { signal: patience.signal }).catch(() => null),
      ])
      patience.abort()
    },
  }
}

/** The file itself is at fault: trying again cannot help. */
function isVerdict({ code }: AppError): boolean {
  const { kind } = ERROR_CODES[code]
  if (code === 'limit_exceeded' || code === 'worker_crashed' || code === 'worker_timeout') return true
  return kind === 'format' || kind === 'unsupported' || kind === 'invalid_request' || kind === 'unprocessable'
}

function storedFile({ fileName, sizeBytes, sha256 }: UploadRecord): StagedFiles['files'][number] {
  if (sha256 === null) throw new Error('an upload is staged before its hash is known')
  return { name: fileName, sizeBytes, sha256 }
}

function uploadView(record: UploadRecord): UploadView {
  const { setName, resultId, ...rest } = record
  return {
    ...rest,
    set: setName,
    modelId: record.kind === 'model' ? resultId : null,
    datasetId: record.kind === 'dataset' ? resultId : null,
  }
}
