// Resumable uploads (tus 1.0) under the crash campaign: every offset that was acknowledged must still be there after any crash,
// and the upload must go on from where the server stands to a model with the right sha256. Entry: ResumableLedger.

import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiClient, ApiFailure, sha256 } from './api-client.ts'
import type { SeededModel } from './seeded-models.ts'

const TUS = { 'tus-resumable': '1.0.0' }
const PIECES = 5
const SETTLE_MS = 60_000

interface KnownUpload {
  model: SeededModel
  ackedBytes: number
  /** A client is at it. */
  busy: boolean
  finished: boolean
}

export class ResumableLedger {
  /** By path. */
  readonly #uploads = new Map<string, KnownUpload>()
  readonly #find: (text: string) => void

  constructor(find: (text: string) => void) {
    this.#find = find
  }

  get acknowledged(): number {
    return this.#uploads.size
  }

  get finished(): number {
    return [...this.#uploads.values()].filter(({ finished }) => finished).length
  }

  async begin(api: ApiClient, model: SeededModel): Promise<string> {
    const { status, headers, body } = await api.send('POST', '/v1/uploads', null, {
      ...TUS,
      'upload-length': String(model.bytes.byteLength),
      'upload-metadata': `filename ${Buffer.from(model.name).toString('base64')}`,
    })
    if (status !== 201) throw new ApiFailure('POST /v1/uploads', { status, headers, body })
    const path = new URL(headers.location ?? '', api.url).pathname
    this.#uploads.set(path, { model, ackedBytes: 0, busy: false, finished: false })
    return path
  }

  /** One that nobody is at and that is not finished. */
  waiting(random: () => number): string | null {
    const paths = [...this.#uploads].filter(([, { busy, finished }]) => !busy && !finished).map(([path]) => path)
    return paths[Math.floor(random() * paths.length)] ?? null
  }

  /** Sends pieces from where the server stands until all is there. Resolves with the model's id, or throws half-way. */
  async resume(api: ApiClient, path: string): Promise<string> {
    const upload = this.#uploads.get(path)!
    const { bytes, name } = upload.model
    upload.busy = true
    try {
      let offset = await this.#offset(api, path)
      const step = Math.ceil(bytes.byteLength / PIECES)
      while (offset < bytes.byteLength) {
        const piece = bytes.subarray(offset, offset + step)
        const type = { 'content-type': 'application/offset+octet-stream', 'upload-offset': String(offset) }
        const answer = await api.send('PATCH', path, piece, { ...TUS, ...type })
        if (answer.status !== 204) throw new ApiFailure(`PATCH ${path}`, answer)
        offset = Number(answer.headers['upload-offset'])
        upload.ackedBytes = Math.max(upload.ackedBytes, offset)
      }
      const view = await api.json<{ state: string; model: string | null }>('GET', path)
      const id = sha256(bytes)
      if (view.state === 'finished' && view.model !== id) this.#find(`upload ${name} became ${view.model}, not ${id}`)
      if (view.state === 'refused') this.#find(`upload ${name} was refused: ${JSON.stringify(view)}`)
      upload.finished = view.state === 'finished'
      return id
    } finally {
      upload.busy = false
    }
  }

  /** The last byte is there and the model is being made: waits for it. */
  async settle(api: ApiClient, path: string): Promise<void> {
    const deadline = performance.now() + SETTLE_MS
    const upload = this.#uploads.get(path)!
    while (!upload.finished) {
      await this.resume(api, path)
      if (upload.finished) return
      if (performance.now() > deadline) return this.#giveUp(path, upload)
      await sleep(100)
    }
  }

  #giveUp(path: string, upload: KnownUpload): void {
    this.#find(`upload ${path} is whole and no model was made of it within ${SETTLE_MS} ms`)
    upload.finished = true
  }

  /** Every upload that nobody is at stands at least where it was acknowledged. */
  async audit(api: ApiClient): Promise<void> {
    for (const [path, { busy, finished }] of this.#uploads) if (!busy && !finished) await this.#offset(api, path)
  }

  async #offset(api: ApiClient, path: string): Promise<number> {
    const { model, ackedBytes } = this.#uploads.get(path)!
    const answer = await api.send('HEAD', path, null, TUS)
    const offset = Number(answer.headers['upload-offset'])
    if (answer.status !== 200) this.#find(`upload ${model.name} was acknowledged and is ${answer.status}`)
    else if (!(offset >= ackedBytes && offset <= model.bytes.byteLength)) {
      this.#find(`upload ${model.name} stands at ${offset}; ${ackedBytes} were acknowledged`)
    }
    return offset
  }
}
