// Delivers webhooks of ended jobs: durable rows, a few at once, again after a growing pause, given up after so many attempts.
// Entry: createDeliveryQueue. A row is taken with a lease, so an attempt that dies with its process is made again; receivers
// see each event at least once, always under the same event id.

import { AppError } from '../errors.ts'
import type { DeliveryOutcome, DeliveryRecord, WebhookRows } from '../store/webhook-catalog.ts'
import { postOnce } from './post-once.ts'
import { SIGNATURE_HEADER, signDelivery } from './signature.ts'
import type { TargetGuard } from './target-guard.ts'

/** delivered: the receiver answered 2xx; refused: any other answer. */
export type AttemptOutcome = 'delivered' | 'refused' | 'unreachable' | 'timeout' | 'forbidden' | 'failed'

export interface WebhookSettings {
  /** Attempts before a delivery is given up. */
  attempts: number
  timeoutMs: number
  parallel: number
  /** Before the second attempt at most this; the bound doubles with every further one. */
  firstPauseMs: number
  longestPauseMs: number
}

export interface DeliveryParts {
  catalog: WebhookRows
  guard: TargetGuard
  settings: WebhookSettings
  userAgent: string
  /** What is sent, as JSON text; null: the job is gone. */
  bodyOf(delivery: DeliveryRecord): Promise<string | null>
  /** Throws when it cannot be opened. */
  urlOf(delivery: DeliveryRecord): Promise<string>
  /** Throws when there is none. */
  secretOf(delivery: DeliveryRecord): Promise<string>
  log: { info(fields: object, message: string): void; warn(fields: object, message: string): void }
  onAttempt?: (outcome: AttemptOutcome) => void
  /** From 0 to 1; for tests. */
  random?: () => number
  /** For tests. */
  nowMs?: () => number
}

export interface DeliveryQueue {
  start(): void
  /** A delivery may be due. */
  wake(): void
  /** Attempts in work get `graceMs`; those that are cut do not count and are made by the next server. */
  close(graceMs: number): Promise<void>
}

/** One receiver that hangs must not hold up all others. */
const PER_ORIGIN = 2
/** Beyond the time limit of an attempt: what writing its outcome may take. */
const LEASE_SPARE_MS = 20_000
const LONGEST_SLEEP_MS = 60_000
/** Pause before a catalogue that failed (disk full) is asked again. */
const STORE_RETRY_MS = 5000
const MAX_ERROR_CHARACTERS = 300

/**
 * What is due goes by this clock: the wall clock at the start of the process, and from there on the monotonic one. A wall clock
 * that is moved back would hold up every retry, one that is moved ahead would make them all due at once.
 */
const processClock = () => performance.timeOrigin + performance.now()

export function createDeliveryQueue(parts: DeliveryParts): DeliveryQueue {
  const { catalog, guard, settings, log } = parts
  const random = parts.random ?? Math.random
  const nowMs = parts.nowMs ?? processClock
  const inWork = new Set<{ origin: string; settled: Promise<void> }>()
  const closing = new AbortController()
  let started = false
  let filling: Promise<void> | null = null
  let again = false
  let timer: NodeJS.Timeout | undefined

  const iso = (ms: number) => new Date(ms).toISOString()

  /** No pause is longer: a later time was written by a process whose clock was ahead. */
  async function bringForward(): Promise<void> {
    const pauseMs = Math.max(settings.longestPauseMs, settings.timeoutMs + LEASE_SPARE_MS)
    const webhooks = await catalog.bringForward(iso(nowMs() + pauseMs))
    if (webhooks > 0)
      log.warn({ webhooks }, 'the wall clock was moved back; webhooks that it would have held up are due sooner')
  }

  function wake(): void {
    if (!started || closing.signal.aborted) return
    again = true
    filling ??= fill()
      .catch((error: unknown) => {
        log.warn({ error: AppError.from(error).detail }, 'webhooks could not be looked for; trying again')
        again = false
        sleepFor(STORE_RETRY_MS)
      })
      .finally(() => {
        filling = null
        if (again) wake()
      })
  }

  /** Takes what is due while there are hands free, then sleeps until the next is. */
  async function fill(): Promise<void> {
    while (again && !closing.signal.aborted) {
      again = false
      while (inWork.size < settings.parallel) {
        const now = nowMs()
        const leaseUntil = iso(now + settings.timeoutMs + LEASE_SPARE_MS)
        const times = { dueBy: iso(now), leaseUntil, at: iso(Date.now()) }
        const delivery = await catalog.claimDelivery(times, busyOrigins())
        if (delivery === null) break
        const work = { origin: delivery.origin, settled: Promise.resolve() }
        inWork.add(work)
        work.settled = attempt(delivery).finally(() => {
          inWork.delete(work)
          wake()
        })
      }
      const next = await catalog.nextDelivery()
      // While every hand is busy, or the origin of what is due is, the end of an attempt wakes.
      if (next !== null && inWork.size < settings.parallel) {
        const dueMs = next.dueAt === null ? 0 : Date.parse(next.dueAt) - nowMs()
        sleepFor(Math.max(inWork.size > 0 ? 1000 : 0, dueMs))
      }
    }
  }

  function sleepFor(ms: number): void {
    clearTimeout(timer)
    timer = setTimeout(wake, Math.min(ms, LONGEST_SLEEP_MS))
    timer.unref()
  }

  function busyOrigins(): string[] {
    const origins = [...inWork].map(({ origin }) => origin)
    return [...new Set(origins)].filter((origin) => origins.filter((other) => other === origin).length >= PER_ORIGIN)
  }

  async function attempt(delivery: DeliveryRecord): Promise<void> {
    const { status, outcome, error } = await send(delivery)
    const fields = {
      job_id: delivery.jobId,
      event: delivery.eventId,
      origin: delivery.origin,
      attempt: delivery.attempts,
    }
    if (outcome === 'interrupted') {
      await settle(delivery, { state: 'pending', status: null, error: null, at: null, uncounted: true })
      return
    }
    parts.onAttempt?.(outcome)
    if (outcome === 'delivered') {
      log.info({ ...fields, status }, 'webhook delivered')
      await settle(delivery, { state: 'delivered', status, error: null, at: iso(Date.now()) })
    } else if (delivery.attempts >= settings.attempts) {
      log.warn({ ...fields, status, error }, 'webhook given up')
      await settle(delivery, { state: 'dead', status, error, at: iso(Date.now()) })
    } else {
      const bound = Math.min(settings.longestPauseMs, settings.firstPauseMs * 2 ** (delivery.attempts - 1))
      const at = iso(nowMs() + random() * bound)
      log.info({ ...fields, status, error, next_attempt_at: at }, 'webhook failed')
      await settle(delivery, { state: 'pending', status, error, at })
    }
  }

  /** A row that cannot be written stays leased, and the attempt is made again. */
  async function settle(delivery: DeliveryRecord, outcome: DeliveryOutcome): Promise<void> {
    await catalog.settleDelivery(delivery.jobId, delivery.attempts, outcome).catch((error: unknown) => {
      log.warn({ job_id: delivery.jobId, error: AppError.from(error).detail }, 'the outcome of a webhook was not noted')
    })
  }

  async function send(
    delivery: DeliveryRecord,
  ): Promise<{ outcome: AttemptOutcome | 'interrupted'; status: number | null; error: string | null }> {
    const timeout = AbortSignal.timeout(settings.timeoutMs)
    const signal = AbortSignal.any([timeout, closing.signal])
    try {
      const url = guard.checkUrl(await parts.urlOf(delivery))
      const [secret, body] = await Promise.all([parts.secretOf(delivery), parts.bodyOf(delivery)])
      if (body === null) throw new AppError('not_found', 'The job is gone.')
      const addresses = await abortable(guard.addressesOf(url), signal)
      const headers = {
        'Content-Type': 'application/json',
        'User-Agent': parts.userAgent,
        'Tensorpress-Event': delivery.eventId,
        'Tensorpress-Attempt': String(delivery.attempts),
        [SIGNATURE_HEADER]: signDelivery(secret, body, Math.floor(Date.now() / 1000)),
      }
      const status = await postOnce({ url, addresses, headers, body, signal })
      if (status >= 200 && status < 300) return { outcome: 'delivered', status, error: null }
      const redirect = status >= 300 && status < 400
      const error = `The receiver answered ${status}${redirect ? '; redirects are not followed' : ''}.`
      return { outcome: 'refused', status, error }
    } catch (error) {
      if (timeout.aborted) {
        const detail = `No answer within ${settings.timeoutMs / 1000} seconds.`
        return { outcome: 'timeout', status: null, error: detail }
      }
      if (closing.signal.aborted) return { outcome: 'interrupted', status: null, error: null }
      return { ...explain(error, delivery.origin), status: null }
    }
  }

  return {
    start() {
      started = true
      filling = bringForward()
        .catch((error: unknown) => log.warn({ error: AppError.from(error).detail }, 'webhooks could not be looked at'))
        .finally(() => {
          filling = null
          wake()
        })
    },
    wake,
    async close(graceMs) {
      started = false
      clearTimeout(timer)
      await filling
      const settled = Promise.all([...inWork].map((work) => work.settled))
      let cut: NodeJS.Timeout | undefined
      await Promise.race([settled, new Promise((resolve) => (cut = setTimeout(resolve, graceMs)))])
      clearTimeout(cut)
      closing.abort()
      await settled
    },
  }
}

/** DNS has no way to be cancelled. */
function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  work.catch(() => {}) // may fail when nobody waits any more
  return Promise.race([work, promise]).finally(() => signal.removeEventListener('abort', onAbort))
}

function explain(error: unknown, origin: string): { outcome: AttemptOutcome; error: string } {
  if (error instanceof AppError) {
    const outcome = error.code === 'webhook_target_forbidden' ? 'forbidden' : 'failed'
    return { outcome, error: error.detail.slice(0, MAX_ERROR_CHARACTERS) }
  }
  // Happy eyeballs: one error per address, the sum of them says nothing.
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : error
  const { code, message, syscall } = first as NodeJS.ErrnoException
  // Node names the address; inside an allowed network that is nothing for everybody who may read the job.
  const what = syscall === undefined ? message : `${syscall} failed for ${origin}`
  return { outcome: 'unreachable', error: `${code ?? 'error'}: ${what}`.slice(0, MAX_ERROR_CHARACTERS) }
}
