// A file of an artifact as pieces, going on with Range after a broken connection. Entry: downloadFile. If-Match makes sure that
// the rest is the rest of the same file; who needs certainty about every byte compares the SHA-256 that the list names.

import { BackOff } from './back-off.ts'
import { bodyOf } from './body.ts'
import { ConnectionError } from './client-error.ts'
import type { Http } from './http.ts'

export interface DownloadSource {
  /** Path from /v1 on. */
  url: string
  sizeBytes: number
  sha256: string
}

/** A connection without a byte for this long is dead. */
const SILENCE_MS = 60_000

/** Throws TensorpressError, ConnectionError. */
export async function* downloadFile(
  http: Http,
  source: DownloadSource,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const backOff = new BackOff(http.retryMs, signal)
  let offset = 0
  while (offset < source.sizeBytes) {
    try {
      const response = await http.send({
        method: 'GET',
        path: source.url,
        headers: offset === 0 ? {} : { Range: `bytes=${offset}-`, 'If-Match': `"${source.sha256}"` },
        signal,
      })
      if (offset > 0 && response.status !== 206) throw new ConnectionError('the server ignored Range', response.status)
      for await (const piece of bodyOf(response, SILENCE_MS, signal)) {
        offset += piece.byteLength
        backOff.progress()
        yield piece
      }
      if (offset < source.sizeBytes) throw new ConnectionError('the download broke off')
    } catch (error) {
      await backOff.wait(error)
    }
  }
}
