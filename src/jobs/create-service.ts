// Puts the service together: data folder, catalogue, stores, children, queue. Entry: createService. At start what a crash
// left behind is swept and interrupted jobs go on by themselves.

import { totalmem } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import type { JobRecord } from '../store/catalog.ts'
import { openStore, type Store } from '../store/open-store.ts'
import { findOrphans, removeOrphans, sizeOldBlobs } from '../store/orphans.ts'
import { createResumableUploads, type ResumableUploads } from '../store/resumable-uploads.ts'
import { KEEP_EVERYTHING, NOTHING_STORED } from '../store/retention.ts'
import { residentBytes } from '../validate/resident-memory.ts'
import { validateArtifact } from '../validate/validate-artifact.ts'
import { createAgeClock } from './age-clock.ts'
import { type ExpirySweeps, startExpirySweeps } from './expiry-sweeps.ts'
import { isFinal, jobView } from './job.ts'
import { type AttemptResult, createJobAttempt } from './job-attempt.ts'
import { createJobEvents } from './job-events.ts'
import { createJobQueue } from './job-queue.ts'
import { createJobService } from './job-service.ts'
import { createJobWebhooks, type JobWebhooks, NO_WEBHOOKS } from './job-webhooks.ts'
import { createDatasetService, createModelService, createPlanService } from './model-service.ts'
import type { Health, Service, ServiceLimits, ServiceLog, ServiceOptions } from './service.ts'
import { shareWhileRunning } from './share-while-running.ts'
import { createUploadService } from './upload-service.ts'
import { createGpuWorker, createInspectChild, type GpuWorker } from './worker-pool.ts'

const GIB = 1024 ** 3

/** Of the machine, or of the container: a child is stopped before the system picks a process to kill, perhaps the server. */
export const CHILD_MEMORY_SHARE = 0.8

function childMemoryBytes(): number {
  const container = process.constrainedMemory()
  const machine = totalmem()
  return Math.floor(CHILD_MEMORY_SHARE * (container > 0 ? Math.min(container, machine) : machine))
}

export const DEFAULT_LIMITS: ServiceLimits = {
  maxUploadBytes: 32 * GIB,
  maxDatasetBytes: 8 * GIB,
  maxModelFiles: 512,
  maxTensors: 100_000,
  maxOpenUploads: 1024,
  maxOpenUploadsPerKey: 256,
  uploadExpiryMs: 86_400_000,
  minFreeBytes: GIB,
  maxQueuedJobs: 256,
  maxJobsPerKey: 64,
  maxAttempts: 3,
  maxStageMs: 21_600_000,
  childSilenceMs: 60_000,
  childStallMs: 600_000,
  childMemoryBytes: childMemoryBytes(),
  drainGraceMs: 20_000,
}

const DEFAULT_SWEEP_MS = 600_000
/** What a delivery in work gets at the end; one that is cut is made by the next server. */
const WEBHOOK_GRACE_MS = 2000

/** How long the start waits for the device, so that the first lines can name it; a slower worker comes up later. */
const FIRST_START_MS = 10_000

/** Other programs for the children, and another judge: for tests of crashes and hangs. */
export interface ServiceInternals {
  workerEntry?: string
  inspectEntry?: string
  validate?: typeof validateArtifact
}

const SILENT: ServiceLog = { debug() {}, info() {}, warn() {}, error() {} }

/** Throws conflict (another server has the folder), store_failed, device_unavailable (the named device is not there). */
export async function createService(options: ServiceOptions, internals: ServiceInternals = {}): Promise<Service> {
  const { hooks = {}, log = SILENT } = options
  const store = await openStore(options.dataDir, {
    policy: options.retention?.policy ?? KEEP_EVERYTHING,
    onExpired(expiry) {
      const { kind, id, reason, sizeBytes, lastUsedAt } = expiry
      log.info({ kind, id, reason, bytes: sizeBytes, last_used_at: lastUsedAt }, 'expired')
      hooks.expired?.(kind, reason, sizeBytes)
    },
  })
  try {
    return await assemble(options, internals, store)
  } catch (error) {
    await store.close()
    throw error
  }
}

async function assemble(options: ServiceOptions, internals: ServiceInternals, store: Store): Promise<Service> {
  const { hooks = {}, log = SILENT } = options
  const { data, catalog, models, datasets, artifacts, quota } = store
  const limits: ServiceLimits = { ...DEFAULT_LIMITS, ...options.limits }
  const resumable = createResumableUploads(
    data,
    catalog,
    {
      maxUploadBytes: limits.maxUploadBytes,
      maxDatasetBytes: limits.maxDatasetBytes,
      maxFiles: limits.maxModelFiles,
      minFreeBytes: limits.minFreeBytes,
      maxOpen: limits.maxOpenUploads,
      maxOpenPerKey: limits.maxOpenUploadsPerKey,
      expiryMs: limits.uploadExpiryMs,
    },
    quota,
  )
  await tidyUp(store, resumable, log)

  const { childSilenceMs: silenceMs, childStallMs: stallMs, childMemoryBytes: memoryBytes } = limits
  const worker = createGpuWorker(options.device, {
    shaderCache: data.shaderCache,
    log,
    limits: { silenceMs, stallMs, memoryBytes },
    ...(internals.workerEntry === undefined ? {} : { entry: internals.workerEntry }),
    onDeath: (cause) => hooks.childDied?.('gpu', cause),
    onRestart: () => hooks.childRestarted?.('gpu'),
  })
  const inspect = createInspectChild({
    shaderCache: data.shaderCache,
    log,
    ...(internals.inspectEntry === undefined ? {} : { entry: internals.inspectEntry }),
    onDeath: (cause) => hooks.childDied?.('inspect', cause),
    onRestart: () => hooks.childRestarted?.('inspect'),
  })

  const inference = new Set<number>()
  const judge = internals.validate ?? validateArtifact
  const attempt = createJobAttempt({
    data,
    models,
    datasets,
    artifacts,
    quota,
    worker,
    limits,
    async validate(spec, validateOptions) {
      try {
        return await judge(spec, { ...validateOptions, onChild: (pid) => inference.add(pid) })
      } catch (error) {
        const { code, context } = AppError.from(error)
        if (context['limit'] === 'validation_memory_bytes') hooks.childDied?.('inference', 'memory')
        if (code === 'worker_crashed') hooks.childDied?.('inference', 'crashed')
        if (code === 'worker_timeout') hooks.childDied?.('inference', 'timeout')
        throw error
      } finally {
        inference.clear()
      }
    },
  })

  const events = createJobEvents()
  const closing = new AbortController()
  const runs = new Map<string, { startedMs: number; result: AttemptResult | null }>()
  const engine = createJobQueue({
    catalog,
    maxQueued: limits.maxQueuedJobs,
    maxPerSubmitter: limits.maxJobsPerKey,
    maxAttempts: limits.maxAttempts,
    maxStageMs: limits.maxStageMs,
    log,
    async run(job, context) {
      const result = await attempt(job, context)
      const run = runs.get(job.id)
      if (run !== undefined) run.result = result
      return result
    },
    async changed(type, job) {
      const artifact = job.artifactKey === null ? null : await catalog.getArtifact(job.artifactKey)
      const view = jobView(job, engine.progress(job.id), artifact, await catalog.getDelivery(job.id))
      events.publish(type, view)
      if (type === 'state') tellHooks(job, view)
      if (isFinal(job.state)) webhooks.queue.wake()
    },
  })

  function tellHooks(job: JobRecord, view: ReturnType<typeof jobView>): void {
    const fields = { job_id: job.id, state: job.state, attempt: job.attempt }
    if (job.state === 'running') {
      runs.set(job.id, { startedMs: performance.now(), result: null })
      const waitSeconds = (Date.parse(job.startedAt ?? job.createdAt) - Date.parse(job.createdAt)) / 1000
      hooks.jobStarted?.(view, waitSeconds)
    }
    if (isFinal(job.state)) {
      const run = runs.get(job.id)
      const seconds = run === undefined ? 0 : (performance.now() - run.startedMs) / 1000
      const { stageSeconds = {}, report = null } = run?.result ?? {}
      hooks.jobFinished?.(view, { seconds, stageSeconds, report })
      log.info({ ...fields, seconds, code: job.error?.code ?? null }, 'job ended')
    } else {
      log.info(fields, `job ${job.state}`)
    }
    if (job.state !== 'running') runs.delete(job.id)
  }

  const webhooks: JobWebhooks = createJobWebhooks(options.webhooks ?? NO_WEBHOOKS, {
    data,
    catalog,
    log,
    job: (id) => jobs.get(id),
    onAttempt: (outcome) => hooks.webhookAttempted?.(outcome),
  })
  const jobs = createJobService({
    catalog,
    models,
    datasets,
    artifacts,
    quota,
    inspect,
    engine,
    webhooks,
    events,
    closing: closing.signal,
  })
  const parts = { data, catalog, models, datasets, inspect, worker, limits, hooks, quota }
  const clock = createAgeClock(log)
  const uploads = createUploadService(parts, resumable, log, clock)

  let sweeps: ExpirySweeps | null = null
  let closed: Promise<void> | null = null
  /** Whatever was started. */
  async function stop(drainGraceMs: number): Promise<void> {
    await Promise.all([engine.drain(drainGraceMs), uploads.close()])
    closing.abort()
    await Promise.all([worker.close(), inspect.close(), sweeps?.stop(), webhooks.queue.close(WEBHOOK_GRACE_MS)])
  }
  async function close(): Promise<void> {
    await stop(limits.drainGraceMs)
    await store.close()
  }

  try {
    await firstStart(worker, log)
    inspect.start().catch(() => {}) // its first request tries again and says what is wrong
    await engine.start()
    await uploads.start()
    webhooks.queue.start()
    sweeps = startExpirySweeps(store.collector, options.retention?.sweepEveryMs ?? DEFAULT_SWEEP_MS, log, clock)
  } catch (error) {
    await stop(0)
    throw error
  }

  return {
    models: createModelService(parts),
    datasets: createDatasetService(parts),
    uploads,
    plans: createPlanService(parts),
    jobs,
    // It writes and syncs a file, and anybody may ask.
    health: shareWhileRunning(async (): Promise<Health> => {
      const gpu = worker.status()
      const stored = await storeHealth(store, limits.minFreeBytes)
      const counts = await catalog.countJobs().catch((error: unknown) => {
        stored.writable = false
        stored.error ??= AppError.from(error).detail
        return { queued: 0, running: 0, oldestQueuedAt: null }
      })
      return {
        ready: gpu.up && stored.writable && stored.freeBytes >= limits.minFreeBytes && !engine.draining,
        draining: engine.draining,
        worker: {
          up: gpu.up,
          device: gpu.device,
          limits: gpu.limits,
          restarts: gpu.restarts,
          lastError: gpu.lastError,
          startSeconds: gpu.startSeconds,
        },
        store: stored,
        webhooks: await catalog.countDeliveries().catch(() => ({ pending: 0, dead: 0 })),
        queue: {
          queued: counts.queued,
          running: counts.running,
          limit: limits.maxQueuedJobs,
          // A clock that was set back would make it negative.
          oldestSeconds:
            counts.oldestQueuedAt === null ? 0 : Math.max(0, (Date.now() - Date.parse(counts.oldestQueuedAt)) / 1000),
        },
        children: [
          ...[gpu].flatMap(({ pid, rssBytes }) => (pid === null ? [] : [{ kind: 'gpu' as const, pid, rssBytes }])),
          ...[inspect.status()].flatMap(({ pid, rssBytes }) =>
            pid === null ? [] : [{ kind: 'inspect' as const, pid, rssBytes }],
          ),
          ...[...inference].map((pid) => ({ kind: 'inference' as const, pid, rssBytes: residentBytes(pid) ?? 0 })),
        ],
      }
    }),
    close() {
      closed ??= close()
      return closed
    },
  }
}

/** A device that was asked for by name and is not there is a mistake worth stopping for; anything else may pass. */
async function firstStart(worker: GpuWorker, log: ServiceLog): Promise<void> {
  const patience = new AbortController()
  const started = worker.start().then(
    () => null,
    (error: unknown) => AppError.from(error),
  )
  const error = await Promise.race([
    started,
    sleep(FIRST_START_MS, null, { signal: patience.signal }).catch(() => null),
  ])
  patience.abort()
  if (error?.code === 'device_unavailable') throw error
  if (error !== null)
    log.error({ error: error.detail }, 'the GPU worker did not start; it is tried again with the next job')
}

async function storeHealth({ data, catalog, quota }: Store, minFreeBytes: number): Promise<Health['store']> {
  const quotaBytes = quota.storeBytes
  try {
    const usage = await catalog.usage()
    const freeBytes = await data.freeBytes()
    await data.probe()
    return { writable: true, error: null, freeBytes, minFreeBytes, usage, quotaBytes }
  } catch (error) {
    const usage = await catalog.usage().catch(() => NOTHING_STORED)
    return { writable: false, error: AppError.from(error).detail, freeBytes: 0, minFreeBytes, usage, quotaBytes }
  }
}

/** What a crash left behind, and what an earlier version did not note. */
async function tidyUp({ data, catalog, blobs }: Store, uploads: ResumableUploads, log: ServiceLog): Promise<void> {
  const orphans = await findOrphans(data, catalog, blobs)
  await removeOrphans(data, catalog, blobs, orphans)
  await sizeOldBlobs(catalog, blobs)
  const { strays } = await blobs.list()
  if (strays.length > 0) {
    const fields = { strays: strays.length, first: strays[0] }
    log.warn(fields, 'there are files among the blobs that are none; they are left alone, and may be removed')
  }
  const lostUploads = await uploads.sweep()
  if (lostUploads > 0) log.warn({ uploads: lostUploads }, 'uploads whose files are gone were removed')
  if (orphans.length === 0) return
  const bytes = orphans.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  log.info({ orphans: orphans.length, bytes }, 'orphans were removed')
}
