// sha256 and size after zstd of a file, in one streaming read. Entry: hashFile. Files beyond ZSTD_SAMPLE_BYTES are compressed
// by a sample of evenly spaced slices, and the result says so.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { createZstdCompress } from 'node:zlib'
import { storeError } from './output-files.ts'

/** zstd runs at a few hundred MB/s; beyond this the report would wait on it longer than on everything else. */
const ZSTD_SAMPLE_BYTES = 256 * 1024 * 1024
/** The sample: this many slices, together ZSTD_SAMPLE_BYTES. */
const SAMPLE_SLICES = 16
const READ_BYTES = 1024 * 1024

export interface FileMeasure {
  name: string
  sizeBytes: number
  sha256: string
  zstdBytes: number
  zstdSampled: boolean
}

export async function hashFile(
  name: string,
  path: string,
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<FileMeasure> {
  const file = await open(path).catch((error: unknown) => {
    throw storeError(error, `open ${name}`)
  })
  const zstd = createZstdCompress()
  try {
    const { size } = await file.stat()
    const sampled = size > ZSTD_SAMPLE_BYTES
    const spacing = size / SAMPLE_SLICES
    const sliceBytes = ZSTD_SAMPLE_BYTES / SAMPLE_SLICES
    const hash = createHash('sha256')
    let sampleBytes = 0
    let compressedBytes = 0
    zstd.on('data', (chunk: Uint8Array) => {
      compressedBytes += chunk.length
    })
    // Two buffers: the compressor may still hold the one before while the next is read.
    const buffers = [new Uint8Array(READ_BYTES), new Uint8Array(READ_BYTES)] as const
    for (let at = 0, turn = 0; at < size; turn ^= 1) {
      signal.throwIfAborted()
      const { bytesRead } = await file.read(turn === 0 ? buffers[0] : buffers[1], 0, READ_BYTES, at)
      if (bytesRead === 0) break
      const chunk = (turn === 0 ? buffers[0] : buffers[1]).subarray(0, bytesRead)
      hash.update(chunk)
      if (!sampled || at % spacing < sliceBytes) {
        sampleBytes += bytesRead
        await new Promise<void>((resolve, reject) =>
          zstd.write(chunk, (error) => (error === null || error === undefined ? resolve() : reject(error))),
        )
      }
      at += bytesRead
      onBytes(bytesRead)
    }
    zstd.end()
    await once(zstd, 'end')
    const scale = sampled ? size / sampleBytes : 1
    const zstdBytes = Math.round(compressedBytes * scale)
    return { name, sizeBytes: size, sha256: hash.digest('hex'), zstdBytes, zstdSampled: sampled }
  } catch (error) {
    if (signal.aborted) throw error
    throw storeError(error, `read ${name}`)
  } finally {
    zstd.destroy()
    await file.close()
  }
}
