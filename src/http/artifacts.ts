// What a job made: the single file, the list, and each of several files. Range, conditional requests and HEAD work as RFC
// 9110 has them; the ETag is the SHA-256. An artifact that misses its requirement is only given to who asks for it so.

import { basename, dirname } from 'node:path'
import type { Response } from 'express'
import { z } from 'zod'
import { AppError } from '../errors.ts'
import type { ArtifactFile } from '../jobs/service.ts'
import { component, EXAMPLE_JOB_ID, EXAMPLE_SHA256, storedFileSchema } from './components.ts'
import type { HttpDeps } from './deps.ts'
import { jobId } from './jobs.ts'
import { type HeaderDoc, parseQuery, pathParam, type Route, sendJson } from './route.ts'

const unmetQuery = z.object({
  evenIfUnmet: z
    .enum(['true', 'false'])
    .default('false')
    .meta({ description: '`true`: also give an artifact that does not meet its requirement.' }),
})

const artifactListSchema = component(
  'ArtifactList',
  'The files of an artifact.',
  z.object({ items: z.array(storedFileSchema.extend({ url: z.string() })) }),
  {
    items: [
      {
        name: 'mnist.int8.onnx',
        sizeBytes: 10563,
        sha256: EXAMPLE_SHA256,
        url: `/v1/jobs/${EXAMPLE_JOB_ID}/artifacts/mnist.int8.onnx`,
      },
    ],
  },
)

export const FILE_HEADERS: Record<string, HeaderDoc> = {
  ETag: { description: 'SHA-256 of the file, quoted.', example: `"${EXAMPLE_SHA256}"` },
  'Repr-Digest': { description: 'RFC 9530: `sha-256=:` base64 `:`.' },
  'Content-Disposition': { description: 'The file name.', example: 'attachment; filename="mnist.int8.onnx"' },
  'Accept-Ranges': { description: '`bytes`.', example: 'bytes' },
}

const FILE_RESPONSES = {
  200: { description: 'The file.', content: { 'application/octet-stream': { schema: null } }, headers: FILE_HEADERS },
  206: {
    description: 'The bytes that the Range header asks for.',
    content: { 'application/octet-stream': { schema: null } },
    headers: { ...FILE_HEADERS, 'Content-Range': { description: 'Which bytes.', example: 'bytes 0-1023/10563' } },
  },
  304: { description: 'The ETag is the one in If-None-Match.' },
}
const FILE_ERRORS = [
  'not_found',
  'artifact_expired',
  'conflict',
  'requirement_not_met',
  'request_invalid',
  'range_not_satisfiable',
  'precondition_failed',
  'store_failed',
] as const
const RANGE_HEADERS: Record<string, HeaderDoc> = {
  Range: { description: 'Part of the file.', example: 'bytes=0-1023' },
  'If-None-Match': { description: 'ETag that the client has.' },
}

/** Resolves when the last byte was handed to the socket, or the client left. */
export function sendFile(response: Response, file: ArtifactFile): Promise<void> {
  response.attachment(basename(file.name))
  response.set({
    'Content-Type': 'application/octet-stream',
    ETag: `"${file.sha256}"`,
    'Repr-Digest': `sha-256=:${Buffer.from(file.sha256, 'hex').toString('base64')}:`,
    'Cache-Control': 'private, no-cache',
  })
  return new Promise((resolve, reject) => {
    const options = { root: dirname(file.path), dotfiles: 'allow', lastModified: false, cacheControl: false } as const
    response.sendFile(basename(file.path), options, (error?: Error & { code?: string; status?: number }) => {
      // A client that leaves is not an error of ours, and nothing more can be sent to it.
      if (!error || error.code === 'ECONNABORTED' || error.code === 'EPIPE' || error.code === 'ECONNRESET') resolve()
      else if (error.status === 404) {
        reject(new AppError('store_failed', `${file.name} is in the catalogue, but not in the store.`, {}, error))
      } else reject(error)
    })
  })
}

export function artifactRoutes({ service }: HttpDeps): Route[] {
  const filesOf = async (id: string, evenIfUnmet: string) => {
    try {
      return await service.jobs.artifactFiles(id, { evenIfUnmet: evenIfUnmet === 'true' })
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'requirement_not_met') throw error
      const detail = `The artifact does not meet its requirement; the report says by how much. Add ?evenIfUnmet=true to get it all the same.`
      throw new AppError(error.code, detail, { ...error.context, report: `/v1/jobs/${id}/report` })
    }
  }

  return [
    {
      method: 'get',
      path: '/v1/jobs/{id}/artifact',
      operationId: 'getArtifact',
      scope: 'read',
      tag: 'Jobs',
      summary: 'Download the artifact (one file)',
      description: 'An artifact of several files answers 409 and lists them.',
      params: { id: jobId },
      query: unmetQuery,
      headers: RANGE_HEADERS,
      responses: FILE_RESPONSES,
      errors: [...FILE_ERRORS],
      async handle(request, response) {
        const id = pathParam(request, 'id')
        const files = await filesOf(id, parseQuery(unmetQuery, request).evenIfUnmet)
        await sendFile(response, onlyFile(id, files))
      },
    },
    {
      method: 'get',
      path: '/v1/jobs/{id}/artifacts',
      operationId: 'listArtifacts',
      scope: 'read',
      tag: 'Jobs',
      summary: 'List the files of the artifact',
      params: { id: jobId },
      query: unmetQuery,
      responses: {
        200: { description: 'The files.', content: { 'application/json': { schema: artifactListSchema } } },
      },
      errors: ['not_found', 'artifact_expired', 'conflict', 'requirement_not_met', 'request_invalid'],
      async handle(request, response) {
        const id = pathParam(request, 'id')
        const files = await filesOf(id, parseQuery(unmetQuery, request).evenIfUnmet)
        sendJson(response, 200, {
          items: files.map(({ name, sizeBytes, sha256 }) => ({ name, sizeBytes, sha256, url: artifactUrl(id, name) })),
        })
      },
    },
    {
      method: 'get',
      path: '/v1/jobs/{id}/artifacts/{name}',
      pathLike: 'name',
      operationId: 'getArtifactFile',
      scope: 'read',
      tag: 'Jobs',
      summary: 'Download one file of the artifact',
      params: { id: jobId, name: { description: 'Name as listed; it may hold `/`.', example: 'mnist.int8.onnx' } },
      query: unmetQuery,
      headers: RANGE_HEADERS,
      responses: FILE_RESPONSES,
      errors: [...FILE_ERRORS],
      async handle(request, response) {
        const id = pathParam(request, 'id')
        const name = pathParam(request, 'name')
        const files = await filesOf(id, parseQuery(unmetQuery, request).evenIfUnmet)
        const file = files.find((entry) => entry.name === name)
        if (!file) {
          const names = files.map((entry) => entry.name)
          throw new AppError('not_found', `The artifact has no file "${name}"; it has ${names.join(', ')}.`, { names })
        }
        await sendFile(response, file)
      },
    },
  ]
}

export function artifactUrl(id: string, name: string): string {
  return `/v1/jobs/${id}/artifacts/${name.split('/').map(encodeURIComponent).join('/')}`
}

/** Throws conflict when there are several. */
export function onlyFile(id: string, files: readonly ArtifactFile[]): ArtifactFile {
  const [file] = files
  if (file && files.length === 1) return file
  throw new AppError(
    'conflict',
    `The artifact has ${files.length} files; download each from /v1/jobs/${id}/artifacts.`,
    { files: files.map((entry) => ({ name: entry.name, url: artifactUrl(id, entry.name) })) },
  )
}
