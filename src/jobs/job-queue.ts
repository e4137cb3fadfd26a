// The job engine on the catalogue: durable enqueue, one job at a time, retries when children die, cancel, drain, recovery.
// Entry: createJobQueue. The interface is what an engine on a shared database has to offer as well; states and times are in
// the catalogue, only the progress of running jobs is in memory.

import { AppError } from '../errors.ts'
import type { Catalog, JobOutcome, JobRecord, NewJob } from '../store/catalog.ts'
import { attemptsExhausted, isFinal, isRetried } from './job.ts'
import type { Progress } from './protocol.ts'
import type { ServiceLog } from './service.ts'
import { createStageClock } from './stage-clock.ts'

export interface JobEngine {
  /** Puts interrupted jobs back and begins to work. */
  start(): Promise<void>
  /** Durable when it resolves. Throws queue_full, too_many_jobs, idempotency_key_reused, not_found, shutting_down. */
  enqueue(
    job: NewJob,
    idempotency: { key: string; fingerprint: string } | null,
  ): Promise<{ job: JobRecord; replayed: boolean }>
  /** Settles once the job is final. Throws not_found, conflict (it was final already, or ended in another way meanwhile). */
  cancel(id: string): Promise<JobRecord>
  /** Progress of a running job. */
  progress(id: string): Progress | null
  readonly draining: boolean
  /** No new jobs; the running one may finish within `graceMs`, or it goes back to the queue. */
  drain(graceMs: number): Promise<void>
}

export interface QueueOptions {
  catalog: Catalog
  maxQueued: number
  maxPerSubmitter: number
  maxAttempts: number
  /** Time of one attempt in one stage. */
  maxStageMs: number
  log: ServiceLog
  /** One attempt. Must settle soon after `signal` aborts. */
  run(job: JobRecord, context: { signal: AbortSignal; onProgress(progress: Progress): void }): Promise<JobOutcome>
  /** The state of a job changed (awaited), or its progress did. */
  changed(type: 'state' | 'progress', job: JobRecord): Promise<void> | void
}

/** A cancelled job is shown as such after this long even where its work still winds down. */
const CANCEL_SHOWN_MS = 750
/** Followers hear of a running job at least this often, also in stages that report nothing; promised is once a second. */
const PROGRESS_MS = 800
/** What a run gets to wind down when the engine stops; one that does not is left as running, and recovered at the next start. */
const STOP_MS = 5000
/** Pause before a catalogue that failed (disk full) is tried again. */
const STORE_RETRY_MS = 1000

const CANCELLED = new AppError('cancelled', 'The job was cancelled.')

interface Running {
  job: JobRecord
  abort: AbortController
  progress: Progress | null
  settled: Promise<void>
}

export function createJobQueue(options: QueueOptions): JobEngine {
  const { catalog, log } = options
  let running: Running | null = null
  let draining = false
  let started = false
  let looping: Promise<void> | null = null
  let wokenMeanwhile = false
  /** Id of the job that was cancelled in the moment between being taken and being run; only one can be there. */
  let cancelledEarly: string | null = null

  const now = () => new Date().toISOString()

  /** Followers that cannot be told are no reason to stop working. */
  async function changed(type: 'state' | 'progress', job: JobRecord): Promise<void> {
    try {
      await options.changed(type, job)
    } catch (error) {
      log.error({ job_id: job.id, error: AppError.from(error).detail }, 'a change of a job could not be told')
    }
  }

  /** The catalogue may fail for a while (disk full); what has to be written is kept trying until the server stops. */
  async function insist<T>(doing: string, work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work()
      } catch (error) {
        log.error({ error: AppError.from(error).detail }, `${doing} failed; trying again`)
        if (draining) throw error
        await new Promise((resolve) => setTimeout(resolve, STORE_RETRY_MS))
      }
    }
  }

  function wake(): void {
    if (!started || draining) return
    if (looping !== null) {
      wokenMeanwhile = true // the loop may have found nothing already and be about to end
      return
    }
    wokenMeanwhile = false
    looping = loop()
      .catch((error: unknown) => log.error({ error: String(error) }, 'the job queue stopped'))
      .finally(() => {
        looping = null
        if (wokenMeanwhile) wake()
      })
  }

  async function loop(): Promise<void> {
    while (!draining) {
      const job = await insist('taking a job', () => catalog.claimJob(now()))
      if (job === null) return
      const abort = new AbortController()
      const settled = Promise.withResolvers<void>()
      running = { job, abort, progress: null, settled: settled.promise }
      if (cancelledEarly === job.id) abort.abort(CANCELLED)
      cancelledEarly = null
      try {
        await changed('state', job)
        await attempt(running)
      } finally {
        running = null
        settled.resolve()
      }
    }
  }

  async function attempt(current: Running): Promise<void> {
    const { job, abort } = current
    const tell = () => void changed('progress', job)
    const timer = setInterval(tell, PROGRESS_MS)
    const clock = createStageClock(options.maxStageMs, (error) => abort.abort(error))
    clock.enter('opening')
    let last = Number.NEGATIVE_INFINITY
    const onProgress = (progress: Progress) => {
      const newStage = progress.stage !== current.progress?.stage
      current.progress = progress
      clock.enter(progress.stage)
      if (!newStage && performance.now() - last < PROGRESS_MS / 4) return
      last = performance.now()
      timer.refresh()
      tell()
    }
    const outcome = await options
      .run(job, { signal: abort.signal, onProgress })
      .catch((error: unknown) => AppError.from(error))
      .finally(() => {
        clearInterval(timer)
        clock.stop()
      })
    if (outcome instanceof AppError) await concludeFailure(job, outcome, abort.signal)
    else await conclude(job, outcome)
  }

  async function concludeFailure(job: JobRecord, error: AppError, signal: AbortSignal): Promise<void> {
    const why = signal.aborted ? AppError.from(signal.reason).code : null
    if (why === 'shutting_down') return putBack(job, job.attempt)
    if (why === 'cancelled') return conclude(job, failure('cancelled', CANCELLED))
    // Another attempt would take as long.
    if (why === 'stage_timeout') return conclude(job, failure('failed', AppError.from(signal.reason)))
    if (isRetried(error) && job.attempt < options.maxAttempts) {
      log.warn({ job_id: job.id, attempt: job.attempt, code: error.code, error: error.detail }, 'attempt failed')
      return putBack(job, job.attempt + 1)
    }
    if (error.code === 'internal') log.error({ job_id: job.id, error: stackOf(error) }, 'job failed by a bug')
    return conclude(job, failure('failed', isRetried(error) ? attemptsExhausted(error, job.attempt) : error))
  }

  async function putBack(job: JobRecord, nextAttempt: number): Promise<void> {
    const record = await insist('putting a job back', () => catalog.requeueJob(job.id, nextAttempt))
    if (record !== null) await changed('state', record)
  }

  async function conclude(job: JobRecord, outcome: JobOutcome): Promise<void> {
    const record = await insist('finishing a job', () => catalog.finishJob(job.id, outcome, now()))
    if (record !== null) await changed('state', record)
  }

  return {
    get draining() {
      return draining
    },
    progress: (id) => (running?.job.id === id ? running.progress : null),
    async start() {
      const recovered = await catalog.recoverJobs(now())
      if (recovered.requeued + recovered.cancelled > 0) log.info({ ...recovered }, 'interrupted jobs were recovered')
      started = true
      wake()
    },
    async enqueue(job, idempotency) {
      if (draining) {
        throw new AppError(
          'shutting_down',
          'The server is stopping and takes no new jobs. Send the job again in a moment.',
        )
      }
      const result = await catalog.enqueueJob(job, idempotency, options)
      switch (result.kind) {
        case 'created':
          await changed('state', result.job)
          wake()
          return { job: result.job, replayed: false }
        case 'replayed':
          return { job: result.job, replayed: true }
        case 'key_reused':
          throw new AppError(
            'idempotency_key_reused',
            `The Idempotency-Key belongs to job ${result.jobId}, which was asked for with another body. Use a new key.`,
            { job: result.jobId },
          )
        case 'queue_full':
          throw new AppError('queue_full', `${result.queued} jobs wait already; ${options.maxQueued} are allowed.`, {
            limit: 'queueLength',
            allowed: options.maxQueued,
            requested: result.queued + 1,
          })
        case 'submitter_full':
          throw new AppError(
            'too_many_jobs',
            `API key "${job.submittedBy}" has ${result.live} jobs that wait or run already; limit jobsPerKey allows ${options.maxPerSubmitter}.`,
            { limit: 'jobsPerKey', allowed: options.maxPerSubmitter, requested: result.live + 1 },
          )
        case 'model_missing':
          throw new AppError('not_found', `There is no model "${job.modelId}".`, { model: job.modelId })
        case 'dataset_missing':
          throw new AppError('not_found', `There is no dataset "${job.datasetId}".`, { dataset: job.datasetId })
        default:
          return result satisfies never
      }
    },
    async cancel(id) {
      const before = await catalog.getJob(id)
      if (before !== null && isFinal(before.state)) throw hasEnded(before)
      const record = await catalog.requestCancel(id, now())
      if (record === null) throw new AppError('not_found', `There is no job "${id}".`, { job: id })
      if (record.state === 'cancelled') {
        await changed('state', record)
        return record
      }
      if (isFinal(record.state)) throw hasEnded(record)
      const current = running
      if (current?.job.id !== id) {
        cancelledEarly = id
      } else {
        current.abort.abort(CANCELLED)
        const settled = await Promise.race([
          current.settled.then(() => true),
          new Promise<false>((resolve) => setTimeout(resolve, CANCEL_SHOWN_MS, false)),
        ])
        if (!settled) await conclude(record, failure('cancelled', CANCELLED))
      }
      const after = (await catalog.getJob(id)) ?? record
      if (isFinal(after.state) && after.state !== 'cancelled') throw hasEnded(after)
      return after
    },
    async drain(graceMs) {
      draining = true
      const current = running
      if (current !== null) {
        const finished = Promise.race([
          current.settled.then(() => true),
          new Promise<false>((resolve) => setTimeout(resolve, graceMs, false).unref()),
        ])
        if (!(await finished)) {
          current.abort.abort(new AppError('shutting_down', 'The server is stopping; the job goes back to the queue.'))
        }
      }
      await Promise.race([looping, new Promise((resolve) => setTimeout(resolve, STOP_MS).unref())])
    },
  }
}

function hasEnded({ id, state }: JobRecord): AppError {
  return new AppError('conflict', `Job ${id} has ended (${state}); there is nothing to cancel.`, { job: id })
}

/** Of what was thrown in the first place, where that is known. */
function stackOf(error: AppError): string {
  return (error.cause instanceof Error ? error.cause.stack : error.stack) ?? error.detail
}

function failure(state: 'failed' | 'cancelled', error: AppError): JobOutcome {
  return {
    state,
    artifactKey: null,
    artifactReused: false,
    requirementMet: null,
    reportSha256: null,
    error: error.toObject(),
  }
}
