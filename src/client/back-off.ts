// Waiting between attempts: twice as long each time up to ten seconds, with jitter, until nothing has got on for a given time.
// Entry: BackOff; `progress()` starts it anew.

import { ConnectionError, mayRetry, TensorpressError } from './client-error.ts'

const FIRST_MS = 250
const LONGEST_MS = 10_000

export class BackOff {
  readonly #giveUpMs: number
  readonly #signal: AbortSignal | undefined
  #lastProgressMs = Date.now()
  #attempts = 0

  constructor(giveUpMs: number, signal?: AbortSignal) {
    this.#giveUpMs = giveUpMs
    this.#signal = signal
  }

  /** Something got on: patience is whole again. */
  progress(): void {
    this.#lastProgressMs = Date.now()
    this.#attempts = 0
  }

  /** Waits before another attempt; throws `error` when it is final or patience has run out, and what aborted the signal. */
  async wait(error: unknown): Promise<void> {
    this.#signal?.throwIfAborted()
    if (!mayRetry(error)) throw error
    const told = error instanceof TensorpressError || error instanceof ConnectionError
    const asked = told ? (error.retryAfterSeconds ?? 0) * 1000 : 0
    const grown = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#attempts++)
    const waitMs = Math.max(asked, grown * (0.5 + Math.random() / 2))
    if (Date.now() - this.#lastProgressMs + waitMs > this.#giveUpMs) throw error
    await pause(waitMs, this.#signal)
  }
}

/** Throws what aborted the signal. */
export async function pause(waitMs: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const onAbort = () => resolve()
  const timer = setTimeout(onAbort, waitMs)
  signal?.addEventListener('abort', onAbort, { once: true })
  await promise
  clearTimeout(timer)
  // The signal lives as long as the whole transfer, which may wait thousands of times.
  signal?.removeEventListener('abort', onAbort)
  signal?.throwIfAborted()
}
