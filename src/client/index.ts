// The TypeScript client of the REST API, published as 'tensorpress/client'. Entry: createClient. It needs fetch, Blob and Web
// Crypto and nothing else, so it works in Node and in browsers. Types and calls come from docs/openapi.json (npm run generate).

import { type DownloadSource, downloadFile } from './download-file.ts'
import { followJob, isFinal } from './follow-job.ts'
import { OPERATIONS, type Operations } from './generated/operations.ts'
import type { ArtifactList, Dataset, Job, JobRequest, Model, Report } from './generated/schema.ts'
import { createHttp, type Http, type HttpOptions, textOf } from './http.ts'
import type { UploadSource } from './resumable-upload.ts'
import { type TransferOptions, uploadDataset, uploadModel } from './upload-model.ts'

export { ConnectionError, TensorpressError } from './client-error.ts'
export type { DownloadSource } from './download-file.ts'
export { isFinal } from './follow-job.ts'
export type { Operations } from './generated/operations.ts'
export type * from './generated/schema.ts'
export type { HttpOptions as ClientOptions } from './http.ts'
export type { FileContent, UploadSource } from './resumable-upload.ts'
export { modelId, type TransferOptions } from './upload-model.ts'

export interface CallOptions {
  signal?: AbortSignal | undefined
}

type Input<K extends keyof Operations> = {
  [P in 'path' | 'query' | 'body' as undefined extends Operations[K][P] ? never : P]: Operations[K][P]
} & { query?: Operations[K]['query']; headers?: Record<string, string> }

/** Calls without path, query and body take no input. */
type Arguments<K extends keyof Operations> =
  Record<string, never> extends Input<K>
    ? [input?: Input<K>, options?: CallOptions]
    : [input: Input<K>, options?: CallOptions]

export interface CompressOptions extends TransferOptions, Omit<JobRequest, 'model' | 'dataset'> {
  dataset?: UploadSource | undefined
  /** Every change of the job. */
  onJob?: ((job: Job) => void) | undefined
}

export interface Client {
  /** Any call that takes and gives JSON, by its operationId: `client.call('getModel', { path: { id } })`. */
  call<K extends keyof Operations>(operation: K, ...args: Arguments<K>): Promise<Operations[K]['result']>
  /** The files of a model, the main one first; goes on after broken connections and restarts of the server. */
  uploadModel(files: UploadSource[], options?: TransferOptions): Promise<Model>
  uploadDataset(file: UploadSource, options?: TransferOptions): Promise<Dataset>
  /** A model of one file in one request, which starts from the beginning when it fails. For small files: it may be read at once. */
  putModel(name: string, blob: Blob, options?: CallOptions): Promise<Model>
  /** Durable when it resolves. Sent again safely: it carries an Idempotency-Key. */
  createJob(request: JobRequest, options?: CallOptions): Promise<Job>
  /** The job as it is, then each change, over broken connections; the last one is final. */
  follow(jobId: string, options?: CallOptions): AsyncGenerator<Job, void>
  /** Resolves with the final job. */
  wait(jobId: string, options?: CallOptions & { onJob?: ((job: Job) => void) | undefined }): Promise<Job>
  report(jobId: string, options?: CallOptions): Promise<Report>
  /** The report as a page of its own. */
  reportPage(jobId: string, options?: CallOptions): Promise<string>
  /** @param evenIfUnmet also files of an artifact that misses its requirement */
  artifacts(jobId: string, options?: CallOptions & { evenIfUnmet?: boolean }): Promise<ArtifactList['items']>
  /** Bytes of a file that `artifacts` lists; goes on after a broken connection. */
  download(file: DownloadSource, options?: CallOptions): AsyncGenerator<Uint8Array, void>
  /** Whether work can be done, and on which device; a server that is not ready answers as well. Not tried again. */
  readiness(options?: CallOptions): Promise<Operations['readiness']['result']>
  /** Upload, job, wait. A job that failed or missed its requirement resolves too: see `job.state` and `job.error`. */
  compress(files: UploadSource[], options: CompressOptions): Promise<{ model: Model; job: Job }>
}

/** Looking at readiness is no reason to wait for it. */
const READY_TIMEOUT_MS = 15_000

export function createClient(options: HttpOptions): Client {
  const http = createHttp(options)
  const json = <T>(path: string, signal: AbortSignal | undefined) => http.json<T>({ method: 'GET', path, signal })
  const jobPath = (id: string) => `/v1/jobs/${encodeURIComponent(id)}`

  const client: Client = {
    async call(operation, ...args) {
      const [input = {}, callOptions = {}] = args as [AnyInput?, CallOptions?]
      return callOperation(http, operation, input, callOptions.signal) as never
    },
    uploadModel: (files, transfer) => uploadModel(http, files, transfer),
    uploadDataset: (file, transfer) => uploadDataset(http, file, transfer),
    async putModel(name, blob, { signal } = {}) {
      const path = `/v1/models/${encodeURIComponent(name)}`
      const headers = { 'Content-Type': 'application/octet-stream' }
      const response = await http.send({ method: 'PUT', path, headers, body: blob, signal, timeoutMs: PUT_TIMEOUT_MS })
      return JSON.parse(await textOf(response, signal)) as Model
    },
    createJob(request, { signal } = {}) {
      return http.json<Job>({
        method: 'POST',
        path: '/v1/jobs',
        headers: { 'Content-Type': 'application/json', 'Idempotency-Key': crypto.randomUUID() },
        body: JSON.stringify(request),
        signal,
      })
    },
    follow: (jobId, { signal } = {}) => followJob(http, jobId, { signal }),
    async wait(jobId, { signal, onJob } = {}) {
      for await (const job of followJob(http, jobId, { signal })) {
        onJob?.(job)
        if (isFinal(job)) return job
      }
      return json<Job>(jobPath(jobId), signal)
    },
    report: (jobId, { signal } = {}) => json<Report>(`${jobPath(jobId)}/report`, signal),
    reportPage(jobId, { signal } = {}) {
      const path = `${jobPath(jobId)}/report`
      return http.text({ method: 'GET', path, headers: { Accept: 'text/html' }, signal })
    },
    async artifacts(jobId, { signal, evenIfUnmet } = {}) {
      const query = evenIfUnmet ? '?evenIfUnmet=true' : ''
      const { items } = await json<ArtifactList>(`${jobPath(jobId)}/artifacts${query}`, signal)
      return items.map((item) => ({ ...item, url: `${item.url}${query}` }))
    },
    download: (file, { signal } = {}) => downloadFile(http, file, signal),
    async readiness({ signal } = {}) {
      const request = { method: 'GET', path: '/readyz', signal, timeoutMs: READY_TIMEOUT_MS, alsoStatus: 503 }
      return JSON.parse(await textOf(await http.send(request), signal)) as Operations['readiness']['result']
    },
    async compress(files, { dataset, onJob, onProgress, signal, ...request }) {
      const model = await client.uploadModel(files, { signal, onProgress })
      const data = dataset === undefined ? null : await client.uploadDataset(dataset, { signal })
      const job = await client.createJob({ ...request, model: model.id, dataset: data?.id ?? null }, { signal })
      return { model, job: await client.wait(job.id, { signal, onJob }) }
    },
  }
  return client
}

/** A raw upload takes as long as it takes; a day is a limit all the same. */
const PUT_TIMEOUT_MS = 86_400_000

interface AnyInput {
  path?: Record<string, string>
  query?: Record<string, unknown>
  body?: unknown
  headers?: Record<string, string>
}

async function callOperation(
  http: Http,
  operation: keyof Operations,
  { path = {}, query = {}, body, headers = {} }: AnyInput,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  const { method, path: template } = OPERATIONS[operation]
  const filled = template.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(path[name])))
  const search = new URLSearchParams(
    Object.entries(query).flatMap(([name, value]): [string, string][] =>
      value === undefined ? [] : [[name, String(value)]],
    ),
  ).toString()
  const request = {
    method,
    path: search === '' ? filled : `${filled}?${search}`,
    headers: body === undefined ? headers : { 'Content-Type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal,
  }
  const text = await (method === 'GET' ? http.text(request) : textOf(await http.send(request), signal))
  return text === '' ? undefined : JSON.parse(text)
}
