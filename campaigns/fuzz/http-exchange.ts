// One HTTP request as bytes over a connection of its own, and the judgement of what comes back: exchange, judgeResponse.
// A server that waits for more than it is given (a length that lies) sees the client leave.

import { connect } from 'node:net'
import { AppError, ERROR_CODES, type ErrorCode } from '../../src/errors.ts'

export interface Answer {
  status: number
  headers: Record<string, string>
  body: string
}

const MAX_ANSWER_BYTES = 4 * 1024 * 1024

/**
 * Resolves with the final response; null when the server closed the connection without one. `patienceMs`: how long the client
 * stays without an answer; `isHead`: the answer has no body, whatever it says of its length.
 */
export function exchange(
  port: number,
  head: Uint8Array,
  body: Uint8Array,
  patienceMs: number,
  isHead = false,
): Promise<Answer | null> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    let received: Buffer = Buffer.alloc(0)
    const leave = setTimeout(() => socket.end(), patienceMs)
    const finish = (answer: Answer | null) => {
      clearTimeout(leave)
      socket.destroy()
      resolve(answer)
    }
    const answered = () => {
      const answer = parseAnswer(received, isHead)
      if (answer) finish(answer)
    }
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      if (received.length > MAX_ANSWER_BYTES) reject(new Error(`an answer of more than ${MAX_ANSWER_BYTES} bytes`))
      else answered()
    })
    // The server may close while the client still sends: what it answered before that counts.
    socket.on('error', () => finish(parseAnswer(received, isHead)))
    socket.on('end', () => finish(parseAnswer(received, isHead)))
    socket.write(head)
    socket.write(body)
  })
}

/** The first final response in these bytes; null while it is not whole. */
function parseAnswer(bytes: Buffer, isHead: boolean): Answer | null {
  const end = bytes.indexOf('\r\n\r\n')
  if (end < 0) return null
  const [first = '', ...lines] = bytes.toString('latin1', 0, end).split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(first)?.[1])
  if (!Number.isInteger(status)) throw new Error(`no HTTP response: ${first.slice(0, 100)}`)
  const rest = bytes.subarray(end + 4)
  if (status < 200) return parseAnswer(rest, isHead)
  const headers = Object.fromEntries(
    lines.map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
    }),
  )
  const body = isHead || status === 204 || status === 304 ? rest.subarray(0, 0) : bodyOf(headers, rest)
  return body && { status, headers, body: body.toString() }
}

function bodyOf(headers: Record<string, string>, rest: Buffer): Buffer | null {
  if (headers['transfer-encoding'] === 'chunked') return rest.includes('0\r\n\r\n') ? rest : null
  const length = Number(headers['content-length'] ?? 0)
  return rest.length >= length ? rest.subarray(0, length) : null
}

/** A word for a good answer; a refusal is thrown as the AppError that it describes; anything else is an Error. */
export function judgeAnswer(answer: Answer | null, isHead = false): string {
  if (answer === null) return 'no answer'
  const { status, headers, body } = answer
  if (status < 400) return String(status)
  if (status >= 500) throw new Error(`status ${status}: ${body.slice(0, 500)}`)
  if (isHead) return String(status)
  if (!headers['content-type']?.startsWith('application/problem+json')) {
    throw new Error(`status ${status} with content type ${headers['content-type']}: ${body.slice(0, 200)}`)
  }
  const problem = JSON.parse(body) as {
    code: ErrorCode
    status: number
    detail: string
    context: Record<string, unknown>
  }
  if (problem.status !== status) throw new Error(`status ${status} with a problem of status ${problem.status}`)
  if (!Object.hasOwn(ERROR_CODES, problem.code)) throw new Error(`a problem with the code ${problem.code}`)
  throw new AppError(problem.code, problem.detail, problem.context)
}
