// The exit codes of the command line: a contract with scripts. docs/cli.md shows this table (proven equal by a test).

import { type AppError, ERROR_CODES, type ErrorCode } from '../errors.ts'

export const EXIT_CODES = {
  0: 'done',
  1: 'the machine or Tensorpress failed: no device, a child died, the disk is full, a bug',
  2: 'the command line, the recipe or the requirement could not be understood, or asks for what is not supported',
  3: 'the file or the data is bad: not found, not a model, malformed, outside of what is supported',
  4: 'a requirement is not met, or the artifact failed validation',
  130: 'interrupted by Ctrl-C',
  143: 'ended by SIGTERM',
} as const

export type ExitCode = keyof typeof EXIT_CODES

/** Codes whose exit status differs from that of their kind. */
const BY_CODE: Partial<Record<ErrorCode, ExitCode>> = {
  dataset_invalid: 3,
  feature_unsupported: 2,
  disk_full: 1,
  store_quota_exceeded: 1,
  gpu_memory_exceeded: 1,
  queue_full: 1,
  too_many_requests: 1,
  too_many_jobs: 1,
  stage_timeout: 1,
  // An output that exists and may not be overwritten.
  conflict: 2,
}

export function exitCodeOf(error: AppError): ExitCode {
  // An original that onnxruntime refuses is a bad file; only an artifact that it refuses failed.
  if (error.code === 'validation_failed' && error.context['model'] === 'original') return 3
  const special = BY_CODE[error.code]
  if (special !== undefined) return special
  switch (ERROR_CODES[error.code].kind) {
    case 'invalid_request':
    case 'access':
    case 'conflict':
      return 2
    case 'not_found':
    case 'format':
    case 'unsupported':
    case 'capacity':
      return 3
    case 'unprocessable':
      return 4
    case 'cancelled':
      return 130
    case 'device':
    case 'unavailable':
    case 'internal':
      return 1
  }
}
