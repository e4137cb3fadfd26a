// All files of a model, or a dataset: what the server has already is not sent again. Entries: uploadModel, uploadDataset.

import { TensorpressError } from './client-error.ts'
import type { Dataset, Model } from './generated/schema.ts'
import type { Http } from './http.ts'
import { type UploadSource, uploadFile } from './resumable-upload.ts'

export interface TransferOptions {
  signal?: AbortSignal | undefined
  /** Bytes that the server has acknowledged, of all bytes; also called once when nothing had to be sent. */
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** Joining several files waits for a look into them. */
const JOIN_TIMEOUT_MS = 600_000

/**
 * @param files the main file first; further ones are external data or shards, under the names by which it calls them. With
 *   `sha256` on all of them, a model that the server has is found before a byte is sent.
 */
export async function uploadModel(http: Http, files: UploadSource[], options: TransferOptions = {}): Promise<Model> {
  const { signal } = options
  const [main] = files
  if (main === undefined) throw new TypeError('a model has at least one file')
  const progress = progressOver(files, options)
  const known = await knownModel(http, files, signal)
  if (known !== null) {
    progress(files.length, 0)
    return known
  }
  if (files.length === 1) {
    const { model } = await uploadFile(http, main, { kind: 'model', signal, onProgress: (bytes) => progress(0, bytes) })
    return get<Model>(http, `/v1/models/${model}`, signal)
  }
  const set = crypto.randomUUID()
  const uploads: string[] = []
  for (const [index, file] of files.entries()) {
    const onProgress = (bytes: number) => progress(index, bytes)
    uploads.push((await uploadFile(http, file, { kind: 'model', set, signal, onProgress })).id)
  }
  return http.json<Model>({
    method: 'POST',
    path: '/v1/upload-sets',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ uploads }),
    signal,
    timeoutMs: JOIN_TIMEOUT_MS,
  })
}

export async function uploadDataset(http: Http, file: UploadSource, options: TransferOptions = {}): Promise<Dataset> {
  const { signal } = options
  const progress = progressOver([file], options)
  const known = file.sha256 === undefined ? null : await find<Dataset>(http, `/v1/datasets/${file.sha256}`, signal)
  if (known !== null) {
    progress(1, 0)
    return known
  }
  const { dataset } = await uploadFile(http, file, {
    kind: 'dataset',
    signal,
    onProgress: (bytes) => progress(0, bytes),
  })
  return get<Dataset>(http, `/v1/datasets/${dataset}`, signal)
}

/** The id that the server gives: of one file its SHA-256; of several, SHA-256 over the lines "sha256  name" sorted by name. */
export async function modelId(files: readonly { name: string; sha256: string }[]): Promise<string> {
  const [only] = files
  if (only !== undefined && files.length === 1) return only.sha256
  const lines = files.toSorted((a, b) => (a.name < b.name ? -1 : 1)).map(({ name, sha256 }) => `${sha256}  ${name}\n`)
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(lines.join('')))
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

async function knownModel(http: Http, files: UploadSource[], signal: AbortSignal | undefined): Promise<Model | null> {
  const hashed = files.flatMap(({ name, sha256 }) => (sha256 === undefined ? [] : [{ name, sha256 }]))
  if (hashed.length < files.length) return null
  return find<Model>(http, `/v1/models/${await modelId(hashed)}`, signal)
}

function get<T>(http: Http, path: string, signal: AbortSignal | undefined): Promise<T> {
  return http.json<T>({ method: 'GET', path, signal })
}

/** A key that may not read (403) does not keep from sending. */
async function find<T>(http: Http, path: string, signal: AbortSignal | undefined): Promise<T | null> {
  try {
    return await get<T>(http, path, signal)
  } catch (error) {
    if (error instanceof TensorpressError && (error.status === 404 || error.status === 403)) return null
    throw error
  }
}

/** Adds up: the files before `index` whole, and `bytes` of that one. */
function progressOver(files: UploadSource[], { onProgress }: TransferOptions): (index: number, bytes: number) => void {
  const sizes = files.map(({ content }) => content.size)
  const sum = (list: number[]) => list.reduce((total, size) => total + size, 0)
  return (index, bytes) => onProgress?.(sum(sizes.slice(0, index)) + bytes, sum(sizes))
}
