// The time by which things expire: the wall clock, unless it was just moved. A clock that a time server sets a day ahead by mistake
// would otherwise expire everything at once. Entry: createAgeClock.

import type { ServiceLog } from './service.ts'

export interface AgeClock {
  /** Milliseconds since the epoch, never ahead of the wall clock. Ask regularly: a step is seen as the change since the last call. */
  nowMs(): number
}

/** Corrections by a time server are smaller; what is larger is a step. */
const STEP_MS = 300_000
/** How long a stepped clock must stay where it is before ages are counted by it: time for somebody to put it right. */
const HOLD_MS = 3_600_000

export interface Clocks {
  wallMs(): number
  monotonicMs(): number
}

const SYSTEM: Clocks = { wallMs: () => Date.now(), monotonicMs: () => performance.now() }

export function createAgeClock(log: ServiceLog, clocks: Clocks = SYSTEM): AgeClock {
  let trustedOffset = clocks.wallMs() - clocks.monotonicMs()
  let stepped: { offset: number; sinceMs: number } | null = null
  return {
    nowMs() {
      const monotonic = clocks.monotonicMs()
      const wall = clocks.wallMs()
      const offset = wall - monotonic
      if (Math.abs(offset - trustedOffset) <= STEP_MS) {
        trustedOffset = offset
        stepped = null
      } else if (stepped === null || Math.abs(offset - stepped.offset) > STEP_MS) {
        stepped = { offset, sinceMs: monotonic }
        const seconds = Math.round((offset - trustedOffset) / 1000)
        log.warn(
          { seconds, hold_seconds: HOLD_MS / 1000 },
          'the wall clock was moved; nothing expires by it for a while',
        )
      } else if (monotonic - stepped.sinceMs >= HOLD_MS) {
        trustedOffset = offset
        stepped = null
      }
      return Math.min(wall, monotonic + trustedOffset)
    },
  }
}
