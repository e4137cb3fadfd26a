// Bounds the uploads in progress and runs one: `receive` gives the work an Upload, commits it, and discards it whatever goes
// wrong, so that a client that leaves half-way leaves nothing behind.

import type { Request } from 'express'
import type { Limits } from '../config.ts'
import { AppError } from '../errors.ts'
import type { Upload } from '../jobs/service.ts'
import type { Metrics } from '../telemetry/metrics.ts'

export class UploadGate {
  #inProgress = 0
  readonly #limits: Limits
  readonly #metrics: Metrics

  constructor(limits: Limits, metrics: Metrics) {
    this.#limits = limits
    this.#metrics = metrics
  }

  /** Throws too_many_uploads at once rather than letting a client wait with an open body. */
  async run<T>(
    request: Request,
    work: () => Promise<T>,
    sizeLimit: 'uploadBytes' | 'datasetBytes' = 'uploadBytes',
  ): Promise<T> {
    const allowed = this.#limits.parallelUploads
    if (this.#inProgress >= allowed) {
      throw new AppError('too_many_uploads', `${this.#inProgress} uploads are in progress, as many as are allowed.`, {
        limit: 'parallelUploads',
        allowed,
        requested: this.#inProgress + 1,
      })
    }
    this.#checkDeclared(request, sizeLimit)
    this.#count(1)
    try {
      return await work()
    } finally {
      this.#count(-1)
    }
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

  #count(change: 1 | -1): void {
    this.#inProgress += change
    this.#metrics.uploadsInProgress.set(this.#inProgress)
  }
}

/** Content-Length; null where the body is chunked. */
export function declaredBytes(request: Request): number | null {
  const text = request.get('content-length')
  return text === undefined ? null : Number(text)
}
