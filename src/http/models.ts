// /v1/models: upload (multipart or raw), list, describe, tensor table, weight histogram, delete. Bytes are hashed and stored
// here and looked at in the inspect child only.

import type { Request, Response } from 'express'
import { z } from 'zod'
import { PAGE_SIZE } from '../config.ts'
import { AppError } from '../errors.ts'
import type { ModelView } from '../jobs/service.ts'
import { DTYPES, type DType } from '../tensor/dtype.ts'
import { SKIP_REASONS, type SkipReason } from '../tensor/model.ts'
import {
  bytes,
  component,
  deviceSchema,
  EXAMPLE_SHA256,
  EXAMPLE_TIME,
  mapPage,
  pageQuery,
  pageRequest,
  pageSchema,
  sha256,
  storedFileSchema,
  time,
} from './components.ts'
import type { HttpDeps } from './deps.ts'
import { receiveMultipart } from './multipart.ts'
import { parseQuery, pathParam, type Route, sendJson } from './route.ts'
import { declaredBytes } from './upload-gate.ts'

const MAX_BINS = 4096
/** Beyond every table of tensors. */
const MAX_OFFSET = 2 ** 31 - 1
const DEFAULT_BINS = 64

export const dtype = z.enum(Object.keys(DTYPES) as [DType, ...DType[]])
export const skipReason = z.enum(Object.keys(SKIP_REASONS) as [SkipReason, ...SkipReason[]])

const portSchema = component(
  'GraphValue',
  'An input or output of the graph; a dynamic dimension is its name.',
  z.object({ name: z.string(), dtype: z.string(), shape: z.array(z.union([z.int(), z.string()])) }),
)

export const modelSchema = component(
  'Model',
  'A stored model. `id` is the SHA-256 of the file; of several files, SHA-256 over the sorted list of name and sha256.',
  z.object({
    id: sha256,
    format: z.enum(['onnx', 'safetensors']).meta({ description: 'Recognised by content.' }),
    files: z.array(storedFileSchema),
    sizeBytes: bytes,
    tensorCount: z.int(),
    parameterCount: z.int().meta({ description: 'Elements of all tensors.' }),
    irVersion: z.int().nullable(),
    opset: z.int().nullable(),
    producer: z.string().nullable(),
    inputs: z.array(portSchema),
    outputs: z.array(portSchema),
    metadata: z.record(z.string(), z.string()),
    alreadyCompressed: z.array(z.string()).meta({ description: 'Compressed forms found; empty: plain float.' }),
    notes: z.array(z.string()),
    createdAt: time,
    links: z.object({ self: z.string(), tensors: z.string() }),
  }),
  {
    id: EXAMPLE_SHA256,
    format: 'onnx',
    files: [{ name: 'mnist.onnx', sizeBytes: 26454, sha256: EXAMPLE_SHA256 }],
    sizeBytes: 26454,
    tensorCount: 8,
    parameterCount: 5998,
    irVersion: 3,
    opset: 8,
    producer: 'CNTK',
    inputs: [{ name: 'Input3', dtype: 'f32', shape: [1, 1, 28, 28] }],
    outputs: [{ name: 'Plus214_Output_0', dtype: 'f32', shape: [1, 10] }],
    metadata: {},
    alreadyCompressed: [],
    notes: [],
    createdAt: EXAMPLE_TIME,
    links: { self: `/v1/models/${EXAMPLE_SHA256}`, tensors: `/v1/models/${EXAMPLE_SHA256}/tensors` },
  },
)

const tensorSchema = component(
  'Tensor',
  'One tensor of a model, and how its graph uses it.',
  z.object({
    name: z.string(),
    dtype,
    shape: z.array(z.int()),
    elements: z.int(),
    bytes,
    roles: z.array(z.string()),
    uses: z.array(z.object({ op: z.string(), node: z.string(), inputIndex: z.int() })),
    locked: z.object({ reason: skipReason, detail: z.string() }).nullable().meta({
      description: 'Why no recipe can touch it; null: one can.',
    }),
  }),
)

const tensorPageSchema = component(
  'TensorPage',
  'Tensors in file order.',
  z.object({ items: z.array(tensorSchema), total: z.int(), offset: z.int(), limit: z.int() }),
)

const histogramSchema = component(
  'Histogram',
  'Exact counts of the values of one tensor in equal bins from min to max, counted on the device.',
  z.object({
    tensor: z.string(),
    bins: z.array(z.object({ from: z.number(), to: z.number(), count: z.int() })),
    elements: z.int(),
    zeros: z.int(),
    nonFinite: z.int(),
    min: z.number(),
    max: z.number(),
    device: deviceSchema,
  }),
)

const modelPageSchema = pageSchema('ModelPage', modelSchema)

const tensorQuery = z.object({
  offset: z.coerce
    .number()
    .int()
    .min(0)
    .max(MAX_OFFSET)
    .default(0)
    .meta({ description: 'Tensors to leave out at the start.' }),
  limit: z.coerce.number().int().min(1).max(PAGE_SIZE.max).default(PAGE_SIZE.default),
})

const histogramQuery = z.object({
  tensor: z.string().min(1).meta({ description: 'Name of the tensor; names may hold `/`.' }),
  bins: z.coerce.number().int().min(1).max(MAX_BINS).default(DEFAULT_BINS),
})

export function modelBody(view: ModelView): z.output<typeof modelSchema> {
  const self = `/v1/models/${view.id}`
  return { ...view, links: { self, tensors: `${self}/tensors` } }
}

const LOCATION = { Location: { description: 'Path of the model.', example: `/v1/models/${EXAMPLE_SHA256}` } }
const MODEL_CALLS = ['getModel', 'listTensors', 'getHistogram', 'deleteModel'] as const
export const STORED = {
  201: {
    description: 'Stored.',
    content: { 'application/json': { schema: modelSchema } },
    headers: LOCATION,
    links: MODEL_CALLS,
  },
  200: {
    description: 'The same content was stored before; the same id.',
    content: { 'application/json': { schema: modelSchema } },
    headers: LOCATION,
    links: MODEL_CALLS,
  },
}
export const UPLOAD_ERRORS = [
  'request_invalid',
  'content_type_unsupported',
  'body_too_large',
  'too_many_uploads',
  'limit_exceeded',
  'disk_full',
  'store_quota_exceeded',
  'store_failed',
  'request_timeout',
  'shutting_down',
] as const
export const FORMAT_ERRORS = [
  'format_unrecognised',
  'format_truncated',
  'format_invalid',
  'external_data_invalid',
  'dtype_unsupported',
  'opset_unsupported',
  'feature_unsupported',
  'worker_crashed',
  'worker_timeout',
] as const

/** One component of a path, no control characters, not `.` or `..`; in UTF-8 at most 255 bytes. */
const FILE_NAME_PATTERN = '^(?!\\.{1,2}$)[^/\\\\\\u0000-\\u001f\\u007f]{1,255}$'

const id = { description: 'Model id (SHA-256).', example: EXAMPLE_SHA256 }

export function modelRoutes({ service, config, gate }: HttpDeps): Route[] {
  const { limits } = config

  const store = async (
    request: Request,
    response: Response,
    fill: (upload: ReturnType<typeof service.models.beginUpload>) => Promise<void>,
  ) =>
    gate.run(request, response, async () => {
      const upload = service.models.beginUpload()
      return gate.receive([upload], async () => {
        await fill(upload)
        return upload.commit()
      })
    })

  return [
    {
      method: 'post',
      path: '/v1/models',
      operationId: 'uploadModel',
      scope: 'submit',
      tag: 'Models',
      summary: 'Upload a model (multipart)',
      description:
        'Part `model` is the main file and comes first; parts `data` are external data files or shards, under the names by which the main file calls them. The format is recognised by content.',
      body: {
        description: 'One part `model`, any number of parts `data`.',
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
            }),
          },
        },
      },
      responses: STORED,
      errors: [...UPLOAD_ERRORS, ...FORMAT_ERRORS],
      async handle(request, response) {
        const { view, created } = await store(request, response, async (upload) => {
          let main = false
          await receiveMultipart(request, response, limits, {
            fields: [],
            files: {
              async model(name, stream) {
                if (main) throw new AppError('request_invalid', 'Part "model" comes twice.', { path: 'model' })
                main = true
                await upload.addFile(name, stream, null)
              },
              async data(name, stream) {
                if (!main) throw modelComesFirst()
                await upload.addFile(name, stream, null)
              },
            },
          })
          if (!main) throw missingPart('model')
        })
        response.location(`/v1/models/${view.id}`)
        sendJson(response, created ? 201 : 200, modelBody(view))
      },
    },
    {
      method: 'put',
      path: '/v1/models/{id}',
      operationId: 'putModel',
      scope: 'submit',
      tag: 'Models',
      summary: 'Upload a model of one file (raw body)',
      params: {
        id: {
          description: 'File name to store the model under; its id is the SHA-256.',
          example: 'mnist.onnx',
          pattern: FILE_NAME_PATTERN,
        },
      },
      body: {
        description: 'The bytes of the file, in any media type but multipart.',
        content: { 'application/octet-stream': { schema: null } },
      },
      responses: STORED,
      errors: [...UPLOAD_ERRORS, ...FORMAT_ERRORS],
      async handle(request, response) {
        if (request.is('multipart/*')) {
          throw new AppError(
            'content_type_unsupported',
            'PUT takes the bytes themselves; POST /v1/models takes multipart.',
            {
              allowed: ['application/octet-stream'],
            },
          )
        }
        const { view, created } = await store(request, response, async (upload) => {
          await upload.addFile(pathParam(request, 'id'), request, declaredBytes(request))
        })
        response.location(`/v1/models/${view.id}`)
        sendJson(response, created ? 201 : 200, modelBody(view))
      },
    },
    {
      method: 'get',
      path: '/v1/models',
      operationId: 'listModels',
      scope: 'read',
      tag: 'Models',
      summary: 'List models',
      query: pageQuery,
      responses: { 200: { description: 'A page.', content: { 'application/json': { schema: modelPageSchema } } } },
      errors: ['request_invalid'],
      async handle(request, response) {
        const page = await service.models.list(pageRequest(parseQuery(pageQuery, request)))
        sendJson(response, 200, mapPage(page, modelBody))
      },
    },
    {
      method: 'get',
      path: '/v1/models/{id}',
      operationId: 'getModel',
      scope: 'read',
      tag: 'Models',
      summary: 'Describe a model',
      params: { id },
      responses: { 200: { description: 'The model.', content: { 'application/json': { schema: modelSchema } } } },
      errors: ['not_found'],
      async handle(request, response) {
        sendJson(response, 200, modelBody(await service.models.get(pathParam(request, 'id'))))
      },
    },
    {
      method: 'get',
      path: '/v1/models/{id}/tensors',
      operationId: 'listTensors',
      scope: 'read',
      tag: 'Models',
      summary: 'Tensor table of a model',
      params: { id },
      query: tensorQuery,
      responses: { 200: { description: 'A page.', content: { 'application/json': { schema: tensorPageSchema } } } },
      errors: ['not_found', 'request_invalid'],
      async handle(request, response) {
        const { offset, limit } = parseQuery(tensorQuery, request)
        const table = await service.models.tensors(pathParam(request, 'id'), offset, limit)
        sendJson(response, 200, { ...table, offset, limit })
      },
    },
    {
      method: 'get',
      path: '/v1/models/{id}/histogram',
      operationId: 'getHistogram',
      scope: 'read',
      tag: 'Models',
      summary: 'Histogram of the values of one tensor',
      params: { id },
      query: histogramQuery,
      responses: { 200: { description: 'The counts.', content: { 'application/json': { schema: histogramSchema } } } },
      errors: [
        'not_found',
        'request_invalid',
        'dtype_unsupported',
        'device_unavailable',
        'device_lost',
        'gpu_memory_exceeded',
        'worker_crashed',
        'worker_timeout',
      ],
      async handle(request, response) {
        const { tensor, bins } = parseQuery(histogramQuery, request)
        sendJson(response, 200, await service.models.histogram(pathParam(request, 'id'), tensor, bins))
      },
    },
    {
      method: 'delete',
      path: '/v1/models/{id}',
      operationId: 'deleteModel',
      scope: 'admin',
      tag: 'Models',
      summary: 'Delete a model',
      description: 'Refused while a queued or running job uses it. Artifacts and reports stay.',
      params: { id },
      responses: { 204: { description: 'Deleted.' } },
      errors: ['not_found', 'conflict', 'store_failed'],
      async handle(request, response) {
        await service.models.delete(pathParam(request, 'id'))
        response.status(204).end()
      },
    },
  ]
}

export function missingPart(name: string): AppError {
  return new AppError('request_invalid', `Part "${name}" is missing, or has no file name.`, { path: name })
}

export function modelComesFirst(): AppError {
  return new AppError('request_invalid', 'Part "model" must come before the parts "data".', { path: 'data' })
}
