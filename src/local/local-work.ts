// What every piece of work without a server needs. Entry: localWork().

import { AppError } from '../errors.ts'

const OFTEN_ENOUGH_MS = 60_000

/**
 * Runs `work`; the process does not end by itself meanwhile (children and their timers do not keep it alive). When `signal` ended
 * the work for a reason that is no AppError, the promise rejects with `cancelled` and that reason as its cause.
 */
export async function localWork<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const alive = setInterval(() => {}, OFTEN_ENOUGH_MS)
  try {
    return await work()
  } catch (error) {
    if (!signal?.aborted || signal.reason instanceof AppError) throw error
    throw new AppError('cancelled', 'the work was cancelled; nothing was written', {}, signal.reason)
  } finally {
    clearInterval(alive)
  }
}
