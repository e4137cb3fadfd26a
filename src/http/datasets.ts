// /v1/datasets: upload of an .npz (one array per model input, optional `labels`), list, describe, delete.

import { z } from 'zod'
import { AppError } from '../errors.ts'
import type { DatasetView } from '../jobs/service.ts'
import {
  component,
  EXAMPLE_SHA256,
  mapPage,
  pageQuery,
  pageRequest,
  pageSchema,
  sha256,
  storedFileSchema,
  time,
} from './components.ts'
import type { HttpDeps } from './deps.ts'
import { missingPart, UPLOAD_ERRORS } from './models.ts'
import { receiveMultipart } from './multipart.ts'
import { parseQuery, pathParam, type Route, sendJson } from './route.ts'

const datasetSchema = component(
  'Dataset',
  'A stored dataset. `id` is the SHA-256 of the file.',
  z.object({
    id: sha256,
    file: storedFileSchema,
    arrays: z.array(z.object({ name: z.string(), dtype: z.string(), shape: z.array(z.int()) })),
    createdAt: time,
    links: z.object({ self: z.string() }),
  }),
)

const datasetPageSchema = pageSchema('DatasetPage', datasetSchema)

export function datasetBody(view: DatasetView): z.output<typeof datasetSchema> {
  return { ...view, links: { self: `/v1/datasets/${view.id}` } }
}

const LOCATION = { Location: { description: 'Path of the dataset.', example: `/v1/datasets/${EXAMPLE_SHA256}` } }
const DATASET_CALLS = ['getDataset', 'deleteDataset'] as const
const id = { description: 'Dataset id (SHA-256).', example: EXAMPLE_SHA256 }

export function datasetRoutes({ service, config, gate }: HttpDeps): Route[] {
  return [
    {
      method: 'post',
      path: '/v1/datasets',
      operationId: 'uploadDataset',
      scope: 'submit',
      tag: 'Datasets',
      summary: 'Upload a dataset (.npz)',
      description:
        'One array per model input, under the name of the input, and optionally `labels`. Axis 0 is the sample axis: batched along dimension 0 of the input or, where the rank of the array is one more, x[i] is one full input. An array of exactly the shape of the input is shared by all samples.',
      body: {
        description: 'One part `dataset`.',
        content: {
          'multipart/form-data': {
            schema: z.strictObject({ dataset: z.string().meta({ format: 'binary', description: 'The .npz file.' }) }),
          },
        },
      },
      responses: {
        201: {
          description: 'Stored.',
          content: { 'application/json': { schema: datasetSchema } },
          headers: LOCATION,
          links: DATASET_CALLS,
        },
        200: {
          description: 'The same content was stored before; the same id.',
          content: { 'application/json': { schema: datasetSchema } },
          headers: LOCATION,
          links: DATASET_CALLS,
        },
      },
      errors: [...UPLOAD_ERRORS, 'dataset_invalid', 'worker_crashed', 'worker_timeout'],
      async handle(request, response) {
        const receive = async () => {
          const upload = service.datasets.beginUpload()
          return gate.receive([upload], async () => {
            let seen = false
            await receiveMultipart(request, response, config.limits, {
              fields: [],
              files: {
                async dataset(name, stream) {
                  if (seen) throw new AppError('request_invalid', 'Part "dataset" comes twice.', { path: 'dataset' })
                  seen = true
                  await upload.addFile(name, stream, null)
                },
              },
            })
            if (!seen) throw missingPart('dataset')
            return upload.commit()
          })
        }
        const { view, created } = await gate.run(request, response, receive, 'datasetBytes')
        response.location(`/v1/datasets/${view.id}`)
        sendJson(response, created ? 201 : 200, datasetBody(view))
      },
    },
    {
      method: 'get',
      path: '/v1/datasets',
      operationId: 'listDatasets',
      scope: 'read',
      tag: 'Datasets',
      summary: 'List datasets',
      query: pageQuery,
      responses: { 200: { description: 'A page.', content: { 'application/json': { schema: datasetPageSchema } } } },
      errors: ['request_invalid'],
      async handle(request, response) {
        const page = await service.datasets.list(pageRequest(parseQuery(pageQuery, request)))
        sendJson(response, 200, mapPage(page, datasetBody))
      },
    },
    {
      method: 'get',
      path: '/v1/datasets/{id}',
      operationId: 'getDataset',
      scope: 'read',
      tag: 'Datasets',
      summary: 'Describe a dataset',
      params: { id },
      responses: { 200: { description: 'The dataset.', content: { 'application/json': { schema: datasetSchema } } } },
      errors: ['not_found'],
      async handle(request, response) {
        sendJson(response, 200, datasetBody(await service.datasets.get(pathParam(request, 'id'))))
      },
    },
    {
      method: 'delete',
      path: '/v1/datasets/{id}',
      operationId: 'deleteDataset',
      scope: 'admin',
      tag: 'Datasets',
      summary: 'Delete a dataset',
      description: 'Refused while a queued or running job uses it.',
      params: { id },
      responses: { 204: { description: 'Deleted.' } },
      errors: ['not_found', 'conflict', 'store_failed'],
      async handle(request, response) {
        await service.datasets.delete(pathParam(request, 'id'))
        response.status(204).end()
      },
    },
  ]
}
