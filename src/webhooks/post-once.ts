// One POST to a receiver, over a connection of its own to addresses that were checked before. Entry: postOnce. Redirects are
// not followed: a 3xx is an answer like any other. Of the receiver's answer only the status is used.

import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { LookupFunction } from 'node:net'
import type { Address } from './target-guard.ts'

export interface Post {
  url: URL
  addresses: readonly Address[]
  headers: Record<string, string>
  body: string
  /** From the first byte to the last of the answer. */
  signal: AbortSignal
}

/** What a polite receiver may say; more is not read. */
const MAX_ANSWER_BYTES = 16 * 1024
const MAX_ANSWER_HEADER_BYTES = 16 * 1024

/** Resolves with the status. Rejects with the errors of node:net, node:tls and node:http, and with the signal's reason. */
export function postOnce({ url, addresses, headers, body, signal }: Post): Promise<number> {
  const lookup: LookupFunction = (_hostname, options, done) => {
    const [first] = addresses
    if (options.all) done(null, [...addresses])
    else if (first !== undefined) done(null, first.address, first.family)
  }
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const request = send(url, {
    method: 'POST',
    headers: { ...headers, 'Content-Length': Buffer.byteLength(body) },
    agent: false,
    lookup,
    maxHeaderSize: MAX_ANSWER_HEADER_BYTES,
    signal,
  })
  let status: number | null = null
  // Whatever becomes of the rest of an answer, its status is known. An answer that is none, such as a switch of protocols,
  // ends without an error.
  const settle = () => {
    if (status !== null) resolve(status)
    else reject(new Error('the receiver closed the connection without an answer'))
  }
  request.once('response', (response) => {
    status = response.statusCode ?? 0
    let readBytes = 0
    response.on('data', (chunk: Buffer) => {
      readBytes += chunk.byteLength
      if (readBytes > MAX_ANSWER_BYTES) request.destroy()
    })
    response.once('close', settle)
    response.on('error', settle)
  })
  request.once('close', settle)
  request.on('error', (error) => {
    if (status === null) reject(signal.aborted ? signal.reason : error)
    else settle()
  })
  request.end(body)
  return promise
}
