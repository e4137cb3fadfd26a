// One request at a time for an upload, in the order of arrival. Entry: createUploadLocker, the Locker of @tus/server. Who
// waits asks the holder to stop: a client that reconnects must not wait for its own dead connection. The library's own lock
// does the same and spins on the event loop meanwhile.

import type { Lock, Locker, RequestRelease } from '@tus/server'
import { AppError } from '../errors.ts'

/** Beyond what a holder gets to put down what it has received. */
const WAIT_MS = 15_000

interface Entry {
  release: RequestRelease
  waiting: { enter: () => void; release: RequestRelease }[]
}

export function createUploadLocker(waitMs = WAIT_MS): Locker {
  const held = new Map<string, Entry>()

  async function lock(id: string, signal: AbortSignal, release: RequestRelease): Promise<void> {
    const entry = held.get(id)
    if (entry === undefined) {
      held.set(id, { release, waiting: [] })
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiter = { enter: resolve, release }
    const giveUp = () => {
      entry.waiting = entry.waiting.filter((other) => other !== waiter)
      reject(new AppError('conflict', `Another request writes upload ${id}; try again.`, { upload: id }))
    }
    entry.waiting.push(waiter)
    const timer = setTimeout(giveUp, waitMs)
    signal.addEventListener('abort', giveUp, { once: true })
    try {
      await entry.release()
      await promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', giveUp)
    }
  }

  function unlock(id: string): void {
    const entry = held.get(id)
    const next = entry?.waiting.shift()
    if (entry === undefined || next === undefined) {
      held.delete(id)
      return
    }
    entry.release = next.release
    next.enter()
    // Somebody waits behind it already.
    if (entry.waiting.length > 0) void next.release()
  }

  return {
    newLock: (id): Lock => ({
      lock: (signal, release) => lock(id, signal, release),
      unlock: async () => unlock(id),
    }),
  }
}
