// From a stream of the network to a file: hashed on the way, gathered into large writes, acknowledged at checkpoints. Entry:
// receiveBytes. Receiving and hashing go on while the batch before is written.

import type { Hash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'

/** Bytes gathered before a write: large enough that disks stream, small enough that parallel uploads stay cheap. */
const WRITE_BYTES = 1024 * 1024
/** How often `checkpoint` is called while bytes arrive: what a crash can cost at most. */
export const CHECKPOINT_BYTES = 64 * 1024 * 1024

export interface Reception {
  handle: FileHandle
  /** Where in the file the first byte goes. */
  offsetBytes: number
  /** null: not hashed. Holds exactly the written bytes when receiveBytes resolves. */
  hash: Hash | null
  /** Sees the size of each chunk before it is taken; throws to refuse it. */
  take(chunkBytes: number): void
  /** Everything up to here is written (not yet synced). Called every CHECKPOINT_BYTES, and at the end of the stream, also of a broken one. */
  checkpoint(endBytes: number): Promise<void>
}

/** Resolves with the offset after the last byte. Rejects with what broke the stream, after keeping what had arrived. */
export async function receiveBytes(stream: Readable, reception: Reception): Promise<number> {
  const { handle, hash, take, checkpoint } = reception
  let endBytes = reception.offsetBytes
  let sinceCheckpoint = 0
  let batch: Buffer[] = []
  let batchBytes = 0
  let writing: Promise<unknown> = Promise.resolve()
  let writeFailed = false

  async function flush(): Promise<void> {
    await writing
    const full = batch
    const at = endBytes
    batch = []
    endBytes += batchBytes
    batchBytes = 0
    writing = writeAll(handle, full, at).catch((error: unknown) => {
      writeFailed = true
      throw error
    })
    writing.catch(() => {}) // seen by the next await of `writing`
  }

  async function settle(): Promise<void> {
    await flush()
    await writing
    await checkpoint(endBytes)
  }

  try {
    for await (const piece of stream) {
      const chunk = piece as Buffer
      take(chunk.byteLength)
      hash?.update(chunk)
      batch.push(chunk)
      batchBytes += chunk.byteLength
      sinceCheckpoint += chunk.byteLength
      if (batchBytes >= WRITE_BYTES) await flush()
      if (sinceCheckpoint >= CHECKPOINT_BYTES) {
        sinceCheckpoint = 0
        await settle()
      }
    }
  } catch (error) {
    await writing.catch(() => {})
    if (!writeFailed) await settle()
    throw error
  }
  await settle()
  return endBytes
}

async function writeAll(handle: FileHandle, chunks: Buffer[], offsetBytes: number): Promise<void> {
  let rest = chunks
  let at = offsetBytes
  while (rest.length > 0) {
    const { bytesWritten } = await handle.writev(rest, at)
    at += bytesWritten
    let skip = bytesWritten
    const left: Buffer[] = []
    for (const chunk of rest) {
      if (skip >= chunk.byteLength) skip -= chunk.byteLength
      else {
        left.push(chunk.subarray(skip))
        skip = 0
      }
    }
    rest = left
  }
}
