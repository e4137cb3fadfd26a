// The cap of the store: whoever is about to store bytes reserves them first. Entry: createStoreQuota. What lies there and
// what is reserved never go beyond the cap together; where they would, unused things are evicted, or the request is refused.

import { AppError } from '../errors.ts'
import type { Catalog } from './catalog.ts'
import { createKeyedLock } from './keyed-lock.ts'
import { totalBytes } from './retention.ts'

export interface Reservation {
  /** Reserves up to `bytes` in all. Throws store_quota_exceeded and keeps what it has. */
  growTo(bytes: number): Promise<void>
  /** What was stored is counted by its row now, or was not stored. Safe to call again. */
  release(): void
}

export interface StoreQuota {
  readonly storeBytes: number | null
  open(): Reservation
}

/** Evicting may fall short where something was used meanwhile: then once more. */
const MAKE_ROOM_TRIES = 3

/** What can make room: garbage-collector.ts. */
export interface RoomMaker {
  /** false: not enough may go, and nothing was evicted. */
  makeRoom(bytes: number, nowMs: number): Promise<boolean>
}

/** @param storeBytes null: no cap, every reservation is granted. */
export function createStoreQuota(storeBytes: number | null, catalog: Catalog, collector: RoomMaker): StoreQuota {
  /** One decision at a time, or two would count on the same free bytes. */
  const oneAtATime = createKeyedLock()
  let reservedBytes = 0

  async function requireRoom(cap: number, moreBytes: number, askedBytes: number): Promise<void> {
    for (let tries = 0; ; tries++) {
      const stored = totalBytes(await catalog.usage())
      const missing = stored + reservedBytes + moreBytes - cap
      if (missing <= 0) return
      const worthTrying = askedBytes <= cap && tries < MAKE_ROOM_TRIES
      if (worthTrying && (await collector.makeRoom(missing, Date.now()))) continue
      throw new AppError(
        'store_quota_exceeded',
        `${askedBytes} bytes are to be stored; the cap storeBytes is ${cap}, of which ${stored} are taken and ` +
          `${reservedBytes} promised, and not enough of that is unused. Delete what is not needed, or raise the cap.`,
        { limit: 'storeBytes', allowed: cap, requested: askedBytes, stored, promised: reservedBytes },
      )
    }
  }

  return {
    storeBytes,
    open() {
      let held = 0
      let open = true
      return {
        growTo: (bytes) =>
          oneAtATime('quota', async () => {
            const more = bytes - held
            if (more <= 0 || storeBytes === null || !open) return
            await requireRoom(storeBytes, more, bytes)
            if (!open) return
            held = bytes
            reservedBytes += more
          }),
        release() {
          if (!open) return
          open = false
          reservedBytes -= held
        },
      }
    },
  }
}
