// What the client throws: a refusal of the server with its stable code, or a connection that could not be had.

import type { ErrorCode, Problem } from './generated/schema.ts'

/** A problem document (RFC 9457) of the server. `code` is stable; docs/errors.md lists all. */
export class TensorpressError extends Error {
  readonly code: ErrorCode
  readonly status: number
  readonly detail: string
  readonly context: Record<string, unknown>
  readonly requestId: string
  /** Seconds that the server asks to wait before trying again. */
  readonly retryAfterSeconds: number | null

  constructor(problem: Problem, retryAfterSeconds: number | null = null) {
    super(`${problem.code}: ${problem.detail}`)
    this.name = 'TensorpressError'
    this.code = problem.code
    this.status = problem.status
    this.detail = problem.detail
    this.context = problem.context
    this.requestId = problem.requestId
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** No answer, a broken one, or one that is not Tensorpress' (a proxy's page, for example). Trying again may help. */
export class ConnectionError extends Error {
  /** Of an answer that was not Tensorpress'; null: there was none. */
  readonly status: number | null
  /** Seconds that a proxy asks to wait before trying again. */
  readonly retryAfterSeconds: number | null

  constructor(message: string, status: number | null = null, cause?: unknown, retryAfterSeconds: number | null = null) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'ConnectionError'
    this.status = status
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** Answers that a server or a proxy gives while it is starting, draining or full for the moment. */
const PASSING_STATUS = new Set([408, 425, 429, 502, 503, 504])

export function mayRetry(error: unknown): boolean {
  if (error instanceof TensorpressError) return PASSING_STATUS.has(error.status)
  if (error instanceof ConnectionError) return error.status === null || PASSING_STATUS.has(error.status)
  return false
}
