// The body of an answer in pieces, ended when it falls silent. Entry: bodyOf.

import { ConnectionError } from './client-error.ts'

/** Throws ConnectionError for a broken or silent connection, and what aborted the signal. */
export async function* bodyOf(
  response: Response,
  silenceMs: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void> {
  if (response.body === null) return
  const reader = response.body.getReader()
  let ended = false
  try {
    for (;;) {
      const { done, value } = await unlessSilent(() => reader.read(), silenceMs)
      ended = done
      if (done) return
      yield value
    }
  } catch (error) {
    signal?.throwIfAborted()
    if (error instanceof ConnectionError) throw error
    throw new ConnectionError('the answer broke off', null, error)
  } finally {
    if (!ended) await reader.cancel().catch(() => {})
  }
}

async function unlessSilent<T>(read: () => Promise<T>, silenceMs: number): Promise<T> {
  const silence = Promise.withResolvers<never>()
  const timer = setTimeout(() => silence.reject(new ConnectionError('the connection fell silent')), silenceMs)
  try {
    return await Promise.race([read(), silence.promise])
  } finally {
    clearTimeout(timer)
  }
}
