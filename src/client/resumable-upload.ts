// One file to /v1/uploads by the tus 1.0 protocol: in pieces, going on after broken connections and restarts of the server.
// Entry: uploadFile. One piece is in memory at a time.

import { BackOff, pause } from './back-off.ts'
import { ConnectionError, mayRetry, TensorpressError } from './client-error.ts'
import type { Upload } from './generated/schema.ts'
import type { Http } from './http.ts'

/** What a Blob or a File is already; `openFile` of tensorpress/client/node makes one of a path. */
export interface FileContent {
  readonly size: number
  slice(start: number, end: number): Blob | Promise<Blob>
}

export interface UploadSource {
  /** Name to store it under. */
  name: string
  content: FileContent
  /** In hexadecimal; the server refuses bytes that hash to something else. */
  sha256?: string | undefined
}

export interface UploadOptions {
  kind: 'model' | 'dataset'
  /** The same for all files of one model. */
  set?: string | undefined
  signal?: AbortSignal | undefined
  /** Bytes that the server has acknowledged. */
  onProgress?: ((doneBytes: number) => void) | undefined
}

/** Small enough that progress shows, large enough that a request costs little beside its bytes. */
const PIECE_BYTES = 16 * 1024 * 1024
/** For one piece: a connection that carries less is given up, and what had arrived is kept. */
const PIECE_TIMEOUT_MS = 300_000
/** After the last byte a server that was restarted reads the whole file once more. */
const FINISH_TIMEOUT_MS = 900_000
const POLL_MS = 500
/** An upload that is gone (expired, another data folder) is begun again this often. */
const MAX_BEGINNINGS = 3

const TUS = { 'Tus-Resumable': '1.0.0' }

/** Resolves with the finished upload, or the stored one when it belongs to a set. Throws TensorpressError, ConnectionError. */
export async function uploadFile(http: Http, source: UploadSource, options: UploadOptions): Promise<Upload> {
  for (let beginning = 1; ; beginning++) {
    const id = await begin(http, source, options)
    try {
      await sendAll(http, id, source.content, options)
      return await finished(http, id, options)
    } catch (error) {
      const gone = error instanceof TensorpressError && error.status === 404
      if (gone && beginning < MAX_BEGINNINGS) continue
      await giveUp(http, id)
      throw error
    }
  }
}

async function begin(http: Http, source: UploadSource, options: UploadOptions): Promise<string> {
  const { name, content, sha256 } = source
  const { kind, set, signal } = options
  const metadata = { filename: name, kind, ...(set ? { set } : {}), ...(sha256 ? { sha256 } : {}) }
  const backOff = new BackOff(http.retryMs, signal)
  for (;;) {
    try {
      const response = await http.send({
        method: 'POST',
        path: '/v1/uploads',
        headers: { ...TUS, 'Upload-Length': String(content.size), 'Upload-Metadata': metadataText(metadata) },
        signal,
      })
      const id = response.headers.get('location')?.split('/').at(-1)
      if (!id) throw new ConnectionError('the answer has no Location', response.status)
      return id
    } catch (error) {
      // Asked before, with the answer lost: a set holds each name once.
      if (error instanceof TensorpressError && error.status === 409 && typeof error.context['upload'] === 'string') {
        return error.context['upload']
      }
      await backOff.wait(error)
    }
  }
}

async function sendAll(http: Http, id: string, content: FileContent, options: UploadOptions): Promise<void> {
  const { signal, onProgress } = options
  const path = `/v1/uploads/${id}`
  const backOff = new BackOff(http.retryMs, signal)
  let offset = await offsetOf(http, path, signal)
  while (offset < content.size) {
    onProgress?.(offset)
    let next: number
    try {
      const response = await http.send({
        method: 'PATCH',
        path,
        headers: { ...TUS, 'Upload-Offset': String(offset), 'Content-Type': 'application/offset+octet-stream' },
        body: await content.slice(offset, offset + PIECE_BYTES),
        signal,
        timeoutMs: offset + PIECE_BYTES >= content.size ? FINISH_TIMEOUT_MS : PIECE_TIMEOUT_MS,
      })
      next = Number(response.headers.get('upload-offset'))
      if (!(next > offset)) throw new ConnectionError('the answer has no Upload-Offset', response.status)
    } catch (error) {
      // The server stands elsewhere, or our own broken request still holds the upload.
      const elsewhere = error instanceof TensorpressError && error.status === 409
      await backOff.wait(elsewhere ? new ConnectionError(error.detail, null, error) : error)
      next = await offsetOf(http, path, signal)
    }
    if (next > offset) backOff.progress()
    offset = next
  }
  onProgress?.(offset)
}

/** HEAD waits until a broken request before has put down what it had; GET says why when something is wrong. */
async function offsetOf(http: Http, path: string, signal: AbortSignal | undefined): Promise<number> {
  try {
    const response = await http.sendPatiently({ method: 'HEAD', path, headers: TUS, signal })
    return Number(response.headers.get('upload-offset'))
  } catch (error) {
    if (mayRetry(error)) throw error
    signal?.throwIfAborted()
    const upload = await stateOf(http, path, signal)
    return upload.offset
  }
}

/** Throws what the upload was refused for. */
async function stateOf(http: Http, path: string, signal: AbortSignal | undefined): Promise<Upload> {
  const upload = await http.json<Upload>({ method: 'GET', path, signal })
  if (upload.error !== null) throw refusal(upload)
  return upload
}

/** The answer to the last byte may be lost: the upload itself says what became of it. */
async function finished(http: Http, id: string, { set, signal }: UploadOptions): Promise<Upload> {
  const deadlineMs = Date.now() + FINISH_TIMEOUT_MS
  for (;;) {
    const upload = await stateOf(http, `/v1/uploads/${id}`, signal)
    if (upload.state === 'finished' || (upload.state === 'stored' && set)) return upload
    if (Date.now() > deadlineMs)
      throw new ConnectionError(`upload ${id} is complete, and nothing was made of it in time`)
    await pause(POLL_MS, signal)
  }
}

function refusal({ id, error }: Upload): TensorpressError {
  const { code, detail, context } = error!
  return new TensorpressError({
    type: `urn:tensorpress:error:${code}`,
    title: 'Refused',
    status: 422,
    detail,
    instance: `/v1/uploads/${id}`,
    code,
    context,
    requestId: '',
  })
}

/** Frees its space at once; whatever goes wrong here, the upload expires by itself. */
async function giveUp(http: Http, id: string): Promise<void> {
  await http.send({ method: 'DELETE', path: `/v1/uploads/${id}`, headers: TUS, timeoutMs: 2000 }).catch(() => {})
}

/** Upload-Metadata: pairs of a key and a value in Base64, of UTF-8. */
function metadataText(metadata: Record<string, string>): string {
  return Object.entries(metadata)
    .map(([key, value]) => `${key} ${btoa(String.fromCharCode(...new TextEncoder().encode(value)))}`)
    .join(',')
}
