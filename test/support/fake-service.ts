// A service in memory for tests of the HTTP layer: real hashing and files, jobs that the test moves by hand. Entry:
// createFakeService.

import { createHash } from 'node:crypto'
import { createWriteStream, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { AppError, type ErrorObject } from '../../src/errors.ts'
import { isFinal } from '../../src/jobs/job.ts'
import type {
  ArtifactFile,
  DatasetView,
  Health,
  JobEvent,
  JobRequest,
  JobView,
  ModelView,
  Page,
  PageRequest,
  Service,
  StoredFile,
  Upload,
} from '../../src/jobs/service.ts'

export interface FakeService extends Service {
  /** What becomes of a created job, at once; default: it stays queued. */
  onCreate: (job: JobView, request: JobRequest) => void
  /** Changes a job and tells its listeners. */
  move(id: string, change: Partial<JobView>, type?: JobEvent['type']): void
  /** Ends a job with artifact files and a report, both written to disk. */
  succeed(id: string, files: Record<string, string>, report?: unknown): void
  /** What retention does to the artifact of an ended job. */
  expireArtifact(id: string): void
  fail(id: string, error: ErrorObject, report?: unknown): void
  /** Temporary files of uploads that were neither committed nor discarded. */
  leftovers(): string[]
  /** Overrides of health(). */
  healthChanges: Partial<Health>
  /** Thrown by commit() of a model, when set. */
  refuseModel: AppError | null
  /** Requests that create() took. */
  requests: JobRequest[]
  closed: boolean
}

export function createFakeService(folder: string, limits = { uploadBytes: 1e9 }): FakeService {
  const temporary = join(folder, 'tmp')
  const stored = join(folder, 'stored')
  mkdirSync(temporary, { recursive: true })
  mkdirSync(stored, { recursive: true })
  const models = new Map<string, ModelView>()
  const datasets = new Map<string, DatasetView>()
  const jobs = new Map<string, { view: JobView; events: JobEvent[]; files: ArtifactFile[]; reportPath: string }>()
  const keys = new Map<string, { body: string; id: string }>()
  const listeners = new Set<() => void>()
  let eventId = 0
  let clock = Date.UTC(2026, 10, 22, 12)
  const now = () => new Date(clock++).toISOString()

  function beginUpload<View>(publish: (files: StoredFile[]) => { view: View; created: boolean }): Upload<View> {
    const home = join(temporary, `${Math.random()}`)
    const files: StoredFile[] = []
    let total = 0
    const discard = async () => rmSync(home, { recursive: true, force: true })
    return {
      async addFile(name, stream) {
        if (name.includes('..')) throw new AppError('request_invalid', `"${name}" leaves the folder.`, { path: name })
        mkdirSync(home, { recursive: true })
        const hash = createHash('sha256')
        let sizeBytes = 0
        const count = new Transform({
          transform(chunk: Buffer, _encoding, done) {
            sizeBytes += chunk.length
            total += chunk.length
            hash.update(chunk)
            const allowed = limits.uploadBytes
            const context = { limit: 'uploadBytes', allowed, requested: total }
            done(total > allowed ? new AppError('body_too_large', 'The upload is too large.', context) : null, chunk)
          },
        })
        await pipeline(stream, count, createWriteStream(join(home, String(files.length))))
        const file = { name, sizeBytes, sha256: hash.digest('hex') }
        files.push(file)
        return file
      },
      async commit() {
        const result = publish(files)
        await discard()
        return result
      },
      discard,
    }
  }

  function page<T>(all: T[], { limit, cursor }: PageRequest): Page<T> {
    const start = cursor === null ? 0 : Number(cursor)
    const items = [...all].reverse().slice(start, start + limit)
    return { items, next: start + limit < all.length ? String(start + limit) : null }
  }

  const find = <T>(map: Map<string, T>, id: string, noun: string): T => {
    const found = map.get(id)
    if (found === undefined) throw new AppError('not_found', `There is no ${noun} ${id}.`)
    return found
  }
  const inUse = (id: string) =>
    [...jobs.values()].some(({ view }) => (view.modelId === id || view.datasetId === id) && !isFinal(view.state))

  function move(id: string, change: Partial<JobView>, type: JobEvent['type'] = 'state'): void {
    const job = find(jobs, id, 'job')
    job.view = { ...job.view, ...change }
    job.events.push({ id: ++eventId, type, job: job.view })
    for (const listener of listeners) listener()
  }
  const changed = (signal?: AbortSignal, ms?: number) =>
    new Promise<void>((resolve) => {
      const done = () => {
        listeners.delete(done)
        signal?.removeEventListener('abort', done)
        clearTimeout(timer)
        resolve()
      }
      const timer = ms === undefined ? undefined : setTimeout(done, ms)
      listeners.add(done)
      signal?.addEventListener('abort', done)
    })

  function writeReport(id: string, report: unknown): string {
    const text = JSON.stringify(report)
    const path = join(stored, `${id}.json`)
    writeFileSync(path, text)
    find(jobs, id, 'job').reportPath = path
    return createHash('sha256').update(text).digest('hex')
  }

  const fake: FakeService = {
    onCreate: () => {},
    healthChanges: {},
    refuseModel: null,
    requests: [],
    closed: false,
    leftovers: () => readdirSync(temporary),
    move,
    succeed(id, files, report) {
      const job = find(jobs, id, 'job')
      job.files = Object.entries(files).map(([name, content], index) => {
        const path = join(stored, `${id}-${index}`)
        writeFileSync(path, content)
        return {
          name,
          path,
          sizeBytes: Buffer.byteLength(content),
          sha256: createHash('sha256').update(content).digest('hex'),
        }
      })
      move(id, {
        state: 'succeeded',
        stage: null,
        progress: null,
        finishedAt: now(),
        reportSha256: report === undefined ? null : writeReport(id, report),
        artifact: {
          files: job.files.map(({ name, sizeBytes, sha256 }) => ({ name, sizeBytes, sha256 })),
          requirementMet: null,
          reused: false,
        },
      })
    },
    expireArtifact(id) {
      find(jobs, id, 'job').files = []
      move(id, { artifact: null, artifactExpired: true })
    },
    fail(id, error, report) {
      move(id, {
        state: 'failed',
        stage: null,
        error,
        finishedAt: now(),
        reportSha256: report === undefined ? null : writeReport(id, report),
      })
    },
    models: {
      beginUpload: () =>
        beginUpload((files) => {
          if (fake.refuseModel) throw fake.refuseModel
          const id =
            files.length === 1
              ? files[0]!.sha256
              : createHash('sha256')
                  .update(JSON.stringify([...files].sort((a, b) => (a.name < b.name ? -1 : 1))))
                  .digest('hex')
          const known = models.get(id)
          if (known) return { view: known, created: false }
          const view: ModelView = {
            id,
            format: 'onnx',
            files,
            sizeBytes: files.reduce((sum, file) => sum + file.sizeBytes, 0),
            tensorCount: 2,
            parameterCount: 20,
            irVersion: 8,
            opset: 17,
            producer: 'test',
            inputs: [{ name: 'x', dtype: 'f32', shape: ['n', 4] }],
            outputs: [{ name: 'y', dtype: 'f32', shape: ['n', 4] }],
            metadata: {},
            alreadyCompressed: [],
            notes: [],
            createdAt: now(),
          }
          models.set(id, view)
          return { view, created: true }
        }),
      list: async (request) => page([...models.values()], request),
      get: async (id) => find(models, id, 'model'),
      async tensors(id, offset, limit) {
        find(models, id, 'model')
        const rows = ['w/0', 'b'].map((name) => ({
          name,
          dtype: 'f32' as const,
          shape: [4, 4],
          elements: 16,
          bytes: 64,
          roles: ['matmul' as const],
          uses: [{ op: 'MatMul', node: 'n', inputIndex: 1 }],
          locked: null,
        }))
        return { items: rows.slice(offset, offset + limit), total: rows.length }
      },
      async histogram(id, tensor, bins) {
        find(models, id, 'model')
        if (tensor !== 'w/0') throw new AppError('not_found', `The model has no tensor "${tensor}".`)
        return {
          tensor,
          bins: Array.from({ length: bins }, (_, index) => ({ from: index, to: index + 1, count: 1 })),
          elements: bins,
          zeros: 0,
          nonFinite: 0,
          min: 0,
          max: bins,
          device: FAKE_DEVICE,
        }
      },
      async delete(id) {
        find(models, id, 'model')
        if (inUse(id)) throw new AppError('conflict', `Model ${id} is in use by a job.`)
        models.delete(id)
      },
    },
    datasets: {
      beginUpload: () =>
        beginUpload(([file]) => {
          const known = datasets.get(file!.sha256)
          if (known) return { view: known, created: false }
          const arrays = [{ name: 'x', dtype: 'f32', shape: [8, 4] }]
          const view = { id: file!.sha256, file: file!, arrays, createdAt: now() }
          datasets.set(view.id, view)
          return { view, created: true }
        }),
      list: async (request) => page([...datasets.values()], request),
      get: async (id) => find(datasets, id, 'dataset'),
      async delete(id) {
        find(datasets, id, 'dataset')
        if (inUse(id)) throw new AppError('conflict', `Dataset ${id} is in use by a job.`)
        datasets.delete(id)
      },
    },
    // Tests of resumable uploads run on a real service (upload-app.ts).
    uploads: {
      expiryMs: 86_400_000,
      maxBytes: limits.uploadBytes,
      create: async () => Promise.reject(new Error('the fake service takes no resumable uploads')),
      get: async (id) => Promise.reject(new AppError('not_found', `There is no upload "${id}".`)),
      append: async () => Promise.reject(new Error('the fake service takes no resumable uploads')),
      finish: async () => Promise.reject(new Error('the fake service takes no resumable uploads')),
      commitSet: async () => Promise.reject(new AppError('not_found', 'There is no such upload.')),
      remove: async (id) => Promise.reject(new AppError('not_found', `There is no upload "${id}".`)),
    },
    plans: {
      async create({ modelId, recipe }) {
        find(models, modelId, 'model')
        return {
          recipe: resolved(recipe),
          format: 'onnx',
          tensors: [],
          bytesBefore: 80,
          bytesAfter: 40,
          outputFiles: [{ name: 'model.onnx', sizeBytes: 40 }],
          peakMemoryBytes: 1000,
          notes: [],
        }
      },
    },
    jobs: {
      async create(request, options) {
        find(models, request.modelId, 'model')
        const body = JSON.stringify(request)
        const owned = options?.idempotencyKey ? `${options.submittedBy ?? ''} ${options.idempotencyKey}` : null
        const known = owned === null ? undefined : keys.get(owned)
        if (known && known.body !== body) {
          throw new AppError('idempotency_key_reused', 'The key was used with another body.')
        }
        if (known) return { job: find(jobs, known.id, 'job').view, replayed: true }
        const view: JobView = {
          id: `job-${jobs.size + 1}`,
          state: 'queued',
          stage: null,
          progress: null,
          attempt: 1,
          modelId: request.modelId,
          datasetId: request.datasetId ?? null,
          submittedBy: options?.submittedBy ?? null,
          recipe: resolved(request.recipe),
          output: request.output ?? {},
          require: request.require ?? null,
          validate: request.validate ?? true,
          reportSha256: null,
          artifact: null,
          artifactExpired: false,
          webhook:
            request.webhook === undefined
              ? null
              : {
                  eventId: 'event-1',
                  origin: new URL(request.webhook.url).origin,
                  state: 'waiting',
                  attempts: 0,
                  lastStatus: null,
                  lastError: null,
                  lastAttemptAt: null,
                  nextAttemptAt: null,
                  deliveredAt: null,
                },
          error: null,
          createdAt: now(),
          startedAt: null,
          finishedAt: null,
        }
        fake.requests.push(request)
        jobs.set(view.id, { view, events: [], files: [], reportPath: '' })
        if (owned !== null) keys.set(owned, { body, id: view.id })
        move(view.id, {})
        fake.onCreate(view, request)
        return { job: find(jobs, view.id, 'job').view, replayed: false }
      },
      async list(request) {
        const all = [...jobs.values()]
          .map(({ view }) => view)
          .filter((view) => !request.state || view.state === request.state)
          .filter((view) => !request.modelId || view.modelId === request.modelId)
        return page(all, request)
      },
      get: async (id) => find(jobs, id, 'job').view,
      async cancel(id) {
        const { view } = find(jobs, id, 'job')
        if (isFinal(view.state)) throw new AppError('conflict', `Job ${id} is ${view.state}.`)
        move(id, { state: 'cancelled', finishedAt: now() })
        return find(jobs, id, 'job').view
      },
      async wait(id, timeoutMs, signal) {
        const deadline = performance.now() + timeoutMs
        for (;;) {
          const { view } = find(jobs, id, 'job')
          const left = deadline - performance.now()
          if (isFinal(view.state) || left <= 0 || signal?.aborted) return view
          await changed(signal, left)
        }
      },
      async *events(id, afterId, signal) {
        const job = find(jobs, id, 'job')
        let next = job.events.findIndex((event) => event.id > (afterId ?? 0))
        if (next === -1) next = job.events.length
        while (!signal.aborted) {
          while (next < job.events.length) yield job.events[next++]!
          if (isFinal(job.view.state)) return
          await changed(signal)
        }
      },
      async redeliverWebhook(id) {
        const { view } = find(jobs, id, 'job')
        if (view.webhook === null) throw new AppError('conflict', `Job ${id} has no webhook.`)
        if (!isFinal(view.state)) throw new AppError('conflict', `Job ${id} is ${view.state}.`)
        move(id, { webhook: { ...view.webhook, state: 'pending', nextAttemptAt: null } })
        return find(jobs, id, 'job').view
      },
      async report(id) {
        const { view, reportPath } = find(jobs, id, 'job')
        if (view.reportSha256 === null) throw new AppError('conflict', `Job ${id} has no report yet.`)
        return { path: reportPath, sizeBytes: statSync(reportPath).size, sha256: view.reportSha256 }
      },
      async artifactFiles(id, options) {
        const { view, files } = find(jobs, id, 'job')
        if (!isFinal(view.state)) throw new AppError('conflict', `Job ${id} is ${view.state}.`)
        if (view.artifact?.requirementMet === false && !options?.evenIfUnmet) {
          throw new AppError('requirement_not_met', 'The artifact does not meet its requirement.')
        }
        if (view.artifactExpired) throw new AppError('artifact_expired', `The artifact of job ${id} has expired.`)
        if (files.length === 0) throw new AppError('conflict', `Job ${id} has no artifact.`)
        return files
      },
    },
    async health() {
      return {
        ready: true,
        draining: false,
        worker: { up: true, device: FAKE_DEVICE, limits: null, restarts: 0, lastError: null, startSeconds: 0.3 },
        store: {
          writable: true,
          error: null,
          freeBytes: 5e9,
          minFreeBytes: 1e9,
          usage: { modelBytes: 4000, datasetBytes: 300, uploadBytes: 0, artifactBytes: 20, documentBytes: 1 },
          quotaBytes: 1e10,
        },
        webhooks: { pending: 3, dead: 1 },
        queue: { queued: 0, running: 0, limit: 256, oldestSeconds: 0 },
        children: [{ kind: 'gpu', pid: 1, rssBytes: 1e8 }],
        ...fake.healthChanges,
      }
    },
    async close() {
      fake.closed = true
    },
  }
  return fake
}

export const FAKE_DEVICE = {
  kind: 'webgpu' as const,
  adapter: 'llvmpipe (LLVM 19)',
  vendor: 'mesa',
  architecture: '',
  driver: 'Mesa 25.0.7',
  software: true,
}

function resolved(recipe: unknown) {
  if (recipe === 'nonsense') throw new AppError('recipe_invalid', 'There is no preset "nonsense".', { path: '' })
  const select = { names: ['**'], exclude: [], roles: [], minElements: 128 }
  const name = typeof recipe === 'string' ? recipe : 'own'
  return { version: 1 as const, name, steps: [{ method: 'quantize', params: {}, select }] }
}
