// One request: address, key, time limit, and problem documents turned into errors. Entry: createHttp. Standard fetch only.

import { BackOff } from './back-off.ts'
import { bodyOf } from './body.ts'
import { ConnectionError, TensorpressError } from './client-error.ts'
import type { Problem } from './generated/schema.ts'

export interface HttpOptions {
  /** Address of the server, such as http://127.0.0.1:8080; a path before /v1 is kept. */
  baseUrl: string
  /** Sent as a Bearer token; absent: none. */
  apiKey?: string | undefined
  /** How long to try again while the server cannot be reached and nothing gets on. Default: 120. */
  retrySeconds?: number | undefined
  /** Another implementation of fetch, for tests or proxies. */
  fetch?: typeof fetch | undefined
}

export interface HttpRequest {
  method: string
  /** From /v1 on, with its query. */
  path: string
  headers?: Record<string, string>
  body?: string | Blob
  signal?: AbortSignal | undefined
  /** Until the head of the answer is there. Default: a minute. */
  timeoutMs?: number
  /** A status beside 2xx that is an answer and no failure. */
  alsoStatus?: number
}

export interface Http {
  readonly retryMs: number
  /** Resolves with a 2xx answer. Throws TensorpressError, ConnectionError, or what aborted the signal. */
  send(request: HttpRequest): Promise<Response>
  /** The same, tried again while that may help. Only for what may be sent twice. */
  sendPatiently(request: HttpRequest): Promise<Response>
  /** The text of the answer, which may break off as well; tried again like sendPatiently. */
  text(request: HttpRequest): Promise<string>
  /** The same, as JSON. */
  json<T>(request: HttpRequest): Promise<T>
}

const DEFAULT_TIMEOUT_MS = 60_000
const DEFAULT_RETRY_SECONDS = 120

export function createHttp(options: HttpOptions): Http {
  const base = options.baseUrl.replace(/\/+$/, '')
  const doFetch = options.fetch ?? fetch
  const retryMs = (options.retrySeconds ?? DEFAULT_RETRY_SECONDS) * 1000

  async function send(request: HttpRequest): Promise<Response> {
    const { method, path, headers, body, signal, timeoutMs } = request
    const limit = new AbortController()
    const timer = setTimeout(() => limit.abort(), timeoutMs ?? DEFAULT_TIMEOUT_MS)
    let response: Response
    try {
      response = await doFetch(`${base}${path}`, {
        method,
        headers: { ...headers, ...(options.apiKey ? { Authorization: `Bearer ${options.apiKey}` } : {}) },
        ...(body === undefined ? {} : { body }),
        // Followed, it could take the key along to another host, or turn a POST into a GET.
        redirect: 'manual',
        signal: signal === undefined ? limit.signal : AbortSignal.any([signal, limit.signal]),
      })
    } catch (error) {
      signal?.throwIfAborted()
      throw new ConnectionError(
        limit.signal.aborted ? `${base} did not answer in time` : `${base} cannot be reached: ${reasonOf(error)}`,
        null,
        error,
      )
    } finally {
      clearTimeout(timer)
    }
    if (response.ok || response.status === request.alsoStatus) return response
    throw await failureOf(response, base)
  }

  async function patiently<T>(signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
    const backOff = new BackOff(retryMs, signal)
    for (;;) {
      try {
        return await attempt()
      } catch (error) {
        await backOff.wait(error)
      }
    }
  }

  const text = (request: HttpRequest) =>
    patiently(request.signal, async () => textOf(await send(request), request.signal))

  return {
    retryMs,
    send,
    sendPatiently: (request) => patiently(request.signal, () => send(request)),
    text,
    json: async <T>(request: HttpRequest) => JSON.parse(await text(request)) as T,
  }
}

/** An answer without a byte for this long is dead. */
const SILENCE_MS = 60_000

/** Throws ConnectionError when the connection breaks in the middle of the answer, or falls silent. */
export async function textOf(response: Response, signal: AbortSignal | undefined): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const piece of bodyOf(response, SILENCE_MS, signal)) text += decoder.decode(piece, { stream: true })
  return text + decoder.decode()
}

/** fetch says "fetch failed" and hides why in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? reasonOf(error.cause) : error.message
}

async function failureOf(response: Response, base: string): Promise<Error> {
  const asked = Number(response.headers.get('retry-after') ?? Number.NaN)
  const retryAfterSeconds = Number.isFinite(asked) ? asked : null
  const type = response.headers.get('content-type') ?? ''
  if (type.startsWith('application/problem+json')) {
    try {
      const problem = JSON.parse(await textOf(response, undefined)) as Problem
      return new TensorpressError(problem, retryAfterSeconds)
    } catch (error) {
      return new ConnectionError(`the answer of ${base} broke off`, response.status, error)
    }
  }
  await response.body?.cancel()
  const problem = `${base} answered ${response.status}, and not as Tensorpress does`
  return new ConnectionError(problem, response.status, undefined, retryAfterSeconds)
}
