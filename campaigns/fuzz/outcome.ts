// What a case came to: taken, refused in the way that is promised, or a finding. Entry: judge.

import { AppError, ERROR_CODES } from '../../src/errors.ts'

export interface Finding {
  kind: 'crash' | 'hang' | 'memory' | 'handles'
  /** Equal for cases that fail in the same way. */
  signature: string
  detail: string
}

export type Outcome =
  /** `taken`: the reader accepted the input; otherwise it refused it as it should. */
  { kind: 'right'; taken: boolean; label: string; signature: string } | { kind: 'finding'; finding: Finding }

/** Refusals go to clients and into logs: a hostile name must not make them large. */
export const MAX_DETAIL_CHARACTERS = 4096
export const MAX_CONTEXT_CHARACTERS = 64 * 1024

/** `thrown`: what a case threw. The bytes are at fault, so that neither a bug nor the machine may be blamed. */
export function judge(thrown: unknown): Outcome {
  if (!(thrown instanceof AppError)) return crash('no AppError', thrown)
  if (!Object.hasOwn(ERROR_CODES, thrown.code)) return crash('an AppError with an undocumented code', thrown)
  if (thrown.kind === 'internal' || thrown.kind === 'device') return crash(`an AppError of kind ${thrown.kind}`, thrown)
  if (thrown.detail.length > MAX_DETAIL_CHARACTERS)
    return crash(`a detail of ${thrown.detail.length} characters`, thrown)
  const context = JSON.stringify(thrown.context)
  if (context.length > MAX_CONTEXT_CHARACTERS) return crash(`a context of ${context.length} characters`, thrown)
  return { kind: 'right', taken: false, label: thrown.code, signature: `${thrown.code} ${shapeOf(thrown.detail)}` }
}

/** The sentence without the names and numbers of the case. */
export function shapeOf(text: string): string {
  return text
    .slice(0, 400)
    .replaceAll(/"[^"]*"|'[^']*'/g, '""')
    .replaceAll(/\d+/g, '#')
}

function crash(what: string, thrown: unknown): Outcome {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  const stack = error.stack ?? error.message
  const frames = stack.split('\n').filter((line) => /^\s+at /.test(line))
  const place = frames.find((line) => /\/(src|campaigns|test)\//.test(line)) ?? frames[0] ?? ''
  const where = place.replace(/^.*\/((?:src|campaigns|test)\/[^)]*)\)?$/, '$1').trim()
  const name = `${error.name}: ${shapeOf(error.message)}`.slice(0, 200)
  const kind = what.replaceAll(/\d+/g, '#')
  return {
    kind: 'finding',
    finding: { kind: 'crash', signature: `${kind}; ${name}; ${where}`, detail: `${what}\n${stack.slice(0, 3000)}` },
  }
}
