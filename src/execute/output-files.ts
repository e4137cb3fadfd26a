// The artifact's files while they are written: created at their final size, then filled by positioned writes in any order.
// Entry: createOutputFiles. Small writes are synchronous (cheaper than a thread-pool hop), large ones asynchronous.

import {
  closeSync,
  fsync as fsyncCallback,
  ftruncateSync,
  mkdirSync,
  openSync,
  write as writeCallback,
  writeSync,
} from 'node:fs'
import { dirname, isAbsolute, join, normalize } from 'node:path'
import { promisify } from 'node:util'
import { AppError } from '../errors.ts'
import type { FileLayout } from '../tensor/model.ts'

const writeAsync = promisify(writeCallback)
const fsyncAsync = promisify(fsyncCallback)

/**
 * Up to here a write is done at once: copying this much into the page cache takes 0.1 ms, less than a lane would wait for a
 * thread of the pool and the next turn of the event loop.
 */
const SYNC_WRITE_BYTES = 1024 * 1024

/**
 * After this many bytes a flush of the file starts in the background, so that the last one has little left to do and the disk
 * works while the kernels do.
 */
const FLUSH_EVERY_BYTES = 32 * 1024 * 1024

export interface OutputFiles {
  readonly bytesWritten: number
  /**
   * Writes all of `bytes`; done (undefined) or resolved when they are in the page cache. `bytes` must stay valid until then. A
   * failure is always a rejection, so that whoever starts several writes gets hold of those that are under way.
   */
  write(file: number, offsetBytes: number, bytes: Uint8Array): Promise<void> | undefined
  /** Takes over a write that nobody waits for; `settle` does. */
  defer(writing: Promise<void>): void
  /** Waits for deferred writes and throws what failed. */
  settle(): Promise<void>
  /** Flushes to disk, off this thread: a large artifact takes seconds, and heartbeats must go on. */
  sync(): Promise<void>
  close(): void
}

/** Creates (or empties) the layout's files in `directory`. Throws disk_full or store_failed. */
export function createOutputFiles(directory: string, layout: FileLayout): OutputFiles {
  const descriptors: number[] = []
  let bytesWritten = 0
  const unflushed: number[] = []
  const deferred = new Set<Promise<void>>()
  let failure: { error: unknown } | null = null
  try {
    for (const file of layout.files) {
      const path = outputPath(directory, file.name)
      mkdirSync(dirname(path), { recursive: true })
      const descriptor = openSync(path, 'w+')
      descriptors.push(descriptor)
      ftruncateSync(descriptor, file.sizeBytes)
    }
  } catch (error) {
    for (const descriptor of descriptors) closeSync(descriptor)
    throw storeError(error, 'create the output files')
  }
  const descriptorOf = (file: number) => descriptors[file] ?? fileMissing(file)

  async function writeRest(file: number, offsetBytes: number, bytes: Uint8Array): Promise<void> {
    const descriptor = descriptorOf(file)
    try {
      for (let done = 0; done < bytes.length; ) {
        const result = await writeAsync(descriptor, bytes, done, bytes.length - done, offsetBytes + done)
        done += result.bytesWritten
      }
    } catch (error) {
      throw storeError(error, 'write the artifact')
    }
  }

  function defer(writing: Promise<void>): void {
    const guarded = writing.catch((error: unknown) => {
      failure ??= { error }
    })
    deferred.add(guarded)
    void guarded.then(() => deferred.delete(guarded))
  }

  return {
    get bytesWritten() {
      return bytesWritten
    },
    write(file, offsetBytes, bytes) {
      bytesWritten += bytes.length
      unflushed[file] = (unflushed[file] ?? 0) + bytes.length
      if (unflushed[file] >= FLUSH_EVERY_BYTES) {
        unflushed[file] = 0
        defer(
          fsyncAsync(descriptorOf(file)).catch((error: unknown) => {
            throw storeError(error, 'flush the artifact')
          }),
        )
      }
      if (bytes.length > SYNC_WRITE_BYTES) return writeRest(file, offsetBytes, bytes)
      try {
        for (let done = 0; done < bytes.length; ) {
          done += writeSync(descriptorOf(file), bytes, done, bytes.length - done, offsetBytes + done)
        }
      } catch (error) {
        return Promise.reject(storeError(error, 'write the artifact'))
      }
      return undefined
    },
    defer,
    async settle() {
      await Promise.all(deferred)
      if (failure !== null) throw failure.error
    },
    async sync() {
      try {
        await Promise.all(descriptors.map((descriptor) => fsyncAsync(descriptor)))
      } catch (error) {
        throw storeError(error, 'flush the artifact')
      }
    },
    close() {
      for (const descriptor of descriptors.splice(0)) closeSync(descriptor)
    },
  }
}

function fileMissing(file: number): never {
  throw new RangeError(`the layout has no file ${file}`)
}

/** A layout's names come from a model file, so they are checked again where they become paths. */
function outputPath(directory: string, name: string): string {
  const relative = normalize(name)
  if (isAbsolute(relative) || relative.startsWith('..')) {
    throw new AppError('format_invalid', `the output file name "${name}" leaves its folder`, { name })
  }
  return join(directory, relative)
}

export function storeError(error: unknown, doing: string): AppError {
  if (error instanceof AppError) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const message = error instanceof Error ? error.message : String(error)
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? new AppError('disk_full', `could not ${doing}: no space left`, { doing }, error)
    : new AppError('store_failed', `could not ${doing}: ${message}`, { doing, code }, error)
}
