// POST /v1/compress: the whole path in one call, for a deployment pipeline. Model, dataset, recipe and requirement in one
// multipart body; waits for the job and streams the artifact with the figures of its report in headers. A job that takes
// longer than the client wants to wait goes on, and so does one whose client left: 202 and Location say where.

import type { Response } from 'express'
import { z } from 'zod'
import { DEFAULT_WAIT_SECONDS } from '../config.ts'
import { AppError } from '../errors.ts'
import { isFinal } from '../jobs/job.ts'
import type { JobView } from '../jobs/service.ts'
import type { Report } from '../validate/report.ts'
import { callerOf } from './access.ts'
import { FILE_HEADERS, onlyFile, sendFile } from './artifacts.ts'
import { EXAMPLE_JOB_ID, problemSchema } from './components.ts'
import type { HttpDeps } from './deps.ts'
import {
  ACCEPTED_HEADERS,
  IDEMPOTENCY_HEADER,
  JOB_CALLS,
  JOB_ERRORS,
  jobBody,
  jobSchema,
  readIdempotencyKey,
  requireInput,
  toJobRequest,
  webhookInput,
} from './jobs.ts'
import { FORMAT_ERRORS, missingPart, modelComesFirst, UPLOAD_ERRORS } from './models.ts'
import { receiveMultipart } from './multipart.ts'
import { outputInput } from './plans.ts'
import { parsePrefer } from './prefer.ts'
import { PROBLEM_TYPE, sendProblem } from './problem-json.ts'
import { readStored, reportSchema } from './reports.ts'
import { requestIdOf } from './request-context.ts'
import { clientSignal, type HeaderDoc, parse, type Route, sendJson } from './route.ts'

/** Text parts. `recipe` goes down as it is; the others may be JSON text. */
const FIELDS = ['recipe', 'require', 'output', 'validate', 'webhook'] as const

const fieldsSchema = z.object({
  recipe: z.string().trim().min(1, 'must not be empty'),
  require: requireInput.optional(),
  output: outputInput.optional(),
  validate: z.boolean().optional(),
  webhook: webhookInput.optional(),
})

const RESULT_HEADERS: Record<string, HeaderDoc> = {
  ...FILE_HEADERS,
  Location: { description: 'Path of the job.', example: `/v1/jobs/${EXAMPLE_JOB_ID}` },
  'Tensorpress-Report': { description: 'Path of the report.', example: `/v1/jobs/${EXAMPLE_JOB_ID}/report` },
  'Tensorpress-Report-Digest': { description: 'SHA-256 of the report, as in RFC 9530: `sha-256=:` base64 `:`.' },
  'Tensorpress-Verdict': { description: '`requirement_met`, `validated`, `attention` or `not_validated`.' },
  'Tensorpress-Size': {
    description: 'Bytes before and after, and their ratio.',
    example: 'before=578966, after=168404, ratio=0.2909',
  },
  'Tensorpress-Accuracy': {
    description: 'Each metric that was measured: value before, after, and the loss.',
    example: 'top1;before=0.9891;after=0.9889;loss=0.0002',
  },
  'Preference-Applied': { description: 'The wait that was granted.', example: 'wait=300' },
}

export function compressRoutes({ service, config, gate }: HttpDeps): Route[] {
  const { limits } = config
  return [
    {
      method: 'post',
      path: '/v1/compress',
      operationId: 'compress',
      scope: 'submit',
      tag: 'Compress',
      summary: 'Upload, compress, validate and download in one call',
      description: `Waits up to \`Prefer: wait=N\` seconds (default ${DEFAULT_WAIT_SECONDS}), then answers 202; \`Prefer: respond-async\` answers 202 at once. The job goes on when the client leaves. An artifact of several files answers 409 and lists them.`,
      headers: {
        Prefer: { description: 'RFC 7240: `wait=N` or `respond-async`.', example: 'wait=120' },
        ...IDEMPOTENCY_HEADER,
      },
      body: {
        description: 'Part `model` comes before the parts `data`; the other parts come in any order.',
        content: {
          'multipart/form-data': {
            schema: z.strictObject({
              model: z.string().meta({ format: 'binary', description: 'The main file.' }),
              data: z
                .array(z.string().meta({ format: 'binary' }))
                .optional()
                .meta({
                  description: 'External data files or shards, under the names by which the main file calls them.',
                }),
              dataset: z.string().meta({ format: 'binary', description: '.npz for validation.' }).optional(),
              recipe: z
                .string()
                .meta({ description: 'Preset, expression, or recipe as YAML or JSON.', examples: ['int8'] }),
              require: requireInput.optional(),
              output: outputInput.optional(),
              validate: z
                .enum(['true', 'false'])
                .optional()
                .meta({ description: '`false`: neither measure nor validate.' }),
              webhook: webhookInput.optional(),
            }),
          },
        },
      },
      responses: {
        200: {
          description: 'The artifact.',
          content: { 'application/octet-stream': { schema: null } },
          headers: RESULT_HEADERS,
        },
        202: {
          description: 'Not done yet: the job goes on.',
          content: { 'application/json': { schema: jobSchema } },
          headers: ACCEPTED_HEADERS,
          links: JOB_CALLS,
        },
        422: {
          description:
            'The requirement is not met; `report` is the full report. Or the model, dataset or recipe does not fit.',
          content: { [PROBLEM_TYPE]: { schema: problemSchema.extend({ report: reportSchema.optional() }) } },
          headers: ACCEPTED_HEADERS,
        },
      },
      errors: [
        ...UPLOAD_ERRORS,
        ...FORMAT_ERRORS,
        ...JOB_ERRORS,
        'dataset_invalid',
        'validation_failed',
        'requirement_not_met',
        'conflict',
        'cancelled',
        'stage_timeout',
        'device_unavailable',
        'device_lost',
        'gpu_memory_exceeded',
      ],
      async handle(request, response) {
        const prefer = parsePrefer(request.get('prefer'), limits.waitSeconds)
        const idempotencyKey = readIdempotencyKey(request.get('idempotency-key'))
        const { job } = await gate.run(request, response, async () => {
          const model = service.models.beginUpload()
          const dataset = service.datasets.beginUpload()
          return gate.receive([model, dataset], async () => {
            const seen = { model: false, dataset: false }
            const once = (part: keyof typeof seen) => {
              if (seen[part]) throw new AppError('request_invalid', `Part "${part}" comes twice.`, { path: part })
              seen[part] = true
            }
            const texts = await receiveMultipart(request, response, limits, {
              fields: FIELDS,
              files: {
                async model(name, stream) {
                  once('model')
                  await model.addFile(name, stream, null)
                },
                async data(name, stream) {
                  if (!seen.model) throw modelComesFirst()
                  await model.addFile(name, stream, null)
                },
                async dataset(name, stream) {
                  once('dataset')
                  await dataset.addFile(name, stream, null)
                },
              },
            })
            if (!seen.model) throw missingPart('model')
            const fields = readFields(texts)
            const stored = await model.commit()
            const data = seen.dataset ? await dataset.commit() : null
            if (!seen.dataset) await dataset.discard()
            return service.jobs.create(
              toJobRequest({ ...fields, model: stored.view.id, ...(data ? { dataset: data.view.id } : {}) }),
              { idempotencyKey, requestId: requestIdOf(response), submittedBy: callerOf(response)?.name ?? null },
            )
          })
        })
        response.locals['jobId'] = job.id
        response.location(`/v1/jobs/${job.id}`)
        if (prefer.applied) response.set('Preference-Applied', prefer.applied)
        const ended = await service.jobs.wait(job.id, prefer.waitSeconds * 1000, clientSignal(response))
        if (response.destroyed) return
        if (!isFinal(ended.state)) sendJson(response, 202, jobBody(ended))
        else if (ended.state === 'succeeded') await sendResult(response, ended)
        else await sendFailure(response, ended)
      },
    },
  ]

  async function sendResult(response: Response, job: JobView): Promise<void> {
    const files = await service.jobs.artifactFiles(job.id)
    const file = onlyFile(job.id, files)
    if (job.reportSha256 !== null) {
      const { path, sha256 } = await service.jobs.report(job.id)
      const report = JSON.parse((await readStored(path)).toString('utf8')) as Report
      response.set('Tensorpress-Report', `/v1/jobs/${job.id}/report`)
      response.set('Tensorpress-Report-Digest', `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`)
      response.set(digestOf(report))
    }
    await sendFile(response, file)
  }

  async function sendFailure(response: Response, job: JobView): Promise<void> {
    const error = job.error
      ? AppError.fromObject({ ...job.error, context: { ...job.error.context, job: `/v1/jobs/${job.id}` } })
      : new AppError('cancelled', 'The job was cancelled while this call waited.', { job: `/v1/jobs/${job.id}` })
    if (job.reportSha256 === null) return sendProblem(response, error)
    const { path } = await service.jobs.report(job.id)
    sendProblem(response, error, { report: JSON.parse((await readStored(path)).toString('utf8')) as Report })
  }
}

/** Short enough for a header, exact enough for a pipeline's log. */
function digestOf(report: Report): Record<string, string> {
  const { original, artifact, rawRatio } = report.sizes
  const metrics = Object.entries(report.metrics).map(([name, figure]) =>
    [
      name,
      ...(figure.before === null ? [] : [`before=${short(figure.before)}`]),
      ...(figure.after === null ? [] : [`after=${short(figure.after)}`]),
      `loss=${short(figure.loss.value)}`,
    ].join(';'),
  )
  return {
    'Tensorpress-Verdict': report.verdict.outcome,
    'Tensorpress-Size': `before=${original.rawBytes}, after=${artifact.rawBytes}, ratio=${short(rawRatio)}`,
    ...(metrics.length > 0 ? { 'Tensorpress-Accuracy': metrics.join(', ') } : {}),
  }
}

function short(value: number): string {
  return String(Number(value.toPrecision(4)))
}

function readFields(texts: Record<string, string>): z.output<typeof fieldsSchema> {
  if (texts['recipe'] === undefined) throw missingField('recipe')
  const require = texts['require']?.trim()
  return parse(
    fieldsSchema,
    {
      recipe: texts['recipe'],
      ...(require ? { require: /^[[{]/.test(require) ? readJson('require', require) : require } : {}),
      ...(texts['output'] === undefined ? {} : { output: readJson('output', texts['output']) }),
      ...(texts['validate'] === undefined ? {} : { validate: readJson('validate', texts['validate']) }),
      ...(texts['webhook'] === undefined ? {} : { webhook: readJson('webhook', texts['webhook']) }),
    },
    'body',
  )
}

function readJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause)
    throw new AppError('request_invalid', `Part "${name}" is not valid JSON: ${detail}`, { path: `body.${name}` })
  }
}

function missingField(name: string): AppError {
  return new AppError('request_invalid', `Part "${name}" is missing; name a preset such as int8, or give a recipe.`, {
    path: `body.${name}`,
  })
}
