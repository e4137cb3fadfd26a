// A consistent copy of a data folder that a server may be using meanwhile. Entry: backUp. The catalogue is copied at one
// instant (SQLite's online backup); then every file that this copy names. Files never change under their names, so only one
// that was deleted in between can be missed, and is told. The copy is a data folder itself; its catalogue appears last.

import { constants, existsSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { backup, DatabaseSync } from 'node:sqlite'
import { AppError } from '../errors.ts'
import type { Catalog, Page, PageRequest } from './catalog.ts'
import { partsOf } from './data-folder.ts'
import { publish, syncFile } from './durable-files.ts'
import { inStore, isMissing } from './file-errors.ts'
import { openSqliteCatalog } from './sqlite-catalog.ts'
import { checkSchema } from './sqlite-migrate.ts'

export interface BackupReport {
  from: string
  to: string
  /** Files of models, datasets and blobs in the backup. */
  files: number
  bytes: number
  /** Of those, copied now; the others were there from an earlier backup. */
  copiedFiles: number
  /** Named by the catalogue, and deleted before they could be copied. */
  vanished: string[]
}

/** More pages than any catalogue has: one step, or every commit of the server would start it over. */
const ALL_PAGES = 2 ** 30
const PAGE_ROWS = 200

/** Throws not_found (no data folder), conflict (of an older version, or `to` is the folder itself), store_failed, disk_full. */
export async function backUp(from: string, to: string): Promise<BackupReport> {
  const source = partsOf(from)
  const target = partsOf(to)
  if (!existsSync(source.catalogPath)) {
    throw new AppError('not_found', `There is no data folder at ${source.root}: it has no catalog.sqlite.`, {
      dataDir: source.root,
    })
  }
  if (source.root === target.root || existsSync(join(target.root, 'lock.sqlite'))) {
    throw new AppError(
      'conflict',
      `${target.root} is a data folder that a server has used; give a folder of its own.`,
      {
        to: target.root,
      },
    )
  }
  checkSchema(source.catalogPath, false)
  const part = `${target.catalogPath}.part`
  await inStore(`copying the catalogue to ${part}`, async () => {
    await fs.mkdir(target.root, { recursive: true, mode: 0o700 })
    for (const ending of ['', '-wal', '-shm']) await fs.rm(part + ending, { force: true })
    const db = new DatabaseSync(source.catalogPath, { readOnly: true })
    try {
      await backup(db, part, { rate: ALL_PAGES })
    } finally {
      db.close()
    }
  })
  const catalog = openSqliteCatalog(part, { keepsSpace: false })
  const report: BackupReport = { from: source.root, to: target.root, files: 0, bytes: 0, copiedFiles: 0, vanished: [] }
  try {
    for await (const path of filesOf(catalog)) await keep(source.root, target.root, path, report)
    // Absent until a job names a secret. It is replaced: the catalogue copied with it needs this very one.
    await inStore('copying the key', () => copyDurably(source.secretKeyPath, target.secretKeyPath))
  } finally {
    await catalog.close()
  }
  await inStore(`completing the backup ${target.root}`, async () => {
    for (const ending of ['-wal', '-shm']) await fs.rm(target.catalogPath + ending, { force: true })
    await publish(part, target.catalogPath)
  })
  return report
}

/** Paths below the data folder. */
async function* filesOf(catalog: Catalog): AsyncGenerator<string> {
  for await (const { id, files } of rows((page) => catalog.listModels(page))) {
    for (const { name } of files) yield join('models', id, 'files', name)
    yield join('models', id, 'tensors.ndjson')
  }
  for await (const { id } of rows((page) => catalog.listDatasets(page))) yield join('datasets', `${id}.npz`)
  for (const sha256 of await catalog.referencedBlobs()) yield join('blobs', sha256.slice(0, 2), sha256)
}

async function* rows<T>(list: (page: PageRequest) => Promise<Page<T>>): AsyncGenerator<T> {
  let cursor: string | null = null
  do {
    const page: Page<T> = await list({ limit: PAGE_ROWS, cursor })
    yield* page.items
    cursor = page.next
  } while (cursor !== null)
}

/** Files of earlier backups stay: under its name a file never changes. */
async function keep(from: string, to: string, path: string, report: BackupReport): Promise<void> {
  const target = join(to, path)
  await inStore(`copying ${path}`, async () => {
    if (!existsSync(target)) {
      if (!(await copyDurably(join(from, path), target))) {
        report.vanished.push(path)
        return
      }
      report.copiedFiles++
    }
    report.files++
    report.bytes += (await fs.stat(target)).size
  })
}

/** Whole and synced, or not at all. false: there is no such file. */
async function copyDurably(from: string, to: string): Promise<boolean> {
  const part = `${to}.part`
  await fs.mkdir(dirname(to), { recursive: true, mode: 0o700 })
  try {
    await fs.copyFile(from, part, constants.COPYFILE_FICLONE)
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
  await syncFile(part)
  await publish(part, to)
  return true
}
