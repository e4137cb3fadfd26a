// Uploaded datasets: one .npz file per id (the sha256 of the file), a row that makes it visible. Entry: createDatasetStore.

import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../errors.ts'
import type { Catalog, DatasetRecord } from './catalog.ts'
import type { DataFolder } from './data-folder.ts'
import { publish } from './durable-files.ts'
import { inStore } from './file-errors.ts'
import { createKeyedLock } from './keyed-lock.ts'
import type { StagedFiles } from './upload.ts'

export interface DatasetStore {
  /** Publishes the one staged file. */
  publish(upload: StagedFiles, arrays: DatasetRecord['arrays']): Promise<{ record: DatasetRecord; created: boolean }>
  /** Throws not_found. */
  get(id: string): Promise<DatasetRecord>
  /** Throws store_failed when the file vanished. */
  pathOf(record: DatasetRecord): Promise<string>
  /** Throws not_found, conflict. */
  delete(id: string): Promise<void>
  /** Unless it was used since `usedBefore` or a queued or running job uses it (null). Returns the bytes that were freed. */
  removeUnused(id: string, usedBefore: string): Promise<number | null>
}

export function createDatasetStore(data: DataFolder, catalog: Catalog): DatasetStore {
  const exclusively = createKeyedLock()
  const place = (id: string) => join(data.datasets, `${id}.npz`)

  async function get(id: string): Promise<DatasetRecord> {
    const record = await catalog.getDataset(id)
    if (record === null) throw new AppError('not_found', `There is no dataset "${id}".`, { dataset: id })
    return record
  }

  return {
    get,
    publish: (upload, arrays) => {
      const file = upload.files[0]
      if (file === undefined || upload.files.length !== 1) {
        throw new AppError('request_invalid', `A dataset is one .npz file; ${upload.files.length} were sent.`, {
          path: 'dataset',
        })
      }
      return exclusively(file.sha256, async () => {
        const known = await catalog.getDataset(file.sha256)
        if (known !== null) {
          await catalog.touch('dataset', known.id, new Date().toISOString())
          await upload.discard()
          return { record: known, created: false }
        }
        const record = { id: file.sha256, file, arrays, createdAt: new Date().toISOString() }
        try {
          await inStore(`publishing dataset ${record.id}`, () =>
            publish(join(upload.folder, file.name), place(record.id)),
          )
          await catalog.addDataset(record, upload.uploadIds)
        } catch (error) {
          // What has a row, or may have one, stays.
          const row = await catalog.getDataset(record.id).catch(() => 'unknown')
          if (row === null) await fs.rm(place(record.id), { force: true }).catch(() => {})
          throw error
        }
        await upload.discard()
        return { record, created: true }
      })
    },
    async pathOf(record) {
      const found = await fs.stat(place(record.id)).catch(() => null)
      if (found?.size === record.file.sizeBytes) return place(record.id)
      throw new AppError(
        'store_failed',
        `The file of dataset ${record.id} is gone or cut. Delete the dataset and upload it again.`,
        { dataset: record.id },
      )
    },
    delete: (id) =>
      exclusively(id, async () => {
        const result = await catalog.deleteDataset(id)
        if (result.kind === 'missing') await get(id)
        if (result.kind === 'in_use') {
          throw new AppError(
            'conflict',
            `Job ${result.jobId} uses dataset ${id}. Cancel it, or wait until it has ended.`,
            {
              dataset: id,
              job: result.jobId,
            },
          )
        }
        await inStore(`deleting dataset ${id}`, () => fs.rm(place(id), { force: true }))
      }),
    removeUnused: (id, usedBefore) =>
      exclusively(id, async () => {
        const result = await catalog.removeUnused('dataset', id, usedBefore, new Date().toISOString())
        if (result.kind === 'kept') return null
        await inStore(`removing dataset ${id}`, () => fs.rm(place(id), { force: true }))
        return result.freedBytes
      }),
  }
}
