// .npz archives: a zip of .npy files, one per array. openNpz checks the whole archive once, by streaming (names, headers,
// sizes, CRC-32), then arrays are read by byte range: stored entries in place, deflated ones through a forward-only stream.
// Entry names are keys and never become paths. Spec: numpy.savez, APPNOTE.TXT 6.3.

import { open as openFile } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { crc32 } from 'node:zlib'
import yauzl from 'yauzl'
import { AppError } from '../../errors.ts'
import { MAX_NPY_HEADER_BYTES, type NpyHeader, npyHeaderBytes, readNpyHeader } from './npy.ts'

/** Arrays of one archive; one per model input and `labels`, so that thousands mean a wrong file. */
export const MAX_NPZ_ENTRIES = 4_096
/** Bytes of all arrays after inflating. Deflate reaches 1032:1, so a 64 MiB upload could ask for this much work. */
export const MAX_NPZ_BYTES = 64 * 2 ** 30
/** Longest array name, in UTF-8 bytes; ONNX input names seen in the wild stay below 300. */
export const MAX_NPZ_NAME_BYTES = 1_024

/** One array of an archive, its elements readable by range. */
export interface NpzArray {
  name: string
  header: NpyHeader
  /** Reads element bytes [offsetBytes, offsetBytes + into.length). Ascending offsets are fast; going back may inflate anew. */
  read(offsetBytes: number, into: Uint8Array): Promise<void>
}

export interface NpzArchive {
  arrays: NpzArray[]
  close(): Promise<void>
}

function invalid(detail: string, context: Record<string, unknown> = {}, cause?: unknown): AppError {
  return new AppError('dataset_invalid', detail, context, cause)
}

/**
 * Opens and verifies an archive.
 * @throws AppError dataset_invalid (not a zip, truncated, encrypted, bad CRC, not .npy), dtype_unsupported, limit_exceeded.
 */
export async function openNpz(path: string): Promise<NpzArchive> {
  let zip: yauzl.ZipFile
  try {
    zip = await yauzl.openPromise(path, { autoClose: false, lazyEntries: true, decodeStrings: false })
  } catch (error) {
    throw await notAZip(path, error)
  }
  try {
    const arrays = new Map<string, StoredArray | DeflatedArray>()
    let totalBytes = 0
    if (zip.entryCount > MAX_NPZ_ENTRIES) throw limit('npz_entries', MAX_NPZ_ENTRIES, zip.entryCount)
    for await (const entry of zip.eachEntry()) {
      const name = arrayName(entry)
      if (arrays.has(name)) throw invalid(`the .npz has two arrays named '${name}'`, { array: name })
      totalBytes += entry.uncompressedSize
      if (totalBytes > MAX_NPZ_BYTES) throw limit('npz_bytes', MAX_NPZ_BYTES, totalBytes)
      const header = await verifyEntry(zip, entry, name)
      if (entry.compressionMethod === 0) {
        const { fileDataStart } = await zip.readLocalFileHeaderPromise(entry, { minimal: true })
        arrays.set(name, new StoredArray(name, header, path, fileDataStart))
      } else arrays.set(name, new DeflatedArray(name, header, zip, entry))
    }
    return {
      arrays: [...arrays.values()],
      async close() {
        for (const array of arrays.values()) await array.close()
        zip.close()
      },
    }
  } catch (error) {
    zip.close()
    throw error instanceof AppError ? error : invalid(`the .npz cannot be read: ${message(error)}`, {}, error)
  }
}

function arrayName(entry: yauzl.Entry): string {
  const raw = entry.fileNameRaw
  if (raw.length > MAX_NPZ_NAME_BYTES) throw limit('npz_name_bytes', MAX_NPZ_NAME_BYTES, raw.length)
  let name: string
  try {
    name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(raw)
  } catch {
    throw invalid('the .npz has an array name that is not UTF-8', { nameHex: raw.toString('hex') })
  }
  if (entry.isEncrypted()) throw invalid(`the .npz entry '${name}' is encrypted`, { array: name })
  if (entry.compressionMethod !== 0 && entry.compressionMethod !== 8)
    throw invalid(`the .npz entry '${name}' uses zip method ${entry.compressionMethod}; stored and deflate are read`)
  if (!name.endsWith('.npy'))
    throw invalid(`the .npz holds '${name}', which is no .npy array; write it with numpy.savez`, { entry: name })
  return name.slice(0, -'.npy'.length)
}

/** One streaming pass over an entry: the header parses, the sizes agree, the CRC-32 holds. */
async function verifyEntry(zip: yauzl.ZipFile, entry: yauzl.Entry, name: string): Promise<NpyHeader> {
  let head: Buffer = Buffer.alloc(0)
  let header: NpyHeader | null = null
  let crc = 0
  let seenBytes = 0
  try {
    for await (const chunk of (await zip.openReadStreamPromise(entry)) as AsyncIterable<Buffer>) {
      crc = crc32(chunk, crc)
      seenBytes += chunk.length
      if (header) continue
      head = Buffer.concat([head, chunk])
      if (head.length < 12 || head.length < Math.min(npyHeaderBytes(head), 12 + MAX_NPY_HEADER_BYTES)) continue
      header = readNpyHeader(head)
      checkSize(header, entry.uncompressedSize, name)
    }
    header ??= readNpyHeader(head)
    checkSize(header, seenBytes, name)
  } catch (error) {
    const cause = error instanceof AppError ? error.detail : message(error)
    const code = error instanceof AppError ? error.code : 'dataset_invalid'
    throw new AppError(code, `array '${name}': ${cause}`, { array: name }, error)
  }
  if (crc !== entry.crc32)
    throw invalid(`array '${name}': its CRC-32 does not match; the file is damaged`, { array: name })
  return header
}

function checkSize(header: NpyHeader, sizeBytes: number, name: string): void {
  const expected = header.dataOffset + header.dataBytes
  if (sizeBytes !== expected)
    throw invalid(
      `shape (${header.shape.join(', ')}) of ${header.dtype} needs ${expected} bytes with its header, the entry has ${sizeBytes}`,
      { array: name, expected, found: sizeBytes },
    )
}

class StoredArray implements NpzArray {
  readonly name: string
  readonly header: NpyHeader
  readonly #path: string
  readonly #start: number
  #handle: Awaited<ReturnType<typeof openFile>> | null = null

  constructor(name: string, header: NpyHeader, path: string, fileDataStart: number) {
    this.name = name
    this.header = header
    this.#path = path
    this.#start = fileDataStart + header.dataOffset
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    this.#handle ??= await openFile(this.#path)
    let done = 0
    while (done < into.length) {
      const position = this.#start + offsetBytes + done
      const { bytesRead } = await this.#handle.read(into, done, into.length - done, position)
      if (bytesRead === 0) throw invalid(`array '${this.name}': the file ended while it was read`, { array: this.name })
      done += bytesRead
    }
  }

  async close(): Promise<void> {
    await this.#handle?.close()
    this.#handle = null
  }
}

class DeflatedArray implements NpzArray {
  readonly name: string
  readonly header: NpyHeader
  readonly #zip: yauzl.ZipFile
  readonly #entry: yauzl.Entry
  #stream: Readable | null = null
  #chunks: AsyncIterator<Buffer> | null = null
  /** The part of the last chunk that was not asked for yet; it starts at byte #position of the entry. */
  #rest: Buffer = Buffer.alloc(0)
  #position = 0

  constructor(name: string, header: NpyHeader, zip: yauzl.ZipFile, entry: yauzl.Entry) {
    this.name = name
    this.header = header
    this.#zip = zip
    this.#entry = entry
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    const start = this.header.dataOffset + offsetBytes
    if (!this.#chunks || start < this.#position) await this.#restart()
    let done = 0
    while (done < into.length) {
      if (this.#rest.length === 0) {
        const next = await (this.#chunks as AsyncIterator<Buffer>).next()
        if (next.done) throw invalid(`array '${this.name}': the entry ended while it was read`, { array: this.name })
        this.#rest = next.value
      }
      const skip = Math.min(this.#rest.length, start + done - this.#position)
      const take = Math.min(this.#rest.length - skip, into.length - done)
      into.set(this.#rest.subarray(skip, skip + take), done)
      done += take
      this.#position += skip + take
      this.#rest = this.#rest.subarray(skip + take)
    }
  }

  async #restart(): Promise<void> {
    await this.close()
    this.#stream = await this.#zip.openReadStreamPromise(this.#entry)
    this.#chunks = (this.#stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
    this.#rest = Buffer.alloc(0)
    this.#position = 0
  }

  async close(): Promise<void> {
    this.#stream?.destroy()
    this.#stream = null
    this.#chunks = null
  }
}

async function notAZip(path: string, error: unknown): Promise<AppError> {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string' && /^E[A-Z]+$/.test(error.code))
    return new AppError('store_failed', `the dataset file cannot be opened: ${error.code}`, {}, error)
  const handle = await openFile(path)
  const head = Buffer.alloc(8)
  const { bytesRead } = await handle.read(head, 0, 8, 0).finally(() => handle.close())
  const looksLike =
    bytesRead === 0
      ? 'it is empty'
      : head.subarray(0, 6).equals(Buffer.from('\x93NUMPY', 'latin1'))
        ? 'it is a single .npy array; write the .npz with numpy.savez(file, input_name=array)'
        : head.subarray(0, 2).equals(Buffer.from('PK'))
          ? `it starts as a zip and is truncated or damaged (${message(error)})`
          : 'it is no zip archive'
  return invalid(`the dataset is not a readable .npz: ${looksLike}`, {}, error)
}

function limit(name: string, allowed: number, requested: number): AppError {
  return new AppError('limit_exceeded', `the .npz exceeds the limit ${name}: ${requested}, allowed ${allowed}`, {
    limit: name,
    allowed,
    requested,
  })
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
