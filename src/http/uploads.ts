// /v1/uploads: uploads that go on after a broken connection or a restart, by the tus 1.0 protocol (docs/uploads.md). The last
// byte makes the model or dataset; files of one model wait as a set for POST /v1/upload-sets. tus-protocol.ts runs the protocol.

import type { Response } from 'express'
import { z } from 'zod'
import { AppError } from '../errors.ts'
import type { UploadView } from '../jobs/service.ts'
import { callerOf, mayUse } from './access.ts'
import { bytes, component, EXAMPLE_SHA256, EXAMPLE_TIME, errorObjectSchema, sha256, time } from './components.ts'
import type { HttpDeps } from './deps.ts'
import { FORMAT_ERRORS, modelBody, STORED, UPLOAD_ERRORS } from './models.ts'
import { type HeaderDoc, parse, pathParam, type Route, sendJson } from './route.ts'
import { createTusProtocol, TUS_EXTENSIONS, TUS_VERSION, type TusProtocol } from './tus-protocol.ts'

const BASE_PATH = '/v1/uploads'
const EXAMPLE_UPLOAD_ID = '5b0d5f0e-2a3c-4f7e-9c11-8f4f0a6f7c2d'

const uploadSchema = component(
  'Upload',
  'A resumable upload. `model` or `dataset` is set once it was made of it.',
  z.object({
    id: z.string(),
    kind: z.enum(['model', 'dataset']),
    fileName: z.string(),
    set: z.string().nullable().meta({ description: 'Name that the files of one model share; null: one file.' }),
    sizeBytes: bytes,
    offset: bytes.meta({ description: 'Bytes that are stored; the next PATCH begins here.' }),
    state: z.enum(['receiving', 'stored', 'finished', 'refused']).meta({
      description:
        '`stored`: complete, and waiting for the other files of its set. `refused`: `error` says why; the bytes are gone.',
    }),
    sha256: sha256.nullable(),
    model: sha256.nullable(),
    dataset: sha256.nullable(),
    error: errorObjectSchema.nullable(),
    createdAt: time,
    expiresAt: time.meta({ description: 'Moves on with every byte that arrives.' }),
    links: z.object({ self: z.string(), result: z.string().nullable() }),
  }),
  {
    id: EXAMPLE_UPLOAD_ID,
    kind: 'model',
    fileName: 'mnist.onnx',
    set: null,
    sizeBytes: 26454,
    offset: 26454,
    state: 'finished',
    sha256: EXAMPLE_SHA256,
    model: EXAMPLE_SHA256,
    dataset: null,
    error: null,
    createdAt: EXAMPLE_TIME,
    expiresAt: EXAMPLE_TIME,
    links: { self: `${BASE_PATH}/${EXAMPLE_UPLOAD_ID}`, result: `/v1/models/${EXAMPLE_SHA256}` },
  },
)

const uploadSetRequest = component(
  'UploadSet',
  'Complete uploads that are the files of one model.',
  z.strictObject({
    uploads: z
      .array(z.string().min(1))
      .min(1)
      .meta({ description: 'Ids of uploads with the same `set`, the main file first.' }),
  }),
  { uploads: [EXAMPLE_UPLOAD_ID, '8d1f1c1e-6b0f-4c55-a1c4-3f2a9a0b7d61'] },
)

/** Keys that mean something here; others are kept and shown again, as the protocol asks. */
const metadataSchema = z.object({
  filename: z.string({ error: 'the file name is missing' }).min(1),
  kind: z.enum(['model', 'dataset']).default('model'),
  set: z
    .string()
    .regex(/^[\w.:-]{1,100}$/, 'expected 1 to 100 letters, digits and . _ : -')
    .optional(),
  sha256: sha256.optional(),
})

export function readMetadata(metadata: Record<string, string | null>) {
  const { filename, kind, set, sha256: expected } = parse(metadataSchema, metadata, 'Upload-Metadata')
  if (set !== undefined && kind === 'dataset') {
    throw new AppError('request_invalid', 'Upload-Metadata.set: a dataset is one file and belongs to no set.', {
      path: 'Upload-Metadata.set',
    })
  }
  return { fileName: filename, kind, set: set ?? null, expectedSha256: expected ?? null }
}

function resultPath({ modelId, datasetId }: UploadView): string | null {
  if (modelId !== null) return `/v1/models/${modelId}`
  return datasetId === null ? null : `/v1/datasets/${datasetId}`
}

function uploadBody(view: UploadView): z.output<typeof uploadSchema> {
  const { id, kind, fileName, set, sizeBytes, storedBytes, state, error, createdAt, expiresAt } = view
  return {
    id,
    kind,
    fileName,
    set,
    sizeBytes,
    offset: storedBytes,
    state,
    sha256: view.sha256,
    model: view.modelId,
    dataset: view.datasetId,
    error,
    createdAt,
    expiresAt,
    links: { self: `${BASE_PATH}/${id}`, result: resultPath(view) },
  }
}

const id = { description: 'Upload id, the end of its Location.', example: EXAMPLE_UPLOAD_ID }
const TUS_HEADER: Record<string, HeaderDoc> = {
  'Tus-Resumable': {
    description: 'Version of the protocol.',
    example: TUS_VERSION,
    required: true,
    schema: { type: 'string', const: TUS_VERSION },
  },
}
/** Pairs of a key and a value in Base64, as tus 1.0 has them. */
const METADATA_PATTERN = '^[!-+\\--~]+( [A-Za-z0-9+/]+={0,2})?(,[!-+\\--~]+( [A-Za-z0-9+/]+={0,2})?)*$'
const COUNT = { type: 'integer', minimum: 0 }
/** No file system holds a file of 2^50 bytes, and what is far beyond is no number that JSON keeps. */
const UPLOAD_LENGTH = { ...COUNT, maximum: 2 ** 50 }
const ANSWER_HEADERS: Record<string, HeaderDoc> = {
  'Tus-Resumable': { description: 'Version of the protocol.', example: TUS_VERSION },
}
const OFFSET = { 'Upload-Offset': { description: 'Bytes that are stored.', example: 16_777_216 } }
const EXPIRES = { 'Upload-Expires': { description: 'When it is given up unless bytes arrive (HTTP date).' } }
const RESULT = {
  'Tensorpress-Result': {
    description: 'Path of the model or dataset that the upload became; absent before.',
    example: `/v1/models/${EXAMPLE_SHA256}`,
  },
}
const BYTES = { 'application/offset+octet-stream': { schema: null } }
const TUS_ERRORS = ['precondition_failed', 'conflict', 'not_found', 'feature_unsupported'] as const
const FINISH_ERRORS = [...FORMAT_ERRORS, 'checksum_mismatch', 'dataset_invalid'] as const

export function uploadRoutes({ service, config, gate }: HttpDeps): Route[] {
  let protocol: TusProtocol | null = null
  const tus: TusProtocol = (request, response, uploadId) => {
    protocol ??= createTusProtocol(service.uploads, { basePath: BASE_PATH, readMetadata, resultPath })
    return protocol(request, response, uploadId)
  }

  /** Uploads of other keys are not there, except for an admin. */
  const owned = async (response: Response, uploadId: string): Promise<UploadView> => {
    const view = await service.uploads.get(uploadId)
    if (view.submittedBy === (callerOf(response)?.name ?? null) || mayUse(response, 'admin')) return view
    throw new AppError('not_found', `There is no upload "${uploadId}".`, { upload: uploadId })
  }

  return [
    {
      method: 'options',
      path: BASE_PATH,
      operationId: 'describeUploads',
      scope: 'open',
      tag: 'Uploads',
      summary: 'What this server speaks of tus',
      responses: {
        204: {
          description: 'Version, extensions and the largest upload.',
          headers: {
            ...ANSWER_HEADERS,
            'Tus-Version': { description: 'Versions.', example: TUS_VERSION },
            'Tus-Extension': { description: 'Extensions.', example: TUS_EXTENSIONS.join(',') },
            'Tus-Max-Size': { description: 'Limit uploadBytes.', example: config.limits.uploadBytes },
            Allow: { description: 'Methods of this path.' },
          },
        },
      },
      errors: [],
      handle(_request, response) {
        response.set({
          'Tus-Resumable': TUS_VERSION,
          'Tus-Version': TUS_VERSION,
          'Tus-Extension': TUS_EXTENSIONS.join(','),
          'Tus-Max-Size': String(config.limits.uploadBytes),
          Allow: 'POST, OPTIONS',
        })
        response.status(204).end()
      },
    },
    {
      method: 'post',
      path: BASE_PATH,
      operationId: 'createUpload',
      scope: 'submit',
      tag: 'Uploads',
      summary: 'Begin a resumable upload (tus 1.0)',
      description:
        'Metadata: `filename` (required), `kind` (`model`, the default, or `dataset`), `sha256` (checked at the end), `set` (the same text for all files of one model, which POST /v1/upload-sets then joins). Without `set` the last byte makes the model or dataset. A body of type application/offset+octet-stream holds the first bytes.',
      headers: {
        ...TUS_HEADER,
        'Upload-Length': {
          description: 'Size of the file in bytes.',
          example: 26454,
          required: true,
          schema: UPLOAD_LENGTH,
        },
        'Upload-Metadata': {
          description: 'Comma-separated pairs of a key and a value in Base64.',
          example: 'filename bW5pc3Qub25ueA==',
          required: true,
          schema: { type: 'string', pattern: METADATA_PATTERN },
        },
      },
      body: { description: 'Nothing, or the first bytes.', required: false, content: BYTES },
      responses: {
        201: {
          description: 'Created.',
          headers: {
            ...ANSWER_HEADERS,
            Location: { description: 'Path of the upload.', example: `${BASE_PATH}/${EXAMPLE_UPLOAD_ID}` },
            ...OFFSET,
            ...EXPIRES,
            ...RESULT,
          },
        },
      },
      errors: [...UPLOAD_ERRORS, ...TUS_ERRORS, ...FINISH_ERRORS],
      handle: (request, response) => gate.run(request, response, () => tus(request, response, null)),
    },
    {
      method: 'head',
      path: `${BASE_PATH}/{id}`,
      operationId: 'getUploadOffset',
      scope: 'submit',
      tag: 'Uploads',
      summary: 'How far an upload is (tus 1.0)',
      description: 'An upload that was refused answers with the status of what was wrong with it.',
      params: { id },
      headers: TUS_HEADER,
      responses: {
        200: {
          description: 'Its offset.',
          headers: {
            ...ANSWER_HEADERS,
            ...OFFSET,
            'Upload-Length': { description: 'Size of the file.', example: 26454 },
            'Upload-Metadata': { description: 'As it was sent.' },
            ...EXPIRES,
            ...RESULT,
          },
        },
      },
      errors: [...TUS_ERRORS, ...FINISH_ERRORS, 'limit_exceeded'],
      async handle(request, response) {
        const uploadId = pathParam(request, 'id')
        const view = await owned(response, uploadId)
        const result = resultPath(view)
        if (result !== null) response.set('Tensorpress-Result', result)
        if (view.storedBytes < view.sizeBytes) {
          response.set('Upload-Expires', new Date(view.expiresAt).toUTCString())
        }
        await tus(request, response, uploadId)
      },
    },
    {
      method: 'get',
      path: `${BASE_PATH}/{id}`,
      operationId: 'getUpload',
      scope: 'submit',
      tag: 'Uploads',
      summary: 'State of an upload, and what became of it',
      params: { id },
      responses: { 200: { description: 'The upload.', content: { 'application/json': { schema: uploadSchema } } } },
      errors: ['not_found'],
      async handle(request, response) {
        sendJson(response, 200, uploadBody(await owned(response, pathParam(request, 'id'))))
      },
    },
    {
      method: 'patch',
      path: `${BASE_PATH}/{id}`,
      operationId: 'continueUpload',
      scope: 'submit',
      tag: 'Uploads',
      summary: 'Send bytes from an offset on (tus 1.0)',
      description:
        'What arrived before a connection broke is kept; HEAD tells the offset. The answer to the last byte comes when the file was checked and, without `set`, the model or dataset was made.',
      params: { id },
      headers: {
        ...TUS_HEADER,
        'Upload-Offset': { description: 'Where the body begins.', example: 0, required: true, schema: UPLOAD_LENGTH },
      },
      body: { description: 'Bytes of the file.', content: BYTES },
      responses: {
        204: { description: 'Stored.', headers: { ...ANSWER_HEADERS, ...OFFSET, ...EXPIRES, ...RESULT } },
      },
      errors: [...UPLOAD_ERRORS, ...TUS_ERRORS, ...FINISH_ERRORS],
      async handle(request, response) {
        const { id: uploadId } = await owned(response, pathParam(request, 'id'))
        await gate.run(request, response, () => tus(request, response, uploadId))
      },
    },
    {
      method: 'delete',
      path: `${BASE_PATH}/{id}`,
      operationId: 'deleteUpload',
      scope: 'submit',
      tag: 'Uploads',
      summary: 'Give an upload up (tus 1.0)',
      description: 'Removes its bytes. A model or dataset that was made of it stays.',
      params: { id },
      headers: TUS_HEADER,
      responses: { 204: { description: 'Removed.', headers: ANSWER_HEADERS } },
      errors: [...TUS_ERRORS, 'store_failed'],
      async handle(request, response) {
        const { id: uploadId } = await owned(response, pathParam(request, 'id'))
        await tus(request, response, uploadId)
      },
    },
    {
      method: 'post',
      path: '/v1/upload-sets',
      operationId: 'joinUploads',
      scope: 'submit',
      tag: 'Uploads',
      summary: 'Make one model of several uploads',
      description:
        'For a model of several files (shards, external data), each uploaded with the same `set`. Asking again is harmless. When the model is refused, for example because a file is missing, the uploads stay.',
      body: { description: 'Ids of uploads.', content: { 'application/json': { schema: uploadSetRequest } } },
      responses: STORED,
      errors: [
        'request_invalid',
        'content_type_unsupported',
        'body_too_large',
        'not_found',
        'conflict',
        'limit_exceeded',
        'disk_full',
        'store_failed',
        'shutting_down',
        'checksum_mismatch',
        ...FORMAT_ERRORS,
      ],
      async handle(request, response) {
        const { uploads } = parse(uploadSetRequest, request.body, 'body')
        for (const uploadId of uploads) await owned(response, uploadId)
        const { view, created } = await service.uploads.commitSet(uploads)
        response.location(`/v1/models/${view.id}`)
        sendJson(response, created ? 201 : 200, modelBody(view))
      },
    },
  ]
}
