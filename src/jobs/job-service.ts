// Jobs for the HTTP layer: accepts requests, shows jobs, follows them, hands out reports and artifacts. Entry:
// createJobService. What an attempt does is in job-attempt.ts, when it runs in job-queue.ts.

import { randomUUID } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { ArtifactStore } from '../store/artifact-store.ts'
import type { Catalog, JobRecord, ModelRecord } from '../store/catalog.ts'
import type { DatasetStore } from '../store/dataset-store.ts'
import type { ModelStore } from '../store/model-store.ts'
import type { StoreQuota } from '../store/store-quota.ts'
import { parseRequirements, type Requirement } from '../validate/requirement.ts'
import { artifactKey, digest } from './artifact-key.ts'
import { isFinal, type JobPayload, jobView } from './job.ts'
import type { JobEvents } from './job-events.ts'
import type { JobEngine } from './job-queue.ts'
import type { JobWebhooks } from './job-webhooks.ts'
import { resolveRequest } from './model-service.ts'
import type { JobRequest, JobService, JobView } from './service.ts'
import type { InspectChild } from './worker-pool.ts'

export interface JobServiceParts {
  catalog: Catalog
  models: ModelStore
  datasets: DatasetStore
  artifacts: ArtifactStore
  quota: StoreQuota
  inspect: InspectChild
  engine: JobEngine
  webhooks: JobWebhooks
  events: JobEvents
  /** Ends every follower when the service closes. */
  closing: AbortSignal
}

/** Keys are the client's; this bounds what they cost. */
const MAX_KEY_CHARACTERS = 255

export function createJobService(parts: JobServiceParts): JobService {
  const { catalog, models, datasets, artifacts, quota, inspect, engine, webhooks, events, closing } = parts

  async function record(id: string): Promise<JobRecord> {
    const found = await catalog.getJob(id)
    if (found === null) throw new AppError('not_found', `There is no job "${id}".`, { job: id })
    return found
  }

  async function show(job: JobRecord): Promise<JobView> {
    const artifact = job.artifactKey === null ? null : await catalog.getArtifact(job.artifactKey)
    return jobView(job, engine.progress(job.id), artifact, await catalog.getDelivery(job.id))
  }

  /** A job that cannot store its artifact is refused now rather than after the work. */
  async function requireRoom(model: ModelRecord, { recipe, output }: JobPayload): Promise<void> {
    if (quota.storeBytes === null) return
    const key = artifactKey(model.files, recipe, output)
    if ((await artifacts.find(key)) !== null) return
    // A recipe that cannot be planned fails when the job runs, with all that is known then.
    const plan = await inspect.plan(await models.sources(model), recipe, output).catch(() => null)
    const room = quota.open()
    try {
      await room.growTo(plan?.bytesAfter ?? model.sizeBytes)
    } finally {
      room.release()
    }
  }

  function requireFinal(job: JobRecord, what: string): void {
    if (isFinal(job.state)) return
    throw new AppError('conflict', `Job ${job.id} is ${job.state}: its ${what} exists once it has ended.`, {
      job: job.id,
      state: job.state,
    })
  }

  return {
    async create(request, options = {}) {
      const key = options.idempotencyKey ?? null
      if (key !== null && (key === '' || key.length > MAX_KEY_CHARACTERS)) {
        throw new AppError(
          'request_invalid',
          `Idempotency-Key has ${key.length} characters; 1 to ${MAX_KEY_CHARACTERS} are allowed.`,
          {
            path: 'Idempotency-Key',
          },
        )
      }
      const submittedBy = options.submittedBy ?? null
      // Before anything is looked at that may have changed since: the model may be gone by now, or the store full.
      const known = key === null ? null : await catalog.findReplay(submittedBy, key)
      if (known?.fingerprint === fingerprint(request)) return { job: await show(known.job), replayed: true }
      const model = await models.get(request.modelId)
      const datasetId = request.datasetId ?? null
      const dataset = datasetId === null ? null : await datasets.get(datasetId)
      const payload = resolvePayload(request, model, options.requestId ?? null)
      if (dataset !== null) await inspect.matchDataset(await datasets.pathOf(dataset), model.summary)
      await requireRoom(model, payload)
      const id = randomUUID()
      const added = {
        id,
        modelId: model.id,
        datasetId,
        submittedBy,
        payload,
        webhook: request.webhook === undefined ? null : await webhooks.accept(request.webhook, id),
        createdAt: new Date().toISOString(),
      }
      const { job, replayed } = await engine.enqueue(
        added,
        key === null ? null : { key, fingerprint: fingerprint(request) },
      )
      return { job: await show(job), replayed }
    },
    async list({ limit, cursor, state, modelId }) {
      const page = await catalog.listJobs({ limit, cursor, state: state ?? null, modelId: modelId ?? null })
      return { items: await Promise.all(page.items.map(show)), next: page.next }
    },
    get: async (id) => show(await record(id)),
    cancel: async (id) => show(await engine.cancel(id)),
    async wait(id, timeoutMs, signal) {
      const limits = [closing, AbortSignal.timeout(Math.max(0, timeoutMs)), ...(signal === undefined ? [] : [signal])]
      const current = async () => show(await record(id))
      for await (const { job } of events.follow(id, null, AbortSignal.any(limits), current)) {
        if (isFinal(job.state)) return job
      }
      return current()
    },
    async *events(id, afterId, signal) {
      yield* events.follow(id, afterId, AbortSignal.any([closing, signal]), async () => show(await record(id)))
    },
    async redeliverWebhook(id) {
      const job = await record(id)
      await webhooks.redeliver(job.id)
      return show(job)
    },
    async report(id) {
      const job = await record(id)
      requireFinal(job, 'report')
      if (job.reportSha256 !== null) return artifacts.locateDocument(job.reportSha256)
      throw new AppError(
        'not_found',
        `Job ${id} ended without a report (${job.state}): it has no result to report on.`,
        {
          job: id,
          error: job.error,
        },
      )
    },
    async artifactFiles(id, options = {}) {
      const job = await record(id)
      requireFinal(job, 'artifact')
      const artifact = job.artifactKey === null ? null : await catalog.getArtifact(job.artifactKey)
      if (artifact === null && job.artifactKey !== null) {
        throw new AppError(
          'artifact_expired',
          `The artifact of job ${id} has expired; its report is still there. The same job makes the same bytes again.`,
          { job: id },
        )
      }
      if (artifact === null) {
        throw new AppError('conflict', `Job ${id} ended without an artifact (${job.state}).`, {
          job: id,
          state: job.state,
          error: job.error,
        })
      }
      if (job.state !== 'succeeded' && options.evenIfUnmet !== true) {
        throw new AppError(
          'requirement_not_met',
          `The artifact of job ${id} does not meet its requirement. The report says by how much; ask for it explicitly to get it all the same.`,
          { job: id },
        )
      }
      await artifacts.touch(artifact.key)
      return artifacts.locate(artifact)
    },
  }
}

function resolvePayload(request: JobRequest, model: ModelRecord, requestId: string | null): JobPayload {
  const { recipe, output, require } = resolveRequest(request, model)
  const requirements = parseRequirements(request.require ?? require)
  const validate = request.validate ?? true
  if (!validate && requirements.some(needsValidation)) {
    throw new AppError(
      'request_invalid',
      'validate is false, and the requirement needs validation: only maxSizeRatio can be judged without it.',
      { path: 'validate' },
    )
  }
  if (request.datasetId && model.summary.format !== 'onnx') {
    throw new AppError('request_invalid', `A ${model.summary.format} model has no graph to run a dataset through.`, {
      path: 'dataset',
    })
  }
  return { recipe, output, requirements, validate, requestId }
}

function needsValidation({ metric, maxLatencyRatio }: Requirement): boolean {
  return metric !== undefined || maxLatencyRatio !== undefined
}

/** Of what the client sent, not of what it resolves to: the key promises "the same request". */
function fingerprint({ modelId, datasetId, recipe, output, require, validate, webhook }: JobRequest): string {
  const asked = [modelId, datasetId ?? null, recipe, output ?? null, require ?? null, validate ?? true]
  return digest(webhook === undefined ? asked : [...asked, webhook.url, webhook.secret ?? null])
}
