// GET /v1/jobs/{id}/report: the stored JSON as it is (ETag = its SHA-256), or one self-contained page for `Accept: text/html`.

import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { AppError } from '../errors.ts'
import type { Report } from '../validate/report.ts'
import { component } from './components.ts'
import type { HttpDeps } from './deps.ts'
import { jobId } from './jobs.ts'
import { resolvedRecipeSchema } from './plans.ts'
import { pathParam, type Route } from './route.ts'
import { REPORT_PAGE_POLICY } from './security-headers.ts'
import { sendBytes } from './send-bytes.ts'

const sizeSchema = z.object({
  rawBytes: z.int(),
  zstdBytes: z.int().nullable(),
  zstdSampled: z.boolean().meta({ description: 'true: zstd ran on a sample and the figure is scaled up.' }),
})

/** The outline; docs/api.md shows a whole report. Objects may hold more than is listed here. */
export const reportSchema = component(
  'Report',
  'Everything measured about one job, and everything needed to make the same bytes again.',
  z.looseObject({
    reportVersion: z.literal(1),
    jobId: z.string(),
    attempt: z.int(),
    createdAt: z.string(),
    verdict: z.object({
      outcome: z.enum(['requirement_met', 'requirement_not_met', 'validated', 'attention', 'not_validated']),
      sentence: z.string(),
    }),
    recipe: resolvedRecipeSchema,
    sizes: z.looseObject({
      original: sizeSchema,
      artifact: sizeSchema,
      rawRatio: z.number().meta({ description: 'artifact / original; smaller is better.' }),
      zstdRatio: z.number().nullable(),
    }),
    artifact: z.looseObject({ files: z.array(z.looseObject({ name: z.string(), sizeBytes: z.int() })) }),
    tensors: z.array(z.looseObject({ name: z.string(), action: z.enum(['keep', 'compress']) })),
    validation: z.looseObject({ kind: z.enum(['run', 'read-back']) }).nullable(),
    metrics: z.record(z.string(), z.unknown()),
    requirement: z.looseObject({ met: z.boolean(), checks: z.array(z.unknown()) }).nullable(),
    device: z.looseObject({ kind: z.string(), adapter: z.string(), driver: z.string() }),
    versions: z.looseObject({ tensorpress: z.string(), node: z.string() }),
    seeds: z.looseObject({}),
    performance: z.looseObject({}),
    reproduce: z.looseObject({ command: z.string() }),
    warnings: z.array(z.string()),
  }),
)

export function reportRoutes({ service }: HttpDeps): Route[] {
  return [
    {
      method: 'get',
      path: '/v1/jobs/{id}/report',
      operationId: 'getReport',
      scope: 'read',
      tag: 'Jobs',
      summary: 'Report of a job',
      description:
        'JSON, or one self-contained page for `Accept: text/html`. A job that failed its requirement has one too.',
      params: { id: jobId },
      headers: { Accept: { description: '`application/json` (default) or `text/html`.', example: 'text/html' } },
      responses: {
        200: {
          description: 'The report.',
          content: { 'application/json': { schema: reportSchema }, 'text/html': { schema: null } },
          headers: {
            ETag: { description: 'SHA-256 of the JSON, quoted; of the page: weak.' },
            'Repr-Digest': { description: 'RFC 9530, of the JSON.' },
          },
        },
        304: { description: 'The ETag is the one in If-None-Match.' },
      },
      errors: ['not_found', 'conflict', 'store_failed'],
      async handle(request, response) {
        const { path, sha256 } = await service.jobs.report(pathParam(request, 'id'))
        // Browsers name text/html first; clients that take anything get JSON.
        const html = request.accepts(['application/json', 'text/html']) === 'text/html'
        response.vary('Accept').set('Cache-Control', 'private, no-cache')
        response.set('ETag', html ? `W/"${sha256}-html"` : `"${sha256}"`)
        if (request.fresh) {
          response.status(304).end()
          return
        }
        const json = await readStored(path)
        if (html) {
          // Loaded when first asked for: most servers are only talked to by programs.
          const { renderReportHtml } = await import('../validate/report-html.ts')
          const page = renderReportHtml(JSON.parse(json.toString('utf8')) as Report)
          response.set('Content-Security-Policy', REPORT_PAGE_POLICY).type('text/html')
          sendBytes(response, Buffer.from(page))
          return
        }
        response.set('Repr-Digest', `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`)
        response.type('application/json')
        sendBytes(response, json)
      },
    },
  ]
}

/** Bytes of a stored report. Throws store_failed when the file is gone. */
export async function readStored(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    throw new AppError('store_failed', 'The report is in the catalogue, but its file cannot be read.', {}, cause)
  }
}
