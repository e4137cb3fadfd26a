// What the HTTP layer sees of everything below it: models, datasets, plans, jobs and health, as plain values and AppErrors.
// Types only; create-service.ts makes it. Nothing behind it parses model bytes or loads Dawn or onnxruntime in this process:
// that happens in children. Every method may throw AppError; codes are named per method.

import type { Readable } from 'node:stream'
import type { DeviceInfo, DeviceLimits } from '../compute/compute-device.ts'
import type { ErrorObject } from '../errors.ts'
import type { ExpiredKind, ExpiryReason, RetentionPolicy } from '../store/retention.ts'
import type { StoreUsage } from '../store/retention-catalog.ts'
import type { OutputOptions } from '../tensor/model.ts'
import type { AttemptOutcome, WebhookSettings } from '../webhooks/delivery-queue.ts'
import type { Resolve } from '../webhooks/target-guard.ts'
import type { HistogramResult, PlanDocument, Progress, ResolvedRecipe, TensorRow } from './protocol.ts'

/** Structured logging as pino does it: fields first, then one constant message. */
export interface ServiceLog {
  debug(fields: Record<string, unknown>, message: string): void
  info(fields: Record<string, unknown>, message: string): void
  warn(fields: Record<string, unknown>, message: string): void
  error(fields: Record<string, unknown>, message: string): void
}

export interface ServiceLimits {
  /** Sum of all files of one upload. */
  maxUploadBytes: number
  /** The file of one dataset. */
  maxDatasetBytes: number
  /** Files of one model (graph plus external data, or shards). */
  maxModelFiles: number
  /** Tensors of one model. */
  maxTensors: number
  /** Resumable uploads that are not finished. */
  maxOpenUploads: number
  /** Those of one API key. */
  maxOpenUploadsPerKey: number
  /** A resumable upload without new bytes for this long is removed. */
  uploadExpiryMs: number
  /** Free bytes that the data folder must keep; uploads and jobs that would go below are refused with disk_full. */
  minFreeBytes: number
  /** Jobs in state queued; one more is refused with queue_full. */
  maxQueuedJobs: number
  /** Jobs of one API key that are queued or running; one more is refused with too_many_jobs. */
  maxJobsPerKey: number
  /** Time that one attempt may spend in one stage; a job that takes longer ends with stage_timeout. */
  maxStageMs: number
  /** Attempts of a job when children die under it. */
  maxAttempts: number
  /** A child with work that says nothing for this long is killed (worker_timeout). */
  childSilenceMs: number
  /** A child whose messages show no progress for this long is killed (worker_timeout). */
  childStallMs: number
  /** Resident memory at which a child is killed; null: no limit. */
  childMemoryBytes: number | null
  /** How long close() lets the running job finish before it is put back to the queue. */
  drainGraceMs: number
}

/** One page of a list, newest first. `next` is passed back as `cursor`; null: the last page. */
export interface Page<T> {
  items: T[]
  next: string | null
}

export interface PageRequest {
  limit: number
  cursor: string | null
}

export interface StoredFile {
  name: string
  sizeBytes: number
  sha256: string
}

export interface ModelView {
  id: string
  format: 'onnx' | 'safetensors'
  files: StoredFile[]
  sizeBytes: number
  tensorCount: number
  parameterCount: number
  irVersion: number | null
  opset: number | null
  producer: string | null
  inputs: { name: string; dtype: string; shape: (number | string)[] }[]
  outputs: { name: string; dtype: string; shape: (number | string)[] }[]
  metadata: Record<string, string>
  alreadyCompressed: string[]
  notes: string[]
  /** ISO 8601, UTC. */
  createdAt: string
}

export interface DatasetView {
  id: string
  file: StoredFile
  arrays: { name: string; dtype: string; shape: number[] }[]
  createdAt: string
}

/**
 * An upload in progress. `addFile` consumes the stream to disk, hashing on the way. After `commit` or `discard` (or when
 * an addFile failed, for example because the client went away) no temporary file is left. `discard` is always safe to call.
 */
export interface Upload<View> {
  /**
   * @param name name from the client: a bare or relative path; request_invalid when it leaves the folder or repeats.
   * @param declaredBytes Content-Length where known, to refuse early; null: unknown.
   * Throws body_too_large, disk_full, store_quota_exceeded, limit_exceeded, request_invalid, store_failed.
   */
  addFile(name: string, stream: Readable, declaredBytes: number | null): Promise<StoredFile>
  /**
   * Describes the files in the inspect child and publishes them. The first file added is the main one. created: false when
   * the same content was there. Throws format_*, external_data_invalid, opset_unsupported, dataset_invalid, limit_exceeded...
   */
  commit(): Promise<{ view: View; created: boolean }>
  discard(): Promise<void>
}

export interface ModelService {
  beginUpload(): Upload<ModelView>
  list(page: PageRequest): Promise<Page<ModelView>>
  /** Throws not_found. */
  get(id: string): Promise<ModelView>
  /** `offset` and `limit` count tensors, in file order. Throws not_found. */
  tensors(id: string, offset: number, limit: number): Promise<{ items: TensorRow[]; total: number }>
  /** Counted on the device in the worker, cached. Throws not_found (model or tensor), request_invalid (bins), device errors. */
  histogram(id: string, tensor: string, bins: number): Promise<HistogramResult>
  /** Throws not_found, conflict (a queued or running job uses it). */
  delete(id: string): Promise<void>
}

export interface DatasetService {
  beginUpload(): Upload<DatasetView>
  list(page: PageRequest): Promise<Page<DatasetView>>
  get(id: string): Promise<DatasetView>
  delete(id: string): Promise<void>
}

export interface NewUpload {
  id: string
  kind: 'model' | 'dataset'
  fileName: string
  /** Name that the files of one model share; null: the file is a whole model or dataset, and the last byte makes it. */
  set: string | null
  sizeBytes: number
  expectedSha256: string | null
  /** As the client sent it, to be shown again. */
  metadata: Record<string, string | null>
  /** Name of the API key that began it; null: the server has no keys. */
  submittedBy: string | null
}

export interface UploadView extends NewUpload {
  /** Acknowledged: a crash loses none of them. */
  storedBytes: number
  /** stored: complete, and waiting for the other files of its set. refused: `error` says why; the bytes are gone. */
  state: 'receiving' | 'stored' | 'finished' | 'refused'
  sha256: string | null
  modelId: string | null
  datasetId: string | null
  error: ErrorObject | null
  createdAt: string
  /** Moves on with every byte that arrives. */
  expiresAt: string
}

/** Uploads that go on after a broken connection and a restart (docs/uploads.md). */
export interface UploadService {
  /** How long an upload without new bytes is kept. */
  readonly expiryMs: number
  readonly maxBytes: number
  /** Throws request_invalid, body_too_large, limit_exceeded, too_many_uploads, disk_full, conflict, shutting_down. */
  create(upload: NewUpload): Promise<UploadView>
  /** Throws not_found. Completes what an earlier failure of the store left undone, in the background. */
  get(id: string): Promise<UploadView>
  /** Resolves with the new offset. One call at a time for an upload. Throws not_found, conflict, body_too_large, disk_full. */
  append(id: string, offsetBytes: number, stream: Readable): Promise<number>
  /**
   * For a complete upload: checks the hash and, unless it belongs to a set, makes the model or dataset. Repeating it is
   * harmless. Throws checksum_mismatch and what the commit of an upload throws; the same error again later.
   */
  finish(id: string): Promise<UploadView>
  /** Makes one model of complete uploads of one set, the main file first. On failure all of them stay. */
  commitSet(ids: readonly string[]): Promise<{ view: ModelView; created: boolean }>
  /** Throws not_found. What was made of it stays. */
  remove(id: string): Promise<void>
}

export interface PlanRequest {
  modelId: string
  /** Preset name, inline `step+step` expression, or recipe object, as the client sent it. */
  recipe: unknown
  output?: Partial<OutputOptions> | undefined
}

export interface JobRequest extends PlanRequest {
  datasetId?: string | null | undefined
  /** As the client sent it: object, list of objects, or `metric=top1,maxDrop=0.01`. */
  require?: unknown
  /** false: the artifact is neither measured nor validated. Default true. */
  validate?: boolean | undefined
  /** Told when the job has ended. Without `secret` the server's own signs. */
  webhook?: { url: string; secret?: string | undefined } | undefined
}

export type JobState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'
export const FINAL_STATES: readonly JobState[] = ['succeeded', 'failed', 'cancelled']

export interface JobView {
  id: string
  state: JobState
  /** Stage of a running job; null otherwise. */
  stage: Progress['stage'] | null
  progress: { doneBytes: number; totalBytes: number; tensor: string | null } | null
  /** 1 for the first; grows only when a child died under the job. */
  attempt: number
  modelId: string
  datasetId: string | null
  /** Name of the API key that asked for it; null: the server had no keys. */
  submittedBy: string | null
  recipe: ResolvedRecipe
  output: Partial<OutputOptions>
  require: unknown
  validate: boolean
  /** Set when the job is final and a report exists. */
  reportSha256: string | null
  /** Set when artifact files exist (also when the requirement was not met). */
  artifact: { files: StoredFile[]; requirementMet: boolean | null; reused: boolean } | null
  /** null: none was asked for. */
  webhook: WebhookView | null
  /** There was an artifact, and retention has removed it. */
  artifactExpired: boolean
  error: ErrorObject | null
  createdAt: string
  startedAt: string | null
  finishedAt: string | null
}

export interface WebhookView {
  /** Under this id the receiver sees every attempt. */
  eventId: string
  /** Scheme, host and port; path and query may hold secrets. */
  origin: string
  /** waiting: the job has not ended; pending: due, or to be tried again; dead: given up. */
  state: 'waiting' | 'pending' | 'delivered' | 'dead'
  attempts: number
  lastStatus: number | null
  lastError: string | null
  lastAttemptAt: string | null
  nextAttemptAt: string | null
  deliveredAt: string | null
}

/** `id` grows monotonically, also over restarts of the server. `job` is the whole view at that moment. */
export interface JobEvent {
  id: number
  type: 'state' | 'progress'
  job: JobView
}

export interface ArtifactFile extends StoredFile {
  /** Local path to stream from. */
  path: string
}

export interface JobService {
  /**
   * Durable when it resolves. `replayed`: `submittedBy` sent the Idempotency-Key before with the same request, and that job is
   * returned. Throws not_found, recipe_invalid, request_invalid, dataset_invalid, idempotency_key_reused, too_many_jobs,
   * queue_full, disk_full, store_quota_exceeded, shutting_down.
   */
  create(
    request: JobRequest,
    options?: { idempotencyKey?: string | null; requestId?: string | null; submittedBy?: string | null },
  ): Promise<{ job: JobView; replayed: boolean }>
  list(page: PageRequest & { state?: JobState | null; modelId?: string | null }): Promise<Page<JobView>>
  get(id: string): Promise<JobView>
  /** Settles within about a second with the final view. A job that is final already, or becomes so in another way meanwhile: conflict. */
  cancel(id: string): Promise<JobView>
  /** Resolves with the view once the job is final, or as it is after `timeoutMs` or when `signal` aborts. */
  wait(id: string, timeoutMs: number, signal?: AbortSignal): Promise<JobView>
  /** Replays what it still has after `afterId` (at least the latest view), then follows until the job is final or `signal` aborts. */
  events(id: string, afterId: number | null, signal: AbortSignal): AsyncIterable<JobEvent>
  /** Delivers the webhook of an ended job now, with all its attempts before it. Throws not_found, conflict (no webhook, not ended, delivered). */
  redeliverWebhook(id: string): Promise<JobView>
  /** The stored report JSON. Throws not_found, conflict (the job is not final). */
  report(id: string): Promise<{ path: string; sizeBytes: number; sha256: string }>
  /**
   * Throws not_found, conflict (not final, or failed without artifact), artifact_expired, requirement_not_met unless
   * `evenIfUnmet`.
   */
  artifactFiles(id: string, options?: { evenIfUnmet?: boolean }): Promise<ArtifactFile[]>
}

export interface Health {
  ready: boolean
  /** True from the call of close() on. */
  draining: boolean
  worker: {
    up: boolean
    device: DeviceInfo | null
    limits: DeviceLimits | null
    restarts: number
    lastError: string | null
    /** How long the last start took. */
    startSeconds: number | null
  }
  store: {
    writable: boolean
    error: string | null
    freeBytes: number
    minFreeBytes: number
    usage: StoreUsage
    /** Cap of the store; null: none. */
    quotaBytes: number | null
  }
  /** oldestSeconds: since the acceptance of the job at the head of the queue; 0: none waits. */
  webhooks: { pending: number; dead: number }
  queue: { queued: number; running: number; limit: number; oldestSeconds: number }
  /** Resident bytes of live children, by kind. */
  children: { kind: ChildKind; pid: number; rssBytes: number }[]
}

export type ChildKind = 'gpu' | 'inspect' | 'inference'

/** Facts for metrics, told as they happen. All optional; none may throw or take long. */
export interface ServiceHooks {
  uploaded?(kind: 'model' | 'dataset', sizeBytes: number): void
  jobStarted?(job: JobView, waitSeconds: number): void
  /** `report` is the parsed report where one was built. `stageSeconds` are wall seconds by stage. */
  jobFinished?(job: JobView, details: { seconds: number; stageSeconds: Record<string, number>; report: unknown }): void
  /** A child ended that was not told to. */
  childDied?(kind: ChildKind, cause: 'crashed' | 'timeout' | 'memory' | 'device_lost'): void
  childRestarted?(kind: ChildKind): void
  webhookAttempted?(outcome: AttemptOutcome): void
  /** Retention removed something. */
  expired?(kind: ExpiredKind, reason: ExpiryReason, sizeBytes: number): void
}

export interface ServiceOptions {
  dataDir: string
  /** 'auto', 'reference' or a substring of an adapter name. */
  device: string
  limits?: Partial<ServiceLimits>
  log?: ServiceLog
  hooks?: ServiceHooks
  /** Absent: everything is kept. */
  retention?: { policy: RetentionPolicy; sweepEveryMs: number }
  webhooks?: WebhookOptions
}

export interface WebhookOptions {
  /** Signs deliveries whose job named no secret of its own; null: such jobs are refused. */
  secret: string | null
  /** Hosts, addresses and ranges beyond public ones. */
  allow: string[]
  settings: WebhookSettings
  /** The job as its receivers are shown it: as the API shows it. */
  render: (job: JobView) => object
  /** Instead of DNS, for tests. */
  resolve?: Resolve
}

export interface Service {
  models: ModelService
  datasets: DatasetService
  uploads: UploadService
  plans: { create(request: PlanRequest): Promise<PlanDocument> }
  jobs: JobService
  health(): Promise<Health>
  /** Drains: no new jobs, the running one finishes within the grace or goes back to the queue; then everything is closed. */
  close(): Promise<void>
}
