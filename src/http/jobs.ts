// /v1/jobs: create (durable when answered), list, describe, cancel. The event stream is in job-events.ts, what a finished
// job gives in artifacts.ts and reports.ts.

import { z } from 'zod'
import { AppError } from '../errors.ts'
import { isFinal } from '../jobs/job.ts'
import type { JobRequest, JobView } from '../jobs/service.ts'
import { SECRET_CHARACTERS } from '../webhooks/signature.ts'
import { type Caller, callerOf, mayUse } from './access.ts'
import {
  bytes,
  component,
  EXAMPLE_JOB_ID,
  EXAMPLE_SHA256,
  EXAMPLE_TIME,
  errorObjectSchema,
  mapPage,
  pageQuery,
  pageRequest,
  pageSchema,
  sha256,
  storedFileSchema,
  time,
} from './components.ts'
import type { HttpDeps } from './deps.ts'
import { defined, outputInput, recipeInput, resolvedRecipeSchema } from './plans.ts'
import { requestIdOf } from './request-context.ts'
import { type HeaderDoc, parse, parseQuery, pathParam, type Route, sendJson } from './route.ts'

export const JOB_STATES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const

const requirementInput = component(
  'Requirement',
  'What the artifact must keep to; judged on point estimates. Metrics but the ratios need a dataset or run on synthetic inputs.',
  z.looseObject({
    metric: z.enum(['top1', 'top5', 'f1', 'f1_macro', 'agreement', 'cosine', 'sqnr_db', 'mse']).optional(),
    maxDrop: z.number().optional().meta({ description: 'Largest loss, absolute: 0.01 is one point.' }),
    min: z.number().optional().meta({ description: 'Smallest value of the metric.' }),
    maxSizeRatio: z.number().optional().meta({ description: 'Largest artifact bytes / model bytes.' }),
    maxLatencyRatio: z.number().optional().meta({ description: 'Largest median latency, artifact / model.' }),
  }),
  { metric: 'top1', maxDrop: 0.01 },
)

export const requireInput = z.union([z.string().min(1), requirementInput, z.array(requirementInput)]).meta({
  description: 'One requirement, several, or text such as `metric=top1,maxDrop=0.01`.',
})

export const webhookInput = z
  .strictObject({
    url: z
      .string()
      .regex(/^https?:\/\//i, 'must begin with https://')
      .max(2048)
      .meta({ description: 'https, to a public address unless the operator allows others.' }),
    secret: z
      .string()
      .min(SECRET_CHARACTERS.min)
      .max(SECRET_CHARACTERS.max)
      .optional()
      .meta({ description: 'Signs the delivery; never shown again. Absent: the secret of the server.' }),
  })
  .meta({ description: 'Told when the job has ended, by a signed POST that is tried again until it is answered 2xx.' })

const webhookSchema = component(
  'Webhook',
  'How the delivery of the webhook stands.',
  z.object({
    eventId: z.string().meta({ description: 'The receiver sees every attempt under this id.' }),
    origin: z.string().meta({ description: 'Scheme, host and port; the rest of the URL is not shown.' }),
    state: z.enum(['waiting', 'pending', 'delivered', 'dead']).meta({
      description: 'waiting: the job has not ended; pending: due, or to be tried again; dead: given up.',
    }),
    attempts: z.int(),
    lastStatus: z.int().nullable().meta({ description: 'Status of the last answer; null: none came.' }),
    lastError: z.string().nullable(),
    lastAttemptAt: time.nullable(),
    nextAttemptAt: time.nullable().meta({ description: 'Of a pending one null: at once.' }),
    deliveredAt: time.nullable(),
  }),
)

const jobRequest = component(
  'JobRequest',
  'What to compress and how.',
  z.strictObject({
    model: sha256.meta({ description: 'Model id.' }),
    recipe: recipeInput,
    dataset: sha256.nullable().optional().meta({ description: 'Dataset id; absent: synthetic inputs.' }),
    require: requireInput.optional(),
    output: outputInput.optional(),
    validate: z
      .boolean()
      .optional()
      .meta({ description: 'false: the artifact is neither measured nor validated. Default: true.' }),
    webhook: webhookInput.optional(),
  }),
  { model: EXAMPLE_SHA256, recipe: 'int8', require: { metric: 'top1', maxDrop: 0.01 } },
)

export const JOB_CALLS = ['getJob', 'followJob', 'getReport', 'getArtifact', 'listArtifacts', 'cancelJob'] as const

export const jobSchema = component(
  'Job',
  'One compression. `stage` and `progress` are null unless it runs.',
  z.object({
    id: z.string(),
    state: z.enum(JOB_STATES),
    stage: z.enum(['opening', 'calibrating', 'encoding', 'measuring', 'validating', 'publishing']).nullable(),
    progress: z.object({ doneBytes: bytes, totalBytes: bytes, tensor: z.string().nullable() }).nullable(),
    attempt: z.int().meta({ description: '1 for the first; grows only when a child process died under the job.' }),
    model: sha256,
    dataset: sha256.nullable(),
    submittedBy: z.string().nullable().meta({ description: 'Name of the API key that asked for it; null: no keys.' }),
    recipe: resolvedRecipeSchema,
    output: z.record(z.string(), z.unknown()),
    require: z.unknown(),
    validate: z.boolean(),
    artifact: z
      .object({
        files: z.array(storedFileSchema),
        requirementMet: z.boolean().nullable().meta({ description: 'null: none was set.' }),
        reused: z.boolean().meta({ description: 'true: the artifact was in the store already.' }),
      })
      .nullable(),
    webhook: webhookSchema.nullable().meta({ description: 'null: none was asked for.' }),
    artifactExpired: z.boolean().meta({ description: 'true: there was an artifact, and retention has removed it.' }),
    reportSha256: sha256.nullable(),
    error: errorObjectSchema.nullable(),
    createdAt: time,
    startedAt: time.nullable(),
    finishedAt: time.nullable(),
    links: z.object({
      self: z.string(),
      events: z.string(),
      report: z.string().nullable(),
      artifact: z.string().nullable(),
      artifacts: z.string().nullable(),
    }),
  }),
  {
    id: EXAMPLE_JOB_ID,
    state: 'running',
    stage: 'encoding',
    progress: { doneBytes: 4194304, totalBytes: 10822323, tensor: 'conv2d_12.w_0' },
    attempt: 1,
    model: EXAMPLE_SHA256,
    dataset: null,
    submittedBy: 'ci',
    recipe: {
      version: 1,
      name: 'fp16',
      steps: [
        {
          method: 'cast',
          params: { dtype: 'fp16' },
          select: { names: ['**'], exclude: [], roles: ['matmul', 'gemm', 'conv'], minElements: 128 },
        },
      ],
    },
    output: {},
    require: null,
    validate: true,
    artifact: null,
    artifactExpired: false,
    webhook: null,
    reportSha256: null,
    error: null,
    createdAt: EXAMPLE_TIME,
    startedAt: EXAMPLE_TIME,
    finishedAt: null,
    links: {
      self: `/v1/jobs/${EXAMPLE_JOB_ID}`,
      events: `/v1/jobs/${EXAMPLE_JOB_ID}/events`,
      report: null,
      artifact: null,
      artifacts: null,
    },
  },
)

const jobPageSchema = pageSchema('JobPage', jobSchema)

const listQuery = pageQuery.extend({
  state: z.enum(JOB_STATES).optional(),
  model: sha256.optional().meta({ description: 'Only jobs of this model.' }),
})

/** Printable ASCII, as RFC draft "Idempotency-Key" has it in practice; long enough for a UUID with a prefix. */
const idempotencyKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,255}$/, 'expected 1 to 255 printable characters without spaces')
  .optional()

export function jobBody(view: JobView): z.output<typeof jobSchema> {
  const self = `/v1/jobs/${view.id}`
  const { artifact } = view
  const files = artifact?.files.length ?? 0
  // What misses its requirement is only given to who says that they want it.
  const unmet = artifact?.requirementMet === false ? '?evenIfUnmet=true' : ''
  return {
    id: view.id,
    state: view.state,
    stage: view.stage,
    progress: view.progress,
    attempt: view.attempt,
    error: view.error,
    model: view.modelId,
    dataset: view.datasetId,
    submittedBy: view.submittedBy,
    recipe: view.recipe,
    require: view.require,
    output: { ...view.output },
    validate: view.validate,
    artifact,
    artifactExpired: view.artifactExpired,
    webhook: view.webhook,
    reportSha256: view.reportSha256,
    createdAt: view.createdAt,
    startedAt: view.startedAt,
    finishedAt: view.finishedAt,
    links: {
      self,
      events: `${self}/events`,
      report: view.reportSha256 === null ? null : `${self}/report`,
      artifact: files === 1 ? `${self}/artifact${unmet}` : null,
      artifacts: files > 0 ? `${self}/artifacts${unmet}` : null,
    },
  }
}

/** The service's form of a client's request; what is absent stays absent. */
export function toJobRequest(body: z.output<typeof jobRequest>): JobRequest {
  const output = defined(body.output)
  return {
    modelId: body.model,
    recipe: body.recipe,
    ...(body.dataset === undefined ? {} : { datasetId: body.dataset }),
    ...(body.require === undefined ? {} : { require: body.require }),
    ...(output === undefined ? {} : { output }),
    ...(body.validate === undefined ? {} : { validate: body.validate }),
    ...(body.webhook === undefined ? {} : { webhook: body.webhook }),
  }
}

export const jobId = { description: 'Job id.', example: EXAMPLE_JOB_ID }
export const JOB_ERRORS = [
  'recipe_invalid',
  'not_found',
  'idempotency_key_reused',
  'queue_full',
  'too_many_jobs',
  'disk_full',
  'store_quota_exceeded',
  'webhook_target_forbidden',
  'store_failed',
  'shutting_down',
] as const
export const ACCEPTED_HEADERS: Record<string, HeaderDoc> = {
  Location: { description: 'Path of the job.', example: `/v1/jobs/${EXAMPLE_JOB_ID}` },
}
export const IDEMPOTENCY_HEADER: Record<string, HeaderDoc> = {
  'Idempotency-Key': {
    description: 'The same key with the same body gives the same job, with another body an error.',
    example: 'release-42-int8',
    schema: { type: 'string', pattern: '^[!-~]{1,255}$' },
  },
}

export function readIdempotencyKey(header: string | undefined): string | null {
  return (
    parse(z.object({ 'Idempotency-Key': idempotencyKey }), { 'Idempotency-Key': header }, 'header')[
      'Idempotency-Key'
    ] ?? null
  )
}

/** Throws forbidden unless the caller's key asked for the job. */
function refuseForeign({ id, submittedBy }: JobView, caller: Caller | null): void {
  if (caller !== null && submittedBy === caller.name) return
  throw new AppError(
    'forbidden',
    `Job ${id} was not submitted by API key "${caller?.name}"; changing it needs a key with scope "admin".`,
    { scope: 'admin', key: caller?.name, job: id },
  )
}

export function jobRoutes({ service }: HttpDeps): Route[] {
  return [
    {
      method: 'post',
      path: '/v1/jobs',
      operationId: 'createJob',
      scope: 'submit',
      tag: 'Jobs',
      summary: 'Compress a stored model',
      description:
        'The job is on disk when this answers, and survives a crash of any process. An artifact that exists for the same model, recipe, output options and version is used again.',
      headers: IDEMPOTENCY_HEADER,
      body: { description: 'Model, recipe and requirement.', content: { 'application/json': { schema: jobRequest } } },
      responses: {
        202: {
          description: 'Accepted.',
          content: { 'application/json': { schema: jobSchema } },
          headers: {
            ...ACCEPTED_HEADERS,
            'Idempotency-Replayed': { description: '`true` when the key was seen before and this is that job.' },
          },
          links: JOB_CALLS,
        },
      },
      errors: [
        'request_invalid',
        'content_type_unsupported',
        'body_too_large',
        'dataset_invalid',
        'feature_unsupported',
        ...JOB_ERRORS,
      ],
      async handle(request, response) {
        const body = parse(jobRequest, request.body, 'body')
        const key = readIdempotencyKey(request.get('idempotency-key'))
        const { job, replayed } = await service.jobs.create(toJobRequest(body), {
          idempotencyKey: key,
          requestId: requestIdOf(response),
          submittedBy: callerOf(response)?.name ?? null,
        })
        response.locals['jobId'] = job.id
        if (replayed) response.set('Idempotency-Replayed', 'true')
        response.location(`/v1/jobs/${job.id}`)
        sendJson(response, 202, jobBody(job))
      },
    },
    {
      method: 'get',
      path: '/v1/jobs',
      operationId: 'listJobs',
      scope: 'read',
      tag: 'Jobs',
      summary: 'List jobs',
      query: listQuery,
      responses: { 200: { description: 'A page.', content: { 'application/json': { schema: jobPageSchema } } } },
      errors: ['request_invalid'],
      async handle(request, response) {
        const query = parseQuery(listQuery, request)
        const page = await service.jobs.list({
          ...pageRequest(query),
          state: query.state ?? null,
          modelId: query.model ?? null,
        })
        sendJson(response, 200, mapPage(page, jobBody))
      },
    },
    {
      method: 'get',
      path: '/v1/jobs/{id}',
      operationId: 'getJob',
      scope: 'read',
      tag: 'Jobs',
      summary: 'State of a job',
      params: { id: jobId },
      responses: {
        200: {
          description: 'The job.',
          content: { 'application/json': { schema: jobSchema } },
          headers: {
            'Retry-After': { description: 'Seconds to wait before asking again, while the job is not final.' },
          },
        },
      },
      errors: ['not_found'],
      async handle(request, response) {
        const job = await service.jobs.get(pathParam(request, 'id'))
        if (!isFinal(job.state)) response.set('Retry-After', '1')
        sendJson(response, 200, jobBody(job))
      },
    },
    {
      method: 'delete',
      path: '/v1/jobs/{id}',
      operationId: 'cancelJob',
      scope: 'submit',
      tag: 'Jobs',
      summary: 'Cancel a job',
      description:
        'Answers when the job has stopped, within about a second. A job that is final cannot be cancelled (409, also when it succeeds in that moment), and one of another API key only with scope `admin`.',
      params: { id: jobId },
      responses: {
        200: { description: 'The cancelled job.', content: { 'application/json': { schema: jobSchema } } },
      },
      errors: ['not_found', 'conflict', 'store_failed'],
      async handle(request, response) {
        const id = pathParam(request, 'id')
        if (!mayUse(response, 'admin')) refuseForeign(await service.jobs.get(id), callerOf(response))
        sendJson(response, 200, jobBody(await service.jobs.cancel(id)))
      },
    },
    {
      method: 'post',
      path: '/v1/jobs/{id}/webhook/redeliver',
      operationId: 'redeliverWebhook',
      scope: 'submit',
      tag: 'Jobs',
      summary: 'Deliver the webhook of an ended job again',
      description:
        'At once, under the same event id and with all its attempts before it; also after it was given up, but not once it was delivered (409: its URL is forgotten with that), nor for a job without one (409). That of a job of another API key only with scope `admin`.',
      params: { id: jobId },
      responses: {
        202: { description: 'The delivery is due.', content: { 'application/json': { schema: jobSchema } } },
      },
      errors: ['not_found', 'conflict', 'store_failed'],
      async handle(request, response) {
        const id = pathParam(request, 'id')
        if (!mayUse(response, 'admin')) refuseForeign(await service.jobs.get(id), callerOf(response))
        sendJson(response, 202, jobBody(await service.jobs.redeliverWebhook(id)))
      },
    },
  ]
}
