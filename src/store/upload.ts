// Receiving files from clients: names checked, bytes streamed to a private folder, sha256 on the way, limits met early.
// Entry: createStagedUpload. What fails or is discarded leaves no file.

import { createHash } from 'node:crypto'
import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { AppError } from '../errors.ts'
import type { FileRecord } from './catalog.ts'
import type { DataFolder } from './data-folder.ts'
import { inStore, storeError } from './file-errors.ts'
import { receiveBytes } from './receive-bytes.ts'
import type { Reservation } from './store-quota.ts'

export interface UploadLimits {
  maxUploadBytes: number
  /** What that limit is called in errors. */
  sizeLimit: 'uploadBytes' | 'datasetBytes'
  maxFiles: number
  minFreeBytes: number
}

/** The longest component that common file systems take, and a bound for the whole path. */
const MAX_NAME_BYTES = 255
const MAX_PATH_BYTES = 1024

/** Files that are whole and hashed, and wait for being published. */
export interface StagedFiles {
  /** Private folder that holds the files under their names. */
  readonly folder: string
  /** In order of arrival. */
  readonly files: FileRecord[]
  /** Resumable uploads that the files came from: finished by the row that publishes them, so that no byte is counted twice. */
  readonly uploadIds?: readonly string[]
  /** Removes the folder; safe to call at any time and more than once. */
  discard(): Promise<void>
}

export interface StagedUpload extends StagedFiles {
  addFile(name: string, stream: Readable, declaredBytes: number | null): Promise<FileRecord>
}

/**
 * The name as it may be stored: relative, with `/` between components, none of them `.` or `..`. Throws request_invalid.
 */
export function checkFileName(name: string): string {
  const parts = name.split('/')
  const bad =
    name === ''
      ? 'is empty'
      : Buffer.byteLength(name) > MAX_PATH_BYTES
        ? `is longer than ${MAX_PATH_BYTES} bytes`
        : parts.some((part) => Buffer.byteLength(part) > MAX_NAME_BYTES)
          ? `has a part longer than ${MAX_NAME_BYTES} bytes`
          : parts.some((part) => part === '' || part === '.' || part === '..')
            ? 'leaves its folder or has an empty part'
            : hasControlOrBackslash(name)
              ? 'has a control character or a backslash'
              : null
  if (bad === null) return name
  const shown = name.length > 100 ? `${name.slice(0, 100)}...` : name
  throw new AppError(
    'request_invalid',
    `File name ${JSON.stringify(shown)} ${bad}. A bare name or a relative path with "/" is allowed.`,
    { path: 'file name' },
  )
}

/**
 * Of names in one folder the first that `name` cannot lie beside: one is a file where the other needs a folder, as `a` and `a/b`.
 * null: there is none.
 */
export function clashingName(name: string, others: Iterable<string>): string | null {
  for (const other of others) if (other.startsWith(`${name}/`) || name.startsWith(`${other}/`)) return other
  return null
}

export function namesClash(name: string, other: string): AppError {
  return new AppError(
    'request_invalid',
    `${JSON.stringify(name)} cannot be stored beside ${JSON.stringify(other)}: one of them would be a file and a folder. Name them as the main file does.`,
    { path: 'file name' },
  )
}

function hasControlOrBackslash(name: string): boolean {
  for (const character of name) {
    if (character < ' ' || character === '\u007f' || character === '\\') return true
  }
  return false
}

/**
 * Opens a private folder for the files of one upload.
 * @param room where its bytes are reserved as they arrive; released with the folder. null: the store has no cap.
 */
export async function createStagedUpload(
  data: DataFolder,
  limits: UploadLimits,
  room: Reservation | null = null,
): Promise<StagedUpload> {
  const folder = await data.makeTemporary('upload')
  const files: FileRecord[] = []
  const names = new Set<string>()
  let totalBytes = 0
  let closed = false

  function refuseTooLarge(requested: number): never {
    throw new AppError(
      'body_too_large',
      `The upload has ${requested} bytes or more; ${limits.maxUploadBytes} are allowed.`,
      {
        limit: limits.sizeLimit,
        allowed: limits.maxUploadBytes,
        requested,
      },
    )
  }

  async function receive(path: string, stream: Readable): Promise<{ sizeBytes: number; sha256: string }> {
    const hash = createHash('sha256')
    await fs.mkdir(dirname(path), { recursive: true })
    const handle = await fs.open(path, 'wx')
    let sizeBytes = 0
    try {
      sizeBytes = await receiveBytes(stream, {
        handle,
        offsetBytes: 0,
        hash,
        take(chunkBytes) {
          totalBytes += chunkBytes
          if (totalBytes > limits.maxUploadBytes) refuseTooLarge(totalBytes)
        },
        async checkpoint() {
          await data.requireFree(0, limits.minFreeBytes)
          await room?.growTo(totalBytes)
        },
      })
      await handle.sync()
    } finally {
      await handle.close()
    }
    return { sizeBytes, sha256: hash.digest('hex') }
  }

  async function addFile(name: string, stream: Readable, declaredBytes: number | null): Promise<FileRecord> {
    checkFileName(name)
    if (closed) throw new AppError('conflict', 'This upload was closed already.')
    if (names.has(name)) {
      throw new AppError('request_invalid', `Two files of the upload are named ${JSON.stringify(name)}.`, {
        path: name,
      })
    }
    const clash = clashingName(name, names)
    if (clash !== null) throw namesClash(name, clash)
    if (names.size >= limits.maxFiles) {
      throw new AppError('limit_exceeded', `An upload may have ${limits.maxFiles} files; this one has more.`, {
        limit: 'uploadParts',
        allowed: limits.maxFiles,
        requested: names.size + 1,
      })
    }
    names.add(name)
    if (declaredBytes !== null && totalBytes + declaredBytes > limits.maxUploadBytes) {
      refuseTooLarge(totalBytes + declaredBytes)
    }
    await data.requireFree(declaredBytes ?? 0, limits.minFreeBytes)
    await room?.growTo(totalBytes + (declaredBytes ?? 0))
    const path = join(folder, name)
    try {
      const { sizeBytes, sha256 } = await receive(path, stream)
      await room?.growTo(totalBytes)
      if (closed) throw givenUp()
      const file = { name, sizeBytes, sha256 }
      files.push(file)
      return file
    } catch (error) {
      // discard() may have removed the folder under the open file, or just before the file was opened
      await fs.rm(closed ? folder : path, { recursive: true, force: true }).catch(() => {})
      if (closed) throw givenUp()
      throw clientGone(error) ?? storeError(error, `receiving ${JSON.stringify(name)}`)
    }
  }

  return {
    folder,
    files,
    async addFile(name, stream, declaredBytes) {
      try {
        return await addFile(name, stream, declaredBytes)
      } catch (error) {
        stream.resume() // drains what is left, so that the answer can be sent; the caller may destroy it instead
        throw error
      }
    },
    async discard() {
      closed = true
      room?.release()
      // a file that is being created may appear between reading the folder and removing it, which rm then tries again
      await inStore('discarding an upload', () =>
        fs.rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 }),
      )
    },
  }
}

function givenUp(): AppError {
  return new AppError('request_invalid', 'The upload was given up before it was complete; nothing was stored.')
}

/** A stream that ended early is the client's doing, not the store's. */
export function clientGone(error: unknown): AppError | null {
  const code = (error as NodeJS.ErrnoException | null)?.code
  if (code !== 'ERR_STREAM_PREMATURE_CLOSE' && code !== 'ECONNRESET' && code !== 'ABORT_ERR') return null
  return new AppError(
    'request_invalid',
    'The client went away before the upload was complete; nothing was stored.',
    {},
    error,
  )
}
