// Schemas that several resources share, and the registry that gives each named schema its place in the OpenAPI document
// (#/components/schemas/<id>). `component` registers one.

import { z } from 'zod'
import { PAGE_SIZE } from '../config.ts'
import { ERROR_CODES, type ErrorCode } from '../errors.ts'
import type { Page, PageRequest } from '../jobs/service.ts'

export interface ComponentMeta {
  id: string
  description?: string
  examples?: unknown[]
}

export const components = z.registry<ComponentMeta>()

export function component<T extends z.ZodType>(id: string, description: string, schema: T, example?: unknown): T {
  components.add(schema, { id, description, ...(example === undefined ? {} : { examples: [example] }) })
  return schema
}

export const EXAMPLE_SHA256 = '3f5a0c1d9be47a2e8c60d1f4b7a92c35e18d04f6a7b3c9512e6d8f0a4b7c1d93'
export const EXAMPLE_TIME = '2026-11-22T17:30:00.000Z'
export const EXAMPLE_JOB_ID = '0192f3a4b5c67d8e'

export const sha256 = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hexadecimal digits')
  .meta({ description: 'SHA-256 in hexadecimal.' })
export const bytes = z.int().min(0)
export const time = z.iso.datetime().meta({ description: 'ISO 8601, UTC.' })

export const errorCode = z.enum(Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]])

export const errorObjectSchema = component(
  'Error',
  'Why a job failed: the same code, detail and context as in a problem document.',
  z.object({
    code: errorCode,
    detail: z.string(),
    context: z.record(z.string(), z.unknown()),
  }),
)

export const problemSchema = component(
  'Problem',
  'RFC 9457 problem document. `code` is stable; docs/errors.md lists all codes.',
  z.object({
    type: z.string().meta({ description: '`urn:tensorpress:error:` and the code.' }),
    title: z.string(),
    status: z.int(),
    detail: z.string().meta({ description: 'What was found, what is allowed, what to do.' }),
    instance: z.string().meta({ description: 'Path and query of the request.' }),
    code: errorCode,
    context: z.record(z.string(), z.unknown()).meta({ description: 'Figures behind the detail, by code.' }),
    requestId: z.string().meta({ description: 'Also in the X-Request-Id header and in every log line.' }),
  }),
  {
    type: 'urn:tensorpress:error:not_found',
    title: 'Not Found',
    status: 404,
    detail: 'There is no model 3f5a.',
    instance: '/v1/models/3f5a',
    code: 'not_found',
    context: {},
    requestId: 'f3b1c9c2-6f0e-4f57-9a6e-1f2f8f6f2a11',
  },
)

export const storedFileSchema = component(
  'StoredFile',
  'One file of a model, dataset or artifact.',
  z.object({ name: z.string(), sizeBytes: bytes, sha256 }),
  { name: 'model.onnx', sizeBytes: 578966, sha256: EXAMPLE_SHA256 },
)

export const deviceSchema = component(
  'Device',
  'The device that kernels run on, as its driver names it. `reference` is the scalar device: exact and slow.',
  z.object({
    kind: z.enum(['webgpu', 'reference']),
    adapter: z.string(),
    vendor: z.string(),
    architecture: z.string(),
    driver: z.string(),
    software: z.boolean(),
  }),
)

export const pageQuery = z.object({
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(PAGE_SIZE.max)
    .default(PAGE_SIZE.default)
    .meta({ description: 'Most items of the page.' }),
  cursor: z
    .string()
    .regex(/^[0-9]{1,15}$/, 'expected the `next` of a page of this server')
    .optional()
    .meta({ description: '`next` of the page before; absent: the first.' }),
})

export function pageRequest(query: z.output<typeof pageQuery>): PageRequest {
  return { limit: query.limit, cursor: query.cursor ?? null }
}

export function pageSchema<T extends z.ZodType>(id: string, item: T) {
  return component(
    id,
    'One page, newest first.',
    z.object({
      items: z.array(item),
      next: z.string().nullable().meta({ description: 'Cursor of the next page; null: this is the last.' }),
    }),
  )
}

export function mapPage<T, U>(page: Page<T>, map: (item: T) => U): Page<U> {
  return { items: page.items.map(map), next: page.next }
}
