// The long-lived children: GPU worker and inspect child. Each is started again after it died, with a growing pause. Entries:
// createGpuWorker and createInspectChild, used by the server and by the command line alike. Inference children are
// short-lived and belong to src/validate.

import { setTimeout as sleep } from 'node:timers/promises'
import type { DeviceInfo, DeviceLimits } from '../compute/compute-device.ts'
import { AppError } from '../errors.ts'
import type { OutputOptions, SourceFile } from '../tensor/model.ts'
import {
  type Child,
  type ChildLimits,
  childEntry,
  DEFAULT_CHILD_LIMITS,
  type DeathCause,
  type RequestBody,
  type RequestLimits,
  type RequestOptions,
  startChild,
} from './child-process.ts'
import type {
  CompressionResult,
  CompressSpec,
  DatasetDescription,
  DatasetFit,
  HistogramResult,
  ModelDescription,
  ModelValues,
  PlanDocument,
  ResolvedRecipe,
} from './protocol.ts'
import type { ServiceLog } from './service.ts'

export interface ChildStatus {
  up: boolean
  pid: number | null
  device: DeviceInfo | null
  limits: DeviceLimits | null
  startSeconds: number | null
  rssBytes: number
  restarts: number
  lastError: string | null
}

export interface PoolOptions {
  /** Folder for compiled shaders; kept between runs, or every start compiles again. null: the driver's own place. */
  shaderCache: string | null
  log?: ServiceLog
  limits?: Partial<ChildLimits>
  /** Another entry file, for tests. */
  entry?: string
  /** The child ended and was not told to. */
  onDeath?: (cause: 'crashed' | 'timeout' | 'memory' | 'device_lost') => void
  onRestart?: () => void
}

export interface PooledChild {
  /** Starts it now instead of with the first request. Rejects when it cannot start. */
  start(): Promise<void>
  status(): ChildStatus
  /** Kills it; the next request finds a fresh one. */
  restart(cause: DeathCause): void
  close(): Promise<void>
}

export interface GpuWorker extends PooledChild {
  compress(spec: CompressSpec, options?: RequestOptions): Promise<CompressionResult>
  histogram(files: SourceFile[], tensor: string, bins: number, options?: RequestOptions): Promise<HistogramResult>
}

/** Reads untrusted model files in a child. A file that ends the child is answered with format_invalid. */
export interface ModelDescriber {
  describe(files: SourceFile[], options?: RequestOptions): Promise<ModelDescription>
  companions(main: SourceFile, options?: RequestOptions): Promise<string[]>
}

/** A GPU worker for one job, which describes the model before it opens its device: one process instead of two. */
export interface DescribingWorker extends GpuWorker, ModelDescriber {}

export interface InspectChild extends PooledChild, ModelDescriber {
  plan(
    files: SourceFile[],
    recipe: ResolvedRecipe,
    output: OutputOptions,
    options?: RequestOptions,
  ): Promise<PlanDocument>
  describeDataset(path: string, options?: RequestOptions): Promise<DatasetDescription>
  /** Throws dataset_invalid when it does not fit the model's inputs, or its labels are seen not to fit the outputs. */
  matchDataset(path: string, model: ModelValues, options?: RequestOptions): Promise<DatasetFit>
}

/** Pauses between restarts: short at first, since most crashes belong to one job; long when it keeps dying. */
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 10_000
/** Hostile files may be built to keep a reader busy: less patience than for a worker, which moves gigabytes. */
const INSPECT_SILENCE_MS = 30_000
/** The tensor table of the largest models takes some hundred MB; a reader that needs more has been led astray. */
const INSPECT_MEMORY_BYTES = 2 * 1024 ** 3

const INSPECT_LIMITS: RequestLimits = { silenceMs: INSPECT_SILENCE_MS, memoryBytes: INSPECT_MEMORY_BYTES }

/**
 * glibc gives each thread of the driver, of libuv and of V8 an arena of its own, which keeps what was freed in it: with one for
 * all, the peak of a GPU worker is 12 MiB lower and it takes no more time.
 */
const ONE_ARENA = { MALLOC_ARENA_MAX: process.env['MALLOC_ARENA_MAX'] ?? '1' }

/**
 * For a worker that idles between jobs: it has its old generation shrunk, and the mapped chunks of the next job, though outside of
 * it, then set off a full collection every few pieces, 5 to 20 % of the job's processor time. None once the old generation counts as
 * 64 MiB from the start. It takes no memory, and 15 ms of the start (see CHILD_FLAGS).
 */
const IDLING_FLAGS = ['--initial-old-space-size=64']

const SILENT_LOG: ServiceLog = { debug() {}, info() {}, warn() {}, error() {} }

interface Keeper extends PooledChild {
  request(body: RequestBody, options?: RequestOptions): Promise<unknown>
  /** To a child that may still be starting, if it answers this before it is ready. */
  requestEarly(body: RequestBody, options?: RequestOptions): Promise<unknown>
}

/** Keeps one child alive: at most one at a time, started on demand, restarted after a death with a growing pause. */
function keepChild(
  name: string,
  entry: string,
  args: string[],
  options: PoolOptions,
  nodeFlags: readonly string[] = [],
): Keeper {
  const log = options.log ?? SILENT_LOG
  const limits = { ...DEFAULT_CHILD_LIMITS, ...options.limits }
  let current: Child | null = null
  let spawned: Pick<Child, 'request'> | null = null
  let starting: Promise<Child> | null = null
  let failures = 0
  let restarts = 0
  let starts = 0
  let lastError: string | null = null
  const closing = new AbortController()

  async function launch(): Promise<Child> {
    if (failures > 0) {
      const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1))
      await sleep(pause, undefined, { signal: closing.signal, ref: false }).catch(() => {})
    }
    if (closing.signal.aborted) throw new AppError('shutting_down', `The ${name} process is being closed.`)
    if (starts++ > 0) {
      restarts++
      options.onRestart?.()
    }
    try {
      const { shaderCache } = options
      const environment = { ...ONE_ARENA, ...(shaderCache === null ? {} : { MESA_SHADER_CACHE_DIR: shaderCache }) }
      const child = await startChild({
        name,
        entry,
        args,
        nodeFlags,
        environment,
        limits,
        log,
        signal: closing.signal,
        onSpawned: (process) => {
          spawned = process
        },
      })
      current = child
      log.info({ child: name, pid: child.pid, seconds: child.ready.startSeconds }, 'child is ready')
      void child.ended.then(({ cause, detail }) => onEnded(child, cause, detail))
      return child
    } catch (error) {
      spawned = null
      failures++
      lastError = AppError.from(error).detail
      log.warn({ child: name, error: lastError, failures }, 'child did not start')
      throw error
    }
  }

  function onEnded(child: Child, cause: DeathCause, detail: string): void {
    if (current === child) {
      current = null
      spawned = null
    }
    if (closing.signal.aborted) return
    if (cause !== 'closed') {
      failures++
      lastError = detail
      log.warn({ child: name, pid: child.pid, cause, error: detail }, 'child died')
      options.onDeath?.(cause)
    }
    ensure().catch(() => {})
  }

  function ensure(): Promise<Child> {
    if (current !== null) return Promise.resolve(current)
    if (starting === null) {
      starting = launch().finally(() => {
        starting = null
      })
      // Whoever waits hears of a failed start at once; readiness comes back by itself, after a growing pause.
      starting.catch(() => {
        if (!closing.signal.aborted) ensure().catch(() => {})
      })
    }
    return starting
  }

  return {
    async start() {
      await ensure()
    },
    status: () => ({
      up: current !== null,
      pid: current?.pid ?? null,
      device: current?.ready.device ?? null,
      limits: current?.ready.limits ?? null,
      startSeconds: current?.ready.startSeconds ?? null,
      rssBytes: current?.rssBytes() ?? 0,
      restarts,
      lastError,
    }),
    restart(cause) {
      current?.kill(cause)
      current = null
      spawned = null
    },
    async request(body, requestOptions) {
      const child = await ensure()
      try {
        const result = await child.request(body, requestOptions)
        failures = 0
        return result
      } catch (error) {
        const failure = AppError.from(error)
        if (failure.code === 'device_lost') {
          failures++
          lastError = failure.detail
          options.onDeath?.('device_lost')
          if (current === child) {
            current = null
            spawned = null
          }
          child.kill('closed')
        }
        throw failure
      }
    },
    requestEarly(body, requestOptions) {
      const started = ensure()
      started.catch(() => {}) // a device that does not open is nothing to this request
      return spawned === null
        ? started.then((child) => child.request(body, requestOptions))
        : spawned.request(body, requestOptions)
    },
    async close() {
      closing.abort()
      await starting?.catch(() => {})
      const child = current
      current = null
      child?.kill('closed')
      await child?.ended
    },
  }
}

/** @param device 'auto', 'reference' or a part of an adapter name. */
export function createGpuWorker(device: string, options: PoolOptions): GpuWorker {
  const entry = options.entry ?? childEntry('worker')
  return gpuWorker(keepChild('GPU worker', entry, ['--device', device], options, IDLING_FLAGS))
}

/** The same for one job whose model is not known yet: it opens its device only once it has described one. */
export function createDescribingWorker(device: string, options: PoolOptions): DescribingWorker {
  const args = ['--device', device, '--describe-first']
  const keeper = keepChild('GPU worker', options.entry ?? childEntry('worker'), args, options)
  const ask = (body: RequestBody, requestOptions?: RequestOptions) =>
    blaming('model', () => keeper.requestEarly(body, { ...requestOptions, limits: INSPECT_LIMITS }))
  return {
    ...gpuWorker(keeper),
    describe: async (files, requestOptions) =>
      (await ask({ type: 'describe', files }, requestOptions)) as ModelDescription,
    companions: async (main, requestOptions) => (await ask({ type: 'companions', main }, requestOptions)) as string[],
  }
}

function gpuWorker({ request, requestEarly: _, ...keeper }: Keeper): GpuWorker {
  return {
    ...keeper,
    compress: async (spec, requestOptions) =>
      (await request({ type: 'compress', spec }, requestOptions)) as CompressionResult,
    histogram: async (files, tensor, bins, requestOptions) =>
      (await request({ type: 'histogram', files, tensor, bins }, requestOptions)) as HistogramResult,
  }
}

/**
 * What a file does to the child that reads it is the file's fault: a crash, hang or bloat becomes format_invalid. Only a child
 * that somebody else killed (the system, short of memory) says nothing about the file, until the same happens to the next one.
 */
async function blaming(what: 'model' | 'dataset', work: () => Promise<unknown>): Promise<unknown> {
  try {
    return await work().catch((error: unknown) => (wasKilled(AppError.from(error)) ? work() : Promise.reject(error)))
  } catch (error) {
    const failure = AppError.from(error)
    if (failure.code !== 'worker_crashed' && failure.code !== 'worker_timeout') throw failure
    throw new AppError(
      what === 'dataset' ? 'dataset_invalid' : 'format_invalid',
      `The ${what} could not be read: ${failure.detail} Nothing was stored. Check that the file is whole.`,
      { cause: failure.context['cause'] },
      failure,
    )
  }
}

/** SIGKILL that did not come from us: a crash of the child's own has another signal. */
function wasKilled({ code, context }: AppError): boolean {
  return code === 'worker_crashed' && context['end'] === 'signal SIGKILL'
}

/** Files that end the child are to blame; the next request finds a fresh one. */
export function createInspectChild(options: PoolOptions): InspectChild {
  const limits = { ...INSPECT_LIMITS, ...options.limits }
  const {
    request,
    requestEarly: _,
    ...keeper
  } = keepChild('inspect', options.entry ?? childEntry('inspect'), [], {
    ...options,
    limits,
  })
  let tail: Promise<unknown> = Promise.resolve()

  /** One at a time, so that a death is blamed on the file that caused it. */
  function inspect(what: 'model' | 'dataset', body: RequestBody, requestOptions?: RequestOptions): Promise<unknown> {
    const turn = tail.then(async () => {
      await keeper.start()
      return blaming(what, () => request(body, requestOptions))
    })
    tail = turn.catch(() => {})
    return turn
  }

  return {
    ...keeper,
    describe: async (files, requestOptions) =>
      (await inspect('model', { type: 'describe', files }, requestOptions)) as ModelDescription,
    plan: async (files, recipe, output, requestOptions) =>
      (await inspect('model', { type: 'plan', files, recipe, output }, requestOptions)) as PlanDocument,
    companions: async (main, requestOptions) =>
      (await inspect('model', { type: 'companions', main }, requestOptions)) as string[],
    describeDataset: async (path, requestOptions) =>
      (await inspect('dataset', { type: 'describe-dataset', path }, requestOptions)) as DatasetDescription,
    matchDataset: async (path, { inputs, outputs }, requestOptions) =>
      (await inspect(
        'dataset',
        { type: 'match-dataset', path, model: { inputs, outputs } },
        requestOptions,
      )) as DatasetFit,
  }
}
