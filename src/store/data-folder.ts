// The data folder of one server. Entry: openDataFolder. Layout:
//   lock.sqlite                   held exclusively while a server lives; the system drops the lock when the process dies
//   owner.json                    pid and start time of the last owner, for the message only
//   catalog.sqlite (-wal, -shm)   every row: models, datasets, uploads, jobs, artifacts, validations, idempotency keys
//   models/<id>/files/<name>      uploaded files; models/<id>/tensors.ndjson the tensor table; models/<id>/histograms/ a cache
//   datasets/<id>.npz             uploaded datasets
//   blobs/<aa>/<sha256>           artifact files, compression results, validations, reports: named by their content
//   uploads/<id>                  bytes of resumable uploads, which go on after a restart; files without a row are removed at start
//   webhook-secrets.key           seals what clients entrust to the catalogue; made when first needed, back it up with it
//   temporary/                    other uploads and job attempts; emptied when a server starts
//   shader-cache/                 the GPU driver's compiled shaders; may be deleted at any time

import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { AppError } from '../errors.ts'
import { inStore, isMissing, storeError } from './file-errors.ts'
import { checkSchema } from './sqlite-migrate.ts'

export interface DataFolder {
  readonly root: string
  readonly catalogPath: string
  readonly models: string
  readonly datasets: string
  readonly blobs: string
  readonly uploads: string
  readonly temporary: string
  readonly secretKeyPath: string
  readonly shaderCache: string
  /** Creates a private folder under temporary/; `label` names its purpose, such as `job-<id>-attempt-2`. */
  makeTemporary(label: string): Promise<string>
  freeBytes(): Promise<number>
  /** Throws disk_full when `neededBytes` more would leave less than `floorBytes` free. */
  requireFree(neededBytes: number, floorBytes: number): Promise<void>
  /** Writes, syncs and removes a probe file; throws store_failed or disk_full. */
  probe(): Promise<void>
  /** Drops the lock. */
  close(): void
}

/** Where everything lies below `path`; nothing is touched. */
export function partsOf(path: string) {
  const root = resolve(path)
  return {
    root,
    catalogPath: join(root, 'catalog.sqlite'),
    models: join(root, 'models'),
    datasets: join(root, 'datasets'),
    blobs: join(root, 'blobs'),
    uploads: join(root, 'uploads'),
    temporary: join(root, 'temporary'),
    secretKeyPath: join(root, 'webhook-secrets.key'),
    shaderCache: join(root, 'shader-cache'),
  }
}

/**
 * Opens or creates the folder and takes its lock. `existing`: it must be there and of this version, and is left as it is.
 * Throws conflict (another process has it), not_found (with `existing`), store_failed (also for one of a newer version).
 */
export async function openDataFolder(path: string, { existing = false } = {}): Promise<DataFolder> {
  const folder = partsOf(path)
  const { root, temporary } = folder
  if (existing && !existsSync(folder.catalogPath)) {
    throw new AppError('not_found', `There is no data folder at ${root}: it has no catalog.sqlite.`, { dataDir: root })
  }
  if (!existing) await inStore(`creating the data folder ${root}`, () => makeFolder(root))
  const lock = takeLock(root)
  try {
    checkSchema(folder.catalogPath, !existing)
    if (!existing) {
      await inStore(`preparing the data folder ${root}`, async () => {
        await fs.rm(temporary, { recursive: true, force: true })
        const { models, datasets, blobs, uploads, shaderCache } = folder
        for (const part of [models, datasets, blobs, uploads, shaderCache, temporary]) {
          await fs.mkdir(part, { recursive: true })
        }
      })
    }
  } catch (error) {
    lock.close()
    throw error
  }

  async function freeBytes(): Promise<number> {
    const { bavail, bsize } = await inStore(`asking for the free space of ${root}`, () => fs.statfs(root))
    return bavail * bsize
  }

  return {
    ...folder,
    async makeTemporary(label) {
      // The random part keeps a child that outlived its server by a moment away from the next attempt's files.
      const made = join(temporary, `${label}-${randomBytes(4).toString('hex')}`)
      await inStore(`creating ${made}`, () => fs.mkdir(made, { recursive: true }))
      return made
    },
    freeBytes,
    async requireFree(neededBytes, floorBytes) {
      const free = await freeBytes()
      if (free - neededBytes >= floorBytes) return
      throw new AppError(
        'disk_full',
        `${neededBytes} bytes are needed and ${free} are free, of which ${floorBytes} must stay free.`,
        { limit: 'diskFloorBytes', allowed: Math.max(0, free - floorBytes), requested: neededBytes },
      )
    },
    async probe() {
      const probePath = join(temporary, `probe-${randomBytes(4).toString('hex')}`)
      await inStore(`writing a probe file in ${root}`, async () => {
        await fs.writeFile(probePath, 'probe', { flush: true })
        await fs.rm(probePath)
      })
    },
    close() {
      lock.close()
    },
  }
}

/** Like a recursive mkdir, which never returns where the kernel answers ENOENT below a folder that exists (/proc). */
async function makeFolder(path: string): Promise<void> {
  const make = () => fs.mkdir(path).catch((error: unknown) => (isExisting(error) ? undefined : Promise.reject(error)))
  try {
    await make()
  } catch (error) {
    if (!isMissing(error) || dirname(path) === path) throw error
    await makeFolder(dirname(path))
    await make()
  }
}

function isExisting(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EEXIST'
}

/**
 * SQLite's exclusive lock is an advisory lock of the operating system: it ends with the process, however that ends, and no
 * child inherits it. Network file systems without such locks are not supported.
 */
function takeLock(root: string): DatabaseSync {
  const ownerPath = join(root, 'owner.json')
  let lock: DatabaseSync | null = null
  try {
    lock = new DatabaseSync(join(root, 'lock.sqlite'), { timeout: 0 })
    lock.exec('BEGIN EXCLUSIVE')
    writeFileSync(ownerPath, `${JSON.stringify({ pid: process.pid, startedAt: new Date().toISOString() })}\n`)
    return lock
  } catch (error) {
    lock?.close()
    if ((error as { errcode?: number }).errcode !== SQLITE_BUSY)
      throw storeError(error, `locking the data folder ${root}`)
    throw new AppError(
      'conflict',
      `Another server uses the data folder ${root} (process ${ownerOf(ownerPath)}). Stop it, or give --data-dir another folder.`,
      { dataDir: root, holder: ownerOf(ownerPath) },
    )
  }
}

/** SQLITE_BUSY, primary result code. */
const SQLITE_BUSY = 5

function ownerOf(path: string): string {
  try {
    return String((JSON.parse(readFileSync(path, 'utf8')) as { pid: unknown }).pid)
  } catch {
    return 'unknown'
  }
}
