// Looks at expiry again and again while a server runs, each time after a pause that is a fifth longer or shorter than asked
// for. Entry: startExpirySweeps. A sweep that fails is logged, and the next one tries again.

import { AppError } from '../errors.ts'
import type { GarbageCollector } from '../store/garbage-collector.ts'
import type { AgeClock } from './age-clock.ts'
import type { ServiceLog } from './service.ts'

export interface ExpirySweeps {
  /** No new sweep begins; the one in work is awaited. */
  stop(): Promise<void>
}

const JITTER = 0.2
/** A server that is restarted often still sweeps. */
const FIRST_SWEEP_MS = 60_000

/** @param random from 0 to 1; for tests. */
export function startExpirySweeps(
  collector: Pick<GarbageCollector, 'collect'>,
  everyMs: number,
  log: ServiceLog,
  clock: AgeClock,
  random: () => number = Math.random,
): ExpirySweeps {
  let timer: NodeJS.Timeout
  let sweeping: Promise<void> = Promise.resolve()
  let stopped = false

  function plan(pauseMs: number): void {
    timer = setTimeout(
      () => {
        sweeping = sweep().finally(() => {
          if (!stopped) plan(everyMs)
        })
      },
      pauseMs * (1 - JITTER + 2 * JITTER * random()),
    )
    timer.unref()
  }

  async function sweep(): Promise<void> {
    try {
      const gone = await collector.collect(clock.nowMs())
      const bytes = gone.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
      if (gone.length > 0) log.info({ items: gone.length, bytes }, 'expired items were removed')
    } catch (error) {
      log.error({ error: AppError.from(error).detail }, 'expiry failed; it is tried again with the next sweep')
    }
  }

  plan(Math.min(everyMs, FIRST_SWEEP_MS))
  return {
    async stop() {
      stopped = true
      clearTimeout(timer)
      await sweeping
    },
  }
}
