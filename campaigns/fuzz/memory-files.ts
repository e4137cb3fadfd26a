// Files in memory, for readers that open files: those under MEMORY_FOLDER exist only here, all others are the real ones. The
// readers of src/formats are unchanged; memory-hooks.ts gives them this module in place of node:fs and node:fs/promises.
// Only what those readers call is here. Counts open handles, so that one left open shows at once.

import * as realSync from 'node:fs'
import * as real from 'node:fs/promises'
import type { SourceFile } from '../../src/tensor/model.ts'
import type { FuzzInput } from './target.ts'

export const MEMORY_FOLDER = '/fuzz-memory/'
/** Beyond what a process may have open, so that a number tells memory from disk. */
const FIRST_FD = 1_000_000_000

const files = new Map<string, Uint8Array>()
const opened = new Map<number, Uint8Array>()
let nextFd = FIRST_FD

/** Replaces all files by these; handles of files before them stay open until they are closed. */
export function placeFiles(input: FuzzInput): SourceFile[] {
  files.clear()
  return input.map(({ name, bytes }) => {
    const path = MEMORY_FOLDER + name
    files.set(path, bytes)
    return { name, path, sizeBytes: bytes.length }
  })
}

export function openHandles(): number {
  return opened.size
}

function contentOf(path: string): Uint8Array {
  const bytes = files.get(path)
  if (bytes === undefined) throw Object.assign(new Error(`ENOENT: no such file, open '${path}'`), { code: 'ENOENT' })
  return bytes
}

class MemoryHandle {
  readonly fd: number
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.fd = nextFd++
    this.#bytes = bytes
    opened.set(this.fd, bytes)
  }

  async read(into: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }> {
    return { bytesRead: readSync(this.fd, into, offset, length, position) }
  }

  async stat(): Promise<Found> {
    return found(this.#bytes)
  }

  async readFile(): Promise<Uint8Array> {
    return new Uint8Array(this.#bytes)
  }

  async close(): Promise<void> {
    opened.delete(this.fd)
  }
}

interface Found {
  size: number
  isFile(): boolean
  isSymbolicLink(): boolean
}

function found(bytes: Uint8Array): Found {
  return { size: bytes.length, isFile: () => true, isSymbolicLink: () => false }
}

export function readSync(fd: number, into: Uint8Array, offset: number, length: number, position: number): number {
  if (fd < FIRST_FD) return realSync.readSync(fd, into, offset, length, position)
  const bytes = opened.get(fd)
  if (bytes === undefined) throw Object.assign(new Error('EBADF: bad file descriptor, read'), { code: 'EBADF' })
  // As node:fs does: a position or a range that is no such thing is an error of the caller.
  if (!Number.isSafeInteger(position) || position < 0) throw new RangeError(`position ${position} is out of range`)
  if (length < 0 || offset + length > into.length) throw new RangeError(`length ${length} is out of range`)
  const count = Math.max(0, Math.min(length, bytes.length - position))
  if (count > 0) into.set(bytes.subarray(position, position + count), offset)
  return count
}

export async function open(path: string, flags?: string): Promise<MemoryHandle | real.FileHandle> {
  return path.startsWith(MEMORY_FOLDER) ? new MemoryHandle(contentOf(path)) : real.open(path, flags)
}

export async function stat(path: string): Promise<Found> {
  return path.startsWith(MEMORY_FOLDER) ? found(contentOf(path)) : real.stat(path)
}

export async function lstat(path: string): Promise<Found> {
  return path.startsWith(MEMORY_FOLDER) ? found(contentOf(path)) : real.lstat(path)
}

export async function access(path: string): Promise<void> {
  if (path.startsWith(MEMORY_FOLDER)) contentOf(path)
  else await real.access(path)
}
