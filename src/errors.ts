// The only error vocabulary of Tensorpress. Kinds are split by who can act; codes are stable snake_case and listed in
// docs/errors.md (proven equal by test/architecture). Every error says what was found, what is allowed, where, and what to do.

/** One row per code: which kind raises it and what it means. `docs/errors.md` is generated from this table. */
export const ERROR_CODES = {
  // the request is wrong
  request_invalid: {
    kind: 'invalid_request',
    summary: 'A field of the request is missing, unknown or out of range; `context.path` names it.',
  },
  recipe_invalid: {
    kind: 'invalid_request',
    summary: 'The recipe has an unknown key or a value out of range; `context.path` names it.',
  },
  dataset_invalid: {
    kind: 'invalid_request',
    summary:
      'The dataset is not a readable .npz or does not match the model inputs; expected names, shapes and dtypes are listed.',
  },
  content_type_unsupported: {
    kind: 'invalid_request',
    summary: 'The request body has a media type that this call does not take.',
  },
  method_not_allowed: {
    kind: 'invalid_request',
    summary: 'The path exists and does not take this method; `context.allowed` lists those it takes.',
  },
  origin_forbidden: {
    kind: 'invalid_request',
    summary: 'A web page of another site sent this, or the Host header is not one of this server.',
  },
  range_not_satisfiable: {
    kind: 'invalid_request',
    summary: 'The Range header asks for bytes beyond the end of the file.',
  },
  precondition_failed: {
    kind: 'invalid_request',
    summary: 'The If-Match or If-Unmodified-Since header does not hold.',
  },
  request_timeout: {
    kind: 'invalid_request',
    summary: 'The request arrived too slowly; `context` has the limit.',
  },
  usage: { kind: 'invalid_request', summary: 'The command line could not be understood.' },
  idempotency_key_reused: {
    kind: 'invalid_request',
    summary: 'The Idempotency-Key was used before with another body.',
  },
  // who is asking
  unauthorized: {
    kind: 'access',
    summary:
      'The call needs an API key, and none was sent or the one sent is not known; `context.scope` names what it needs.',
  },
  forbidden: {
    kind: 'access',
    summary: 'The API key is known and lacks the scope in `context.scope`, or the job belongs to another key.',
  },
  webhook_target_forbidden: {
    kind: 'invalid_request',
    summary:
      'The webhook goes to a private, local or reserved address, or over plain http, and the operator allows neither.',
  },
  // it is not there, or not in a state that allows it
  not_found: { kind: 'not_found', summary: 'No such model, dataset, job, artifact, tensor or route.' },
  artifact_expired: {
    kind: 'not_found',
    summary: 'The job made an artifact that retention has removed since; its report is still there.',
  },
  conflict: {
    kind: 'conflict',
    summary: 'The state of the resource does not allow this call (in use, not finished, already exists).',
  },
  // the bytes are wrong
  format_unrecognised: {
    kind: 'format',
    summary: 'The file is not a model format that Tensorpress reads; the detail says what it looks like.',
  },
  format_truncated: { kind: 'format', summary: 'The file ends before the bytes that it declares.' },
  format_invalid: { kind: 'format', summary: 'The file breaks its format; file, tensor and byte offset are named.' },
  external_data_invalid: {
    kind: 'format',
    summary: 'External data is missing, out of range, or its path leaves the model folder.',
  },
  checksum_mismatch: {
    kind: 'format',
    summary: 'The uploaded bytes do not hash to the SHA-256 that the client announced; nothing was kept.',
  },
  // the bytes are right and outside of what is supported
  dtype_unsupported: { kind: 'unsupported', summary: 'A dtype outside of the supported set, named.' },
  opset_unsupported: {
    kind: 'unsupported',
    summary: 'An ONNX opset or ir_version outside of the supported range, named.',
  },
  feature_unsupported: {
    kind: 'unsupported',
    summary: 'A well-formed request for a combination that is not supported, named.',
  },
  // a named limit was met
  limit_exceeded: {
    kind: 'capacity',
    summary: 'A named limit was exceeded; `context` has limit, allowed and requested.',
  },
  body_too_large: { kind: 'capacity', summary: 'The upload is larger than the limit in `context`.' },
  headers_too_large: { kind: 'capacity', summary: 'The header lines are larger than the limit in `context`.' },
  too_many_requests: {
    kind: 'capacity',
    summary: 'The API key, or all callers without one, have as many requests in work as the limit allows.',
  },
  too_many_uploads: {
    kind: 'capacity',
    summary: 'As many uploads as the limit allows are in progress; try again later.',
  },
  queue_full: {
    kind: 'capacity',
    summary: 'The queue already holds as many jobs as its limit allows; try again later.',
  },
  too_many_jobs: {
    kind: 'capacity',
    summary: 'The API key has as many jobs waiting or running as its limit allows; try again when one has ended.',
  },
  stage_timeout: {
    kind: 'capacity',
    summary: 'The job was longer in one stage than its limit allows; `context` has stage and limit.',
  },
  disk_full: { kind: 'capacity', summary: 'The store has too little free space for this.' },
  store_quota_exceeded: {
    kind: 'capacity',
    summary: 'The store is at its cap `storeBytes`, and not enough of what lies there is unused and may expire.',
  },
  gpu_memory_exceeded: { kind: 'capacity', summary: 'The byte budget of the device does not hold this tensor.' },
  // the machine
  device_unavailable: { kind: 'device', summary: 'The requested adapter is not there, or no adapter is.' },
  device_lost: { kind: 'device', summary: 'The device was lost during work.' },
  worker_crashed: {
    kind: 'device',
    summary: 'A worker child ended during the job as often as the attempt limit allows.',
  },
  worker_timeout: { kind: 'device', summary: 'A worker child made no progress for longer than its limit.' },
  store_failed: { kind: 'device', summary: 'The store could not be read or written.' },
  // outcomes
  validation_failed: {
    kind: 'unprocessable',
    summary: 'The artifact did not load or run in onnxruntime, or differs after reading back.',
  },
  requirement_not_met: {
    kind: 'unprocessable',
    summary: 'The artifact does not meet `require`; the report says by how much.',
  },
  cancelled: { kind: 'cancelled', summary: 'The job was cancelled.' },
  overloaded: {
    kind: 'unavailable',
    summary: 'As many requests as the limit allows are in work; try again in a moment.',
  },
  server_unreachable: {
    kind: 'unavailable',
    summary: 'The command line could not reach the server of --server, or what answers there is no Tensorpress.',
  },
  shutting_down: { kind: 'unavailable', summary: 'The server is draining and takes no new jobs.' },
  internal: { kind: 'internal', summary: 'A bug in Tensorpress; the log has the whole error under the request id.' },
} as const satisfies Record<string, { kind: ErrorKind; summary: string }>

export type ErrorKind =
  | 'invalid_request'
  | 'access'
  | 'not_found'
  | 'conflict'
  | 'format'
  | 'unsupported'
  | 'capacity'
  | 'device'
  | 'unprocessable'
  | 'cancelled'
  | 'unavailable'
  | 'internal'

export type ErrorCode = keyof typeof ERROR_CODES

/** The plain-data form: the same object in HTTP problems, in `job.error`, and over IPC. */
export interface ErrorObject {
  code: ErrorCode
  detail: string
  context: Record<string, unknown>
}

/** Refusals go to clients, into logs and over IPC, and quote what was found: a hostile name must not make them large. */
const MAX_DETAIL_CHARACTERS = 2000
const MAX_CONTEXT_CHARACTERS = 500
const MAX_CONTEXT_ITEMS = 100
const MAX_CONTEXT_DEPTH = 8

/** The ends of a long text, with what was left out in between. */
function clipText(text: string, most: number): string {
  if (text.length <= most) return text
  const half = Math.floor(most / 2) - 20
  return `${text.slice(0, half)} [... ${text.length - 2 * half} characters ...] ${text.slice(-half)}`
}

function clipValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return clipText(value, MAX_CONTEXT_CHARACTERS)
  if (Array.isArray(value)) return value.slice(0, MAX_CONTEXT_ITEMS).map((item) => clipValue(item, depth + 1))
  if (typeof value !== 'object' || value === null || depth > MAX_CONTEXT_DEPTH) return value
  const entries = Object.entries(value).slice(0, MAX_CONTEXT_ITEMS)
  return Object.fromEntries(
    entries.map(([key, item]) => [clipText(key, MAX_CONTEXT_CHARACTERS), clipValue(item, depth + 1)]),
  )
}

export class AppError extends Error {
  readonly code: ErrorCode
  readonly detail: string
  readonly context: Record<string, unknown>

  constructor(code: ErrorCode, detail: string, context: Record<string, unknown> = {}, cause?: unknown) {
    const clipped = clipText(detail, MAX_DETAIL_CHARACTERS)
    super(`${code}: ${clipped}`, cause === undefined ? undefined : { cause })
    this.name = 'AppError'
    this.code = code
    this.detail = clipped
    this.context = clipValue(context, 0) as Record<string, unknown>
  }

  get kind(): ErrorKind {
    return ERROR_CODES[this.code].kind
  }

  toObject(): ErrorObject {
    return { code: this.code, detail: this.detail, context: this.context }
  }

  static fromObject(object: ErrorObject): AppError {
    return new AppError(object.code in ERROR_CODES ? object.code : 'internal', object.detail, object.context)
  }

  /** Any thrown value as an AppError; what is not one is `internal`. */
  static from(error: unknown): AppError {
    if (error instanceof AppError) return error
    return new AppError('internal', error instanceof Error ? error.message : String(error), {}, error)
  }
}
