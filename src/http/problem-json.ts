// Errors on the wire: RFC 9457 problem documents. The only file that knows status codes. `sendProblem` writes any thrown
// value; `toAppError` recognises what Express, its body parser, multer and `send` throw; `rawProblem` is for requests that
// never became one (header lines too large or too slow).

import { STATUS_CODES } from 'node:http'
import type { ErrorRequestHandler, Response } from 'express'
import multer from 'multer'
import { LIMITS, type LimitName, type Limits } from '../config.ts'
import { AppError, type ErrorCode, type ErrorObject } from '../errors.ts'
import { requestIdOf } from './request-context.ts'
import { SECURITY_HEADERS } from './security-headers.ts'
import { sendBytes } from './send-bytes.ts'

/** Status of each error code. docs/errors.md is generated from this table and ERROR_CODES. */
export const STATUS_OF = {
  request_invalid: 400,
  recipe_invalid: 400,
  dataset_invalid: 422,
  content_type_unsupported: 415,
  method_not_allowed: 405,
  origin_forbidden: 403,
  range_not_satisfiable: 416,
  precondition_failed: 412,
  request_timeout: 408,
  usage: 400,
  idempotency_key_reused: 422,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  artifact_expired: 410,
  conflict: 409,
  format_unrecognised: 422,
  format_truncated: 422,
  format_invalid: 422,
  external_data_invalid: 422,
  checksum_mismatch: 422,
  dtype_unsupported: 422,
  opset_unsupported: 422,
  feature_unsupported: 422,
  limit_exceeded: 413,
  body_too_large: 413,
  headers_too_large: 431,
  too_many_requests: 429,
  too_many_uploads: 429,
  queue_full: 429,
  too_many_jobs: 429,
  stage_timeout: 504,
  disk_full: 507,
  webhook_target_forbidden: 422,
  store_quota_exceeded: 507,
  gpu_memory_exceeded: 413,
  device_unavailable: 503,
  device_lost: 503,
  worker_crashed: 500,
  worker_timeout: 504,
  store_failed: 500,
  validation_failed: 422,
  requirement_not_met: 422,
  cancelled: 409,
  overloaded: 503,
  server_unreachable: 503,
  shutting_down: 503,
  internal: 500,
} as const satisfies Record<ErrorCode, number>

/** Seconds after which a refused client may try again. */
export const RETRY_AFTER_SECONDS: Partial<Record<ErrorCode, number>> = {
  too_many_requests: 5,
  overloaded: 5,
  too_many_uploads: 5,
  queue_full: 30,
  too_many_jobs: 30,
  // Room comes when retention or the operator makes it, not by itself.
  disk_full: 60,
  device_lost: 5,
  shutting_down: 10,
}

/** Long enough for a client on a slow line to notice the answer and stop sending. */
const LINGER_MS = 5000

/** RFC 6750 and RFC 7617. */
const CHALLENGES = ['Bearer realm="Tensorpress"', 'Basic realm="Tensorpress", charset="UTF-8"']

export const PROBLEM_TYPE = 'application/problem+json'

export interface Problem {
  type: string
  title: string
  status: number
  detail: string
  instance: string
  code: ErrorCode
  context: Record<string, unknown>
  requestId: string
}

export function problemOf(error: ErrorObject, instance: string, requestId: string): Problem {
  const status = STATUS_OF[error.code]
  return {
    type: `urn:tensorpress:error:${error.code}`,
    title: STATUS_CODES[status] ?? 'Error',
    status,
    // What went wrong inside is for the log, not for the client.
    detail: error.code === 'internal' ? 'An unexpected error; the log has it under the request id.' : error.detail,
    instance,
    code: error.code,
    context: error.context,
    requestId,
  }
}

/** Ends the response with the problem; `extra` adds members (such as a report). Breaks the connection when headers were sent. */
export function sendProblem(response: Response, error: AppError, extra: Record<string, unknown> = {}): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const problem = problemOf(error.toObject(), response.req.originalUrl, requestIdOf(response))
  const retryAfter = RETRY_AFTER_SECONDS[error.code]
  for (const name of ['ETag', 'Content-Disposition', 'Accept-Ranges', 'Last-Modified', 'Repr-Digest'])
    response.removeHeader(name)
  if (retryAfter !== undefined) response.set('Retry-After', String(retryAfter))
  const allowed = error.context['allowed']
  if (error.code === 'method_not_allowed' && Array.isArray(allowed)) response.set('Allow', allowed.join(', '))
  // A browser asks for the password on Basic, tools take either.
  if (error.code === 'unauthorized') response.set('WWW-Authenticate', CHALLENGES)
  if (!response.req.complete) endSoon(response)
  response.locals['errorCode'] = error.code
  response.set('Cache-Control', 'no-store')
  response.status(problem.status).set('Content-Type', `${PROBLEM_TYPE}; charset=utf-8`)
  sendBytes(response, Buffer.from(JSON.stringify({ ...problem, ...extra })))
}

/**
 * A refused body may be gigabytes long. Closing at once would make the client's kernel drop the answer unread, so the rest is
 * thrown away for a while and then the connection ends.
 */
function endSoon(response: Response): void {
  const request = response.req
  request.resume()
  const timer = setTimeout(() => {
    if (!request.complete) request.socket.destroy()
  }, LINGER_MS)
  timer.unref()
  request.once('close', () => clearTimeout(timer))
}

/** The last middleware. `report` gets what is a bug or a failure of the machine, whole. */
export function problemHandler(
  limits: Limits,
  report: (error: AppError, cause: unknown, response: Response) => void,
): ErrorRequestHandler {
  return (thrown: unknown, _request, response, _next) => {
    const error = toAppError(thrown, limits)
    if (STATUS_OF[error.code] >= 500) report(error, thrown, response)
    sendProblem(response, error)
  }
}

const MULTER_LIMITS: Partial<Record<string, LimitName>> = {
  LIMIT_FILE_SIZE: 'uploadBytes',
  LIMIT_PART_COUNT: 'uploadParts',
  LIMIT_FILE_COUNT: 'uploadParts',
  LIMIT_FIELD_VALUE: 'jsonBytes',
}

/** Any thrown value as an AppError, with the vocabulary of the libraries at the edge translated. */
export function toAppError(thrown: unknown, limits: Limits): AppError {
  if (thrown instanceof AppError) return thrown
  if (thrown instanceof multer.MulterError) return fromMulter(thrown, limits)
  if (!(thrown instanceof Error)) return AppError.from(thrown)
  const { type, status } = thrown as Error & { type?: unknown; status?: unknown }
  switch (type) {
    case 'entity.parse.failed':
      return new AppError('request_invalid', `The body is not valid JSON: ${thrown.message}`, { path: 'body' }, thrown)
    case 'entity.too.large':
      return new AppError(
        'body_too_large',
        `The JSON body is larger than the ${limits.jsonBytes} bytes that limit jsonBytes allows.`,
        { limit: 'jsonBytes', allowed: limits.jsonBytes, requested: (thrown as { length?: number }).length ?? null },
        thrown,
      )
    case 'charset.unsupported':
    case 'encoding.unsupported':
      return new AppError('content_type_unsupported', `${thrown.message}; send UTF-8, not encoded.`, {}, thrown)
    case 'request.aborted':
    case 'request.size.invalid':
    case 'stream.encoding.set':
      return new AppError('request_invalid', `The body ended early: ${thrown.message}`, { path: 'body' }, thrown)
  }
  if (/^(Request (aborted|closed)|aborted)$/.test(thrown.message)) {
    return new AppError('request_invalid', 'The client left before the body had ended.', { path: 'body' }, thrown)
  }
  if (status === 412) {
    return new AppError('precondition_failed', 'The file changed, or its ETag is another one.', {}, thrown)
  }
  if (status === 416) {
    return new AppError('range_not_satisfiable', 'The Range header asks for bytes beyond the end.', {}, thrown)
  }
  // busboy, the parser below multer, throws plain errors for a malformed multipart body.
  if (/^(Multipart:|Malformed |Unexpected end of (form|multipart data))/.test(thrown.message)) {
    return new AppError('request_invalid', `The multipart body is malformed: ${thrown.message}`, { path: 'body' })
  }
  if (thrown instanceof URIError || status === 400) {
    return new AppError('request_invalid', `The request cannot be read: ${thrown.message}`, { path: 'path' }, thrown)
  }
  return AppError.from(thrown)
}

function fromMulter(error: multer.MulterError, limits: Limits): AppError {
  const limit = MULTER_LIMITS[error.code]
  if (limit) {
    const size = LIMITS[limit].unit === 'bytes'
    const code = size ? 'body_too_large' : 'limit_exceeded'
    const what = error.field ? `Part "${error.field}"` : 'The multipart body'
    const allowed = limits[limit]
    return new AppError(code, `${what} goes beyond limit ${limit} (${allowed}${size ? ' bytes' : ''}).`, {
      limit,
      allowed,
      requested: null,
    })
  }
  if (error.code === 'LIMIT_UNEXPECTED_FILE') {
    return new AppError('request_invalid', `Part "${error.field}" is not one that this call takes, or comes twice.`, {
      path: error.field ?? null,
    })
  }
  return new AppError('request_invalid', `The multipart body is malformed: ${error.message}.`, {
    path: error.field ?? null,
  })
}

/** A whole HTTP/1.1 response for what Node's parser refuses before Express sees a request. */
export function rawProblem(nodeCode: string | undefined, limits: Limits, requestId: string): string {
  let error = new AppError('request_invalid', 'The bytes received are not an HTTP/1.1 request.', { path: 'request' })
  if (nodeCode === 'HPE_HEADER_OVERFLOW') {
    error = new AppError('headers_too_large', `The header lines are larger than ${limits.headerBytes} bytes.`, {
      limit: 'headerBytes',
      allowed: limits.headerBytes,
      requested: null,
    })
  } else if (nodeCode === 'ERR_HTTP_REQUEST_TIMEOUT') {
    error = new AppError('request_timeout', `The header lines took longer than ${limits.headerSeconds} seconds.`, {
      limit: 'headerSeconds',
      allowed: limits.headerSeconds,
      requested: null,
    })
  }
  const problem = problemOf(error.toObject(), '', requestId)
  const body = JSON.stringify(problem)
  return [
    `HTTP/1.1 ${problem.status} ${problem.title}`,
    `Content-Type: ${PROBLEM_TYPE}; charset=utf-8`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    'Cache-Control: no-store',
    ...Object.entries(SECURITY_HEADERS).map(([name, value]) => `${name}: ${value}`),
    'Connection: close',
    '',
    body,
  ].join('\r\n')
}
