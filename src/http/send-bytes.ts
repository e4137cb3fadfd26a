// Sends a body that is in memory, in pieces as the client takes them: the watch on slow readers (slow-clients.ts) sees progress by
// the piece, and a large one as a whole would look like a client that takes nothing. Entry: sendBytes. Files go out in such pieces
// anyway.

import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Response } from 'express'

const PIECE_BYTES = 64 * 1024

/** The media type is set already. */
export function sendBytes(response: Response, body: Buffer): void {
  response.set('Content-Length', String(body.byteLength))
  if (response.req.method === 'HEAD') {
    response.end()
    return
  }
  if (body.byteLength <= PIECE_BYTES) {
    response.end(body)
    return
  }
  // A client that leaves early is in the log as one; there is nobody to tell.
  pipeline(Readable.from(pieces(body)), response).catch(() => response.destroy())
}

function* pieces(body: Buffer): Generator<Buffer> {
  for (let start = 0; start < body.byteLength; start += PIECE_BYTES) yield body.subarray(start, start + PIECE_BYTES)
}
