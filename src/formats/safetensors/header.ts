// The header of one .safetensors file: readHeader and encodeHeader.
// Layout: u64 little-endian header length N, N bytes of JSON {"__metadata__"?: {...}, name: {dtype, shape, data_offsets}}
// (may end in spaces), then the data. data_offsets count from the end of the header; together they cover the data exactly.

import { AppError } from '../../errors.ts'
import { DTYPES, type DType } from '../../tensor/dtype.ts'
import { readFully } from '../wire/byte-source.ts'
import { clip, type JsonObject, type JsonValue, parseJson } from '../wire/json-header.ts'
import { dtypeOfName, nameOfDtype, SAFETENSORS_DTYPES } from './dtypes.ts'

/** The limit of the safetensors library itself (100 MB); a header of 100,000 tensors has 12 MB. */
export const MAX_HEADER_BYTES = 100_000_000
/** Tensors of one model over all shards; the largest public mixture-of-experts checkpoints have about 100,000. */
export const MAX_TENSOR_COUNT = 500_000
/** UTF-8 bytes of a tensor name; names of real models stay below 200. */
export const MAX_NAME_BYTES = 4_096
/** Dimensions of one tensor; no framework makes more than 64. */
export const MAX_RANK = 64

const METADATA_KEY = '__metadata__'

export interface HeaderEntry {
  name: string
  dtype: DType
  shape: number[]
  /** Bytes from the start of the file. */
  offsetBytes: number
  lengthBytes: number
}

export interface Header {
  /** In the order of the header. */
  entries: HeaderEntry[]
  metadata: Record<string, string>
  /** Whether the file has a `__metadata__` member at all. */
  hasMetadata: boolean
  /** First byte of the data. */
  dataStart: number
}

/**
 * Reads and checks the header of an open file.
 * @throws AppError format_truncated, format_invalid, dtype_unsupported, limit_exceeded; file, tensor and byte named.
 */
export function readHeader(fd: number, file: string, sizeBytes: number): Header {
  if (sizeBytes < 8) {
    const detail = `"${file}" has ${sizeBytes} bytes; a safetensors file starts with the 8 bytes of its header length`
    throw new AppError('format_truncated', detail, { file, offset: sizeBytes })
  }
  const prefix = new Uint8Array(8)
  readFully(fd, file, 0, prefix)
  const declared = new DataView(prefix.buffer).getBigUint64(0, true)
  if (declared > BigInt(MAX_HEADER_BYTES)) throw limit(file, 'header_bytes', MAX_HEADER_BYTES, declared)
  const headerBytes = Number(declared)
  if (8 + headerBytes > sizeBytes) {
    const detail = `"${file}" declares a header of ${headerBytes} bytes and has only ${sizeBytes - 8} after its length`
    throw new AppError('format_truncated', detail, { file, offset: sizeBytes, declared: headerBytes })
  }
  const text = new Uint8Array(headerBytes)
  readFully(fd, file, 8, text)
  if (text[0] !== 0x7b) throw invalid(file, 'its header does not start with "{"', { offset: 8 })
  const json = parseJson(text, { file, baseOffset: 8, maxDepth: 3, maxMembers: 4 * MAX_TENSOR_COUNT })
  const members = json as JsonObject
  const dataStart = 8 + headerBytes
  const metadata = readMetadata(members.get(METADATA_KEY), file)
  const count = members.size - (members.has(METADATA_KEY) ? 1 : 0)
  if (count > MAX_TENSOR_COUNT) throw limit(file, 'tensor_count', MAX_TENSOR_COUNT, count)
  const entries: HeaderEntry[] = []
  for (const [name, value] of members) if (name !== METADATA_KEY) entries.push(readEntry(name, value, file, dataStart))
  checkCoverage(entries, file, dataStart, sizeBytes)
  return { entries, metadata, hasMetadata: members.has(METADATA_KEY), dataStart }
}

function readMetadata(value: JsonValue | undefined, file: string): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null)
  if (value === undefined) return metadata
  if (!(value instanceof Map)) throw invalid(file, '__metadata__ is no object')
  for (const [key, text] of value) {
    if (typeof text !== 'string') throw invalid(file, `__metadata__ may hold only strings; ${quote(key)} is none`)
    metadata[key] = text
  }
  return metadata
}

function readEntry(name: string, value: JsonValue, file: string, dataStart: number): HeaderEntry {
  const nameBytes = Buffer.byteLength(name)
  if (nameBytes > MAX_NAME_BYTES) throw limit(file, 'name_bytes', MAX_NAME_BYTES, nameBytes)
  const at = { tensor: clip(name) }
  if (!(value instanceof Map)) throw invalid(file, `tensor ${quote(name)} is no object`, at)
  for (const key of value.keys())
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets')
      throw invalid(file, `tensor ${quote(name)} has the unknown member ${quote(key)}`, at)
  const dtypeName = value.get('dtype')
  if (typeof dtypeName !== 'string') throw invalid(file, `tensor ${quote(name)} has no dtype`, at)
  const dtype = dtypeOfName(dtypeName)
  if (dtype === null) {
    const detail = `"${file}": tensor ${quote(name)} has the dtype ${quote(dtypeName)}; known are ${SAFETENSORS_DTYPES.join(' ')}`
    throw new AppError('dtype_unsupported', detail, { file, ...at, dtype: clip(dtypeName) })
  }
  const shape = wholeNumbers(value.get('shape'), `shape of tensor ${quote(name)}`, file, at)
  const offsets = wholeNumbers(value.get('data_offsets'), `data_offsets of tensor ${quote(name)}`, file, at)
  if (shape.length > MAX_RANK) throw limit(file, 'tensor_rank', MAX_RANK, shape.length)
  const [begin = 0, end = 0] = offsets
  if (offsets.length !== 2 || begin > end)
    throw invalid(file, `data_offsets of tensor ${quote(name)} must be [begin, end] with begin <= end`, at)
  // Exact in bigint: 2^60 dims must not round to something plausible.
  const bits = shape.reduce((product, dim) => product * BigInt(dim), BigInt(DTYPES[dtype].bits))
  if (bits % 8n !== 0n) throw invalid(file, `tensor ${quote(name)} of ${dtypeName} does not end on a whole byte`, at)
  if (bits / 8n !== BigInt(end - begin)) {
    const detail = `tensor ${quote(name)} of ${dtypeName} [${shape.join(', ')}] needs ${bits / 8n} bytes, its data_offsets hold ${end - begin}`
    throw invalid(file, detail, { ...at, expected: String(bits / 8n), found: end - begin })
  }
  return { name, dtype, shape, offsetBytes: dataStart + begin, lengthBytes: end - begin }
}

function wholeNumbers(
  value: JsonValue | undefined,
  what: string,
  file: string,
  context: Record<string, unknown>,
): number[] {
  if (!Array.isArray(value)) throw invalid(file, `the ${what} is no array`, context)
  return value.map((item) => {
    if (typeof item === 'number' && Number.isSafeInteger(item) && item >= 0) return item
    const found = typeof item === 'bigint' || typeof item === 'number' ? String(item) : typeof item
    throw invalid(file, `the ${what} holds ${found}; whole numbers from 0 to 2^53 - 1 are allowed`, context)
  })
}

/** The data must be covered exactly: no overlap, no hole, nothing after the last tensor. */
function checkCoverage(entries: readonly HeaderEntry[], file: string, dataStart: number, sizeBytes: number): void {
  const ordered = entries.toSorted((a, b) => a.offsetBytes - b.offsetBytes || a.lengthBytes - b.lengthBytes)
  let position = dataStart
  for (const entry of ordered) {
    const at = { tensor: clip(entry.name), offset: entry.offsetBytes }
    if (entry.offsetBytes + entry.lengthBytes > sizeBytes) {
      const detail = `"${file}": tensor ${quote(entry.name)} ends at byte ${entry.offsetBytes + entry.lengthBytes}, the file at ${sizeBytes}`
      throw new AppError('format_truncated', detail, { file, ...at })
    }
    if (entry.offsetBytes < position)
      throw invalid(
        file,
        `tensor ${quote(entry.name)} starts at byte ${entry.offsetBytes}, inside the tensor before it`,
        at,
      )
    if (entry.offsetBytes > position)
      throw invalid(
        file,
        `bytes ${position} to ${entry.offsetBytes} before tensor ${quote(entry.name)} belong to no tensor`,
        at,
      )
    position = entry.offsetBytes + entry.lengthBytes
  }
  if (position !== sizeBytes)
    throw invalid(file, `${sizeBytes - position} bytes after the last tensor belong to no tensor`, { offset: position })
}

/** A tensor of a file to be written; `begin` and `end` count from the start of the data. */
export interface HeaderMember {
  name: string
  dtype: DType
  shape: readonly number[]
  begin: number
  end: number
}

/** The bytes before the data: length, compact JSON in the order given, spaces up to a multiple of 8. */
export function encodeHeader(members: readonly HeaderMember[], metadata: Record<string, string> | null): Uint8Array {
  const parts: string[] = []
  if (metadata !== null) parts.push(`"${METADATA_KEY}":${JSON.stringify(metadata)}`)
  for (const { name, dtype, shape, begin, end } of members) {
    const dtypeName = nameOfDtype(dtype)
    if (dtypeName === null)
      throw new AppError('dtype_unsupported', `safetensors has no dtype for ${dtype}`, { dtype, tensor: clip(name) })
    parts.push(
      `${JSON.stringify(name)}:{"dtype":"${dtypeName}","shape":[${shape.join(',')}],"data_offsets":[${begin},${end}]}`,
    )
  }
  const text = Buffer.from(`{${parts.join(',')}}`)
  const padded = Math.ceil(text.length / 8) * 8
  if (padded > MAX_HEADER_BYTES) throw limit('output', 'header_bytes', MAX_HEADER_BYTES, padded)
  const bytes = new Uint8Array(8 + padded).fill(0x20)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true)
  bytes.set(text, 8)
  return bytes
}

function quote(name: string): string {
  return JSON.stringify(clip(name))
}

function invalid(file: string, what: string, context: Record<string, unknown> = {}): AppError {
  return new AppError('format_invalid', `"${file}": ${what}`, { file, ...context })
}

function limit(file: string, name: string, allowed: number, requested: number | bigint): AppError {
  return new AppError('limit_exceeded', `"${file}" exceeds the limit ${name}: ${requested}, allowed ${allowed}`, {
    file,
    limit: name,
    allowed,
    requested: String(requested),
  })
}
