// Puts the service together: data folder, catalogue, stores, children, queue. Entry: createService. At start what a crash
// left behind is swept and interrupted jobs go on by themselves.

import { totalmem } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import { createArtifactStore } from '../store/artifact-store.ts'
import { createLocalBlobStore } from '../store/blob-store.ts'
import type { Catalog, JobRecord } from '../store/catalog.ts'
import { type DataFolder, openDataFolder } from '../store/data-folder.ts'
import { createDatasetStore } from '../store/dataset-store.ts'
import { createModelStore } from '../store/model-store.ts'
import { createResumableUploads } from '../store/resumable-uploads.ts'
import { openSqliteCatalog } from '../store/sqlite-catalog.ts'
import { residentBytes } from '../validate/resident-memory.ts'
import { validateArtifact } from '../validate/validate-artifact.ts'
import { isFinal, jobView } from './job.ts'
import { type AttemptResult, createJobAttempt } from './job-attempt.ts'
import { createJobEvents } from './job-events.ts'
import { createJobQueue } from './job-queue.ts'
import { createJobService } from './job-service.ts'
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
  maxOpenUploads: 256,
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
  const data = await openDataFolder(options.dataDir)
  let catalog: Catalog | null = null
  try {
    catalog = openSqliteCatalog(data.catalogPath)
    return await assemble(options, internals, data, catalog)
  } catch (error) {
    await catalog?.close()
    data.close()
    throw error
  }
}

async function assemble(
  options: ServiceOptions,
  internals: ServiceInternals,
  data: DataFolder,
  catalog: Catalog,
): Promise<Service> {
  const log = options.log ?? SILENT
  const hooks = options.hooks ?? {}
  const limits: ServiceLimits = { ...DEFAULT_LIMITS, ...options.limits }
  const blobs = createLocalBlobStore(data.blobs, data.makeTemporary)
  const models = createModelStore(data, catalog)
  const datasets = createDatasetStore(data, catalog)
  const artifacts = createArtifactStore(catalog, blobs)
  const resumable = createResumableUploads(data, catalog, {
    maxUploadBytes: limits.maxUploadBytes,
    maxDatasetBytes: limits.maxDatasetBytes,
    maxFiles: limits.maxModelFiles,
    minFreeBytes: limits.minFreeBytes,
    maxOpen: limits.maxOpenUploads,
    expiryMs: limits.uploadExpiryMs,
  })
  await sweep()

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
    worker,
    limits,
    async validate(spec, validateOptions) {
      try {
        return await judge(spec, { ...validateOptions, onChild: (pid) => inference.add(pid) })
      } catch (error) {
        const { code } = AppError.from(error)
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
      const view = jobView(job, engine.progress(job.id), artifact)
      events.publish(type, view)
      if (type === 'state') tellHooks(job, view)
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

  async function sweep(): Promise<void> {
    const removed = {
      models: await models.sweep(),
      datasets: await datasets.sweep(),
      uploads: await resumable.sweep(),
      blobs: await blobs.sweep(await catalog.referencedBlobs()),
    }
    if (Object.values(removed).some((count) => count > 0)) log.info(removed, 'orphans were removed')
  }

  const parts = { data, catalog, models, datasets, inspect, worker, limits, hooks }
  const uploads = createUploadService(parts, resumable, log)

  let closed: Promise<void> | null = null
  async function close(): Promise<void> {
    await Promise.all([engine.drain(limits.drainGraceMs), uploads.close()])
    closing.abort()
    await Promise.all([worker.close(), inspect.close()])
    await catalog.close()
    data.close()
  }

  try {
    await firstStart(worker, log)
    inspect.start().catch(() => {}) // its first request tries again and says what is wrong
    await engine.start()
    await uploads.start()
  } catch (error) {
    await Promise.all([worker.close(), inspect.close()])
    throw error
  }

  return {
    models: createModelService(parts),
    datasets: createDatasetService(parts),
    uploads,
    plans: createPlanService(parts),
    jobs: createJobService({ catalog, models, datasets, artifacts, inspect, engine, events, closing: closing.signal }),
    // It writes and syncs a file, and anybody may ask.
    health: shareWhileRunning(async (): Promise<Health> => {
      const gpu = worker.status()
      const store = await storeHealth(data, limits.minFreeBytes)
      const counts = await catalog.countJobs().catch((error: unknown) => {
        store.writable = false
        store.error ??= AppError.from(error).detail
        return { queued: 0, running: 0, oldestQueuedAt: null }
      })
      return {
        ready: gpu.up && store.writable && store.freeBytes >= limits.minFreeBytes && !engine.draining,
        draining: engine.draining,
        worker: {
          up: gpu.up,
          device: gpu.device,
          limits: gpu.limits,
          restarts: gpu.restarts,
          lastError: gpu.lastError,
          startSeconds: gpu.startSeconds,
        },
        store,
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

async function storeHealth(data: DataFolder, minFreeBytes: number): Promise<Health['store']> {
  try {
    const freeBytes = await data.freeBytes()
    await data.probe()
    return { writable: true, error: null, freeBytes, minFreeBytes }
  } catch (error) {
    return { writable: false, error: AppError.from(error).detail, freeBytes: 0, minFreeBytes }
  }
}
