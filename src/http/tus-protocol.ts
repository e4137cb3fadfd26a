// The tus 1.0 protocol (https://tus.io/protocols/resumable-upload) over the upload service, by @tus/server. Entry:
// createTusProtocol. The library judges headers and offsets; where the bytes go, who waits for whom and how an error looks is
// ours: a DataStore that hands everything to the service, a lock without busy waiting, and problem documents.

import { randomUUID } from 'node:crypto'
import { finished, PassThrough, Readable } from 'node:stream'
import { DataStore, type Locker, Server, Upload as TusUpload } from '@tus/server'
import type { Request, Response } from 'express'
import { AppError } from '../errors.ts'
import type { NewUpload, UploadService, UploadView } from '../jobs/service.ts'
import { callerOf } from './access.ts'
import { declaredBytes } from './upload-gate.ts'
import { createUploadLocker } from './upload-locker.ts'

export const TUS_VERSION = '1.0.0'
export const TUS_EXTENSIONS = ['creation', 'creation-with-upload', 'termination', 'expiration'] as const

/** What a request that is asked to stop gets to put down what it has received. */
const LOCK_DRAIN_MS = 500
const BODY_TYPE = 'application/offset+octet-stream'
/** Answers of the library that are handed on; others (CORS) are not for this server. */
const PASSED_HEADERS = [
  'Location',
  'Upload-Offset',
  'Upload-Length',
  'Upload-Metadata',
  'Upload-Expires',
  'Tensorpress-Result',
] as const

export interface TusRules {
  /** Path that ids are appended to. */
  basePath: string
  /** Checks Upload-Metadata. Throws request_invalid. */
  readMetadata(metadata: Record<string, string | null>): Pick<NewUpload, 'kind' | 'fileName' | 'set' | 'expectedSha256'>
  /** Path of the model or dataset that an upload became; null: none yet. */
  resultPath(view: UploadView): string | null
}

/** Runs a POST (id null), HEAD, PATCH or DELETE and writes the answer. Throws AppError. */
export type TusProtocol = (request: Request, response: Response, id: string | null) => Promise<void>

export function createTusProtocol(uploads: UploadService, rules: TusRules): TusProtocol {
  const locker = createUploadLocker()
  return async (request, response, id) => {
    response.set('Tus-Resumable', TUS_VERSION)
    checkHeaders(request, response)
    const store = new ServiceStore(uploads, rules, callerOf(response)?.name ?? null)
    let failure: unknown = null
    const server = makeServer(uploads, rules, store, locker, (error) => {
      failure = error
    })
    const body = detachableBody(request)
    let answer: globalThis.Response
    try {
      answer = await server.handleWeb(webRequest(request, rules.basePath, id, body?.stream ?? null))
    } finally {
      body?.detach()
    }
    if (answer.status >= 400) {
      // A client that got no Location can never go on with it.
      if (store.createdId !== null) await uploads.remove(store.createdId).catch(() => {})
      throw failure instanceof AppError ? failure : asAppError(answer.status, await answer.text(), failure)
    }
    for (const name of PASSED_HEADERS) {
      const value = answer.headers.get(name)
      if (value !== null) response.set(name, value)
    }
    response.set('Cache-Control', 'no-store').status(answer.status).end()
  }
}

/** What the protocol asks for and the library answers otherwise: 412 for another version, 415 for another media type. */
function checkHeaders(request: Request, response: Response): void {
  const version = request.get('tus-resumable')
  if (version !== TUS_VERSION) {
    response.set('Tus-Version', TUS_VERSION)
    const found = version === undefined ? 'is missing' : `is ${JSON.stringify(version)}`
    throw new AppError('precondition_failed', `Header Tus-Resumable ${found}; ${TUS_VERSION} is spoken here.`, {
      allowed: [TUS_VERSION],
    })
  }
  const type = request.get('content-type')
  const sendsBytes = request.method === 'PATCH' || (request.method === 'POST' && hasBody(request))
  if (sendsBytes && type !== BODY_TYPE) {
    const found = type ?? 'a body without type'
    throw new AppError('content_type_unsupported', `${request.method} takes ${BODY_TYPE}, not ${found}.`, {
      allowed: [BODY_TYPE],
    })
  }
}

function hasBody(request: Request): boolean {
  return (declaredBytes(request) ?? 0) > 0 || request.get('transfer-encoding') !== undefined
}

/** One for each request, so that its hooks know whose failure they see. The lock is what requests share. */
function makeServer(
  uploads: UploadService,
  { basePath, resultPath }: TusRules,
  datastore: ServiceStore,
  locker: Locker,
  onFailure: (error: unknown) => void,
): Server {
  return new Server({
    path: basePath,
    datastore,
    locker,
    lockDrainTimeout: LOCK_DRAIN_MS,
    relativeLocation: true,
    maxSize: uploads.maxBytes,
    namingFunction: () => randomUUID(),
    async onUploadFinish(_request, { id }) {
      const path = resultPath(await uploads.finish(id))
      return path === null ? {} : { headers: { 'Tensorpress-Result': path } }
    },
    onResponseError(_request, error) {
      onFailure(error)
      return undefined
    },
  })
}

class ServiceStore extends DataStore {
  override extensions = [...TUS_EXTENSIONS]
  /** Upload that this request has made. */
  createdId: string | null = null
  readonly #uploads: UploadService
  readonly #rules: TusRules
  readonly #submittedBy: string | null

  constructor(uploads: UploadService, rules: TusRules, submittedBy: string | null) {
    super()
    this.#submittedBy = submittedBy
    this.#uploads = uploads
    this.#rules = rules
  }

  override async create(upload: TusUpload): Promise<TusUpload> {
    const metadata = upload.metadata ?? {}
    const sizeBytes = upload.size
    if (sizeBytes === undefined) throw new AppError('request_invalid', 'Upload-Length is missing.')
    const about = this.#rules.readMetadata(metadata)
    const view = await this.#uploads.create({
      id: upload.id,
      sizeBytes,
      metadata,
      submittedBy: this.#submittedBy,
      ...about,
    })
    this.createdId = upload.id
    return this.#shown(view)
  }

  override async getUpload(id: string): Promise<TusUpload> {
    const view = await this.#uploads.get(id)
    // Its bytes are gone: the client learns why instead of believing that all is well.
    if (view.error !== null) throw AppError.fromObject(view.error)
    return this.#shown(view)
  }

  override write(stream: Readable, id: string, offset: number): Promise<number> {
    return this.#uploads.append(id, offset, stream)
  }

  override remove(id: string): Promise<void> {
    return this.#uploads.remove(id)
  }

  override getExpiration(): number {
    return this.#uploads.expiryMs
  }

  /** The library adds the expiration to the creation date; ours moves on with every byte. */
  #shown({ id, sizeBytes, storedBytes, metadata, expiresAt }: UploadView): TusUpload {
    const creation_date = new Date(Date.parse(expiresAt) - this.#uploads.expiryMs).toISOString()
    return new TusUpload({ id, size: sizeBytes, offset: storedBytes, metadata, creation_date })
  }
}

/**
 * The body, behind a stream of its own: what the library leaves unread of a refused one must not block the connection, on
 * which the client is still to read the answer.
 */
function detachableBody(request: Request): { stream: PassThrough; detach(): void } | null {
  if (request.method !== 'POST' && request.method !== 'PATCH') return null
  const stream = request.pipe(new PassThrough())
  finished(request, (error) => {
    if (error) stream.destroy(error)
  })
  return { stream, detach: () => void request.unpipe(stream) }
}

/** The request as the library takes it. Its path holds nothing but the id, whatever the client wrote. */
function webRequest(request: Request, basePath: string, id: string | null, body: Readable | null): globalThis.Request {
  const headers = new Headers()
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value)
  }
  const path = id === null ? basePath : `${basePath}/${encodeURIComponent(id)}`
  return new globalThis.Request(`http://localhost${path}`, {
    method: request.method,
    headers,
    ...(body ? { body: Readable.toWeb(body) as ReadableStream, duplex: 'half' } : {}),
  })
}

/** What the library refuses by itself, which it says in a status and a line of text. */
function asAppError(status: number, text: string, cause: unknown): AppError {
  const found = text.trim().replace(/\.$/, '')
  switch (status) {
    case 403:
      return new AppError('request_invalid', `${found}.`, { path: 'header.Upload-Offset' })
    case 404:
      return new AppError('not_found', 'There is no such upload; it may have expired.')
    case 409:
      return new AppError('conflict', 'Upload-Offset is not where the upload stands; HEAD tells the offset.')
    case 410:
      return new AppError('not_found', 'The upload has expired.')
    case 413:
      return new AppError('body_too_large', `The body goes beyond the length of the upload, or beyond uploadBytes.`, {
        limit: 'uploadBytes',
      })
    case 501:
      return new AppError('feature_unsupported', `${found}; extensions are ${TUS_EXTENSIONS.join(', ')}.`, {
        allowed: [...TUS_EXTENSIONS],
      })
  }
  if (/^Request aborted/.test(found)) {
    return new AppError(
      'conflict',
      'The connection broke, or a later request took the upload over; HEAD tells the offset.',
    )
  }
  if (status === 400) return new AppError('request_invalid', `${found}.`, { path: 'header' })
  return AppError.from(cause ?? new Error(found))
}
