// Bounds the uploads in progress, in all and of one API key, and runs one: `receive` gives the work an Upload, commits it, and
// discards it whatever goes wrong, so that a client that leaves half-way leaves nothing behind.

import type { Request, Response } from 'express'
import type { Limits } from '../config.ts'
import { AppError } from '../errors.ts'
import type { Upload } from '../jobs/service.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { callerOf } from './access.ts'

export class UploadGate {
  #inProgress = 0
  readonly #ofKey = new Map<string, number>()
  readonly #limits: Limits
  readonly #metrics: Metrics

  constructor(limits: Limits, metrics: Metrics) {
    this.#limits = limits
    this.#metrics = metrics
  }

  /** Throws too_many_uploads at once rather than letting a client wait with an open body. */
  async run<T>(
    request: Request,
    response: Response,
    work: () => Promise<T>,
    sizeLimit: 'uploadBytes' | 'datasetBytes' = 'uploadBytes',
  ): Promise<T> {
    // Without keys there is nobody to tell apart.
    const key = callerOf(response)?.name ?? null
    this.#checkRoom(key)
    this.#checkDeclared(request, sizeLimit)
    this.#count(key, 1)
    try {
      return await work()
    } finally {
      this.#count(key, -1)
    }
  }

  #checkRoom(key: string | null): void {
    const allowed = this.#limits.parallelUploads
    if (this.#inProgress >= allowed) {
      throw new AppError('too_many_uploads', `${this.#inProgress} uploads are in progress, as many as are allowed.`, {
        limit: 'parallelUploads',
        allowed,
        requested: this.#inProgress + 1,
      })
    }
    const own = key === null ? 0 : (this.#ofKey.get(key) ?? 0)
    const allowedPerKey = this.#limits.parallelUploadsPerKey
    if (own < allowedPerKey) return
    throw new AppError(
      'too_many_uploads',
      `${own} uploads of API key "${key}" are in progress, as many as limit parallelUploadsPerKey allows.`,
      { limit: 'parallelUploadsPerKey', allowed: allowedPerKey, requested: own + 1 },
    )
  }

  /** Discards each upload that was not committed. */
  async receive<T>(uploads: readonly Pick<Upload<unknown>, 'discard'>[], work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      await Promise.all(uploads.map((upload) => upload.discard()))
      throw error
    }
  }

  /** A body that says it is too large, or is packed, is refused before its first byte. */
  #checkDeclared(request: Request, limit: 'uploadBytes' | 'datasetBytes'): void {
    const encoding = request.get('content-encoding')
    if (encoding !== undefined && encoding !== 'identity') {
      throw new AppError(
        'content_type_unsupported',
        `Content-Encoding ${encoding} is not taken; send the file itself.`,
        {
          allowed: ['identity'],
        },
      )
    }
    const requested = declaredBytes(request)
    const allowed = this.#limits[limit]
    if (requested !== null && requested > allowed) {
      throw new AppError('body_too_large', `The body has ${requested} bytes; limit ${limit} allows ${allowed}.`, {
        limit,
        allowed,
        requested,
      })
    }
  }

  #count(key: string | null, change: 1 | -1): void {
    this.#inProgress += change
    this.#metrics.uploadsInProgress.set(this.#inProgress)
    if (key === null) return
    const own = (this.#ofKey.get(key) ?? 0) + change
    if (own === 0) this.#ofKey.delete(key)
    else this.#ofKey.set(key, own)
  }
}

/** Content-Length; null where the body is chunked. */
export function declaredBytes(request: Request): number | null {
  const text = request.get('content-length')
  return text === undefined ? null : Number(text)
}
