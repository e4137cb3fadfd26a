// A client of the REST API for campaigns: plain node:http, so that connections can be counted, cut and held open. Entry:
// ApiClient. Answers are given as they are; `json` throws an ApiFailure for anything beyond 299.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { Agent, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
}

export interface JobBody {
  id: string
  state: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'
  attempt: number
  model: string
  error: { code: string; detail: string } | null
  createdAt: string
  startedAt: string | null
  finishedAt: string | null
  links: { artifact: string | null; report: string | null }
}

/** The server answered, and with a refusal. Any other error means that there was no answer. */
export class ApiFailure extends Error {
  readonly status: number
  readonly code: string

  constructor(what: string, { status, body }: Answer) {
    const text = body.toString('utf8').slice(0, 500)
    super(`${what}: ${status} ${text}`)
    this.status = status
    this.code = /"code":\s*"(\w+)"/.exec(text)?.[1] ?? ''
  }
}

const ANSWER_MS = 120_000
/** May be sent twice. */
const REPEATABLE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'PUT'])

export class ApiClient {
  readonly url: string
  readonly #agent: Agent

  constructor(url: string, maxSockets = 32) {
    this.url = url
    this.#agent = new Agent({ keepAlive: true, maxSockets, scheduling: 'fifo' })
  }

  /**
   * A request whose body the caller writes. POST and DELETE get a connection of their own: on a kept one that the server closes in
   * this moment nobody could say whether they were carried out.
   */
  open(method: string, path: string, headers: Record<string, string | number> = {}): ClientRequest {
    const sent = request(this.url + path, { method, agent: REPEATABLE.has(method) ? this.#agent : false, headers })
    // Whoever waits for the answer hears of the first error; the connection may report a second one when nobody does.
    sent.on('error', () => {})
    return sent
  }

  async send(
    method: string,
    path: string,
    body: Uint8Array | object | null = null,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const bytes = body === null || body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body))
    const type = body === null || body instanceof Uint8Array ? {} : { 'content-type': 'application/json' }
    const length = bytes === null ? {} : { 'content-length': bytes.byteLength }
    const sent = this.open(method, path, { ...type, ...length, ...headers })
    sent.setTimeout(ANSWER_MS, () => sent.destroy(new Error(`${method} ${path}: no answer within ${ANSWER_MS} ms`)))
    sent.end(bytes ?? undefined)
    try {
      return await receive(sent)
    } catch (error) {
      const idle = sent.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET' && REPEATABLE.has(method)
      if (!idle) throw error
      return this.send(method, path, body, headers)
    }
  }

  async json<T>(
    method: string,
    path: string,
    body: Uint8Array | object | null = null,
    headers: Record<string, string> = {},
  ): Promise<T> {
    const answer = await this.send(method, path, body, headers)
    if (answer.status > 299) throw new ApiFailure(`${method} ${path}`, answer)
    return (answer.body.byteLength === 0 ? null : JSON.parse(answer.body.toString('utf8'))) as T
  }

  async ready(withinMs = 60_000): Promise<{ device: { adapter: string; driver: string; kind: string } }> {
    const deadline = performance.now() + withinMs
    for (;;) {
      const answer = await this.send('GET', '/readyz')
      if (answer.status === 200) return JSON.parse(answer.body.toString('utf8'))
      if (performance.now() > deadline) throw new ApiFailure('GET /readyz', answer)
      await sleep(50)
    }
  }

  async waitForJob(id: string, withinMs = 120_000, pauseMs = 50): Promise<JobBody> {
    const deadline = performance.now() + withinMs
    for (;;) {
      const job = await this.json<JobBody>('GET', `/v1/jobs/${id}`)
      if (job.finishedAt !== null) return job
      if (performance.now() > deadline) throw new Error(`job ${id} is still ${job.state} after ${withinMs} ms`)
      await sleep(pauseMs)
    }
  }

  close(): void {
    this.#agent.destroy()
  }
}

/** The whole answer. */
export async function receive(sent: ClientRequest): Promise<Answer> {
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  const pieces: Buffer[] = []
  for await (const piece of response) pieces.push(piece as Buffer)
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(pieces) }
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
