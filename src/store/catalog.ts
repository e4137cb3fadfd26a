// The catalogue: one row per model, dataset, upload, job, artifact and validation. An interface, so that a shared database can stand
// behind it later: every call is asynchronous, every rule that needs two rows is one call, and no call assumes that this is
// the only process. Contents of files are elsewhere (blob-store.ts, model-store.ts); a row is what makes them visible.

import type { ErrorObject } from '../errors.ts'
import type { ModelSummary } from '../tensor/model.ts'
import type { RetentionRows } from './retention-catalog.ts'
import type { UploadCatalog } from './upload-catalog.ts'
import type { NewWebhook, WebhookRows } from './webhook-catalog.ts'

export interface FileRecord {
  name: string
  sizeBytes: number
  sha256: string
}

export interface ModelRecord {
  id: string
  /** The main file first. */
  files: FileRecord[]
  sizeBytes: number
  summary: ModelSummary
  tensorCount: number
  parameterCount: number
  createdAt: string
}

export interface DatasetRecord {
  id: string
  file: FileRecord
  arrays: { name: string; dtype: string; shape: number[] }[]
  createdAt: string
}

export type JobState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled'

export interface JobRecord {
  id: string
  state: JobState
  /** 1 for the first; grows only when a child died under the job. */
  attempt: number
  modelId: string
  datasetId: string | null
  /** Name of the API key that asked for it; null: the server had no keys. */
  submittedBy: string | null
  /** What was asked, resolved; JSON that only src/jobs understands. */
  payload: unknown
  cancelRequested: boolean
  artifactKey: string | null
  artifactReused: boolean
  requirementMet: boolean | null
  reportSha256: string | null
  error: ErrorObject | null
  createdAt: string
  startedAt: string | null
  finishedAt: string | null
}

export interface JobOutcome {
  state: 'succeeded' | 'failed' | 'cancelled'
  artifactKey: string | null
  artifactReused: boolean
  requirementMet: boolean | null
  reportSha256: string | null
  error: ErrorObject | null
}

/** An artifact whose files lie in the blob store. It is served only through a job that names its key. */
export interface ArtifactRecord {
  key: string
  files: FileRecord[]
  /** Blob with the CompressionResult as JSON. */
  resultSha256: string
  /** Whether that result holds measurements (hashes of the input, zstd sizes, errors per tensor). */
  measured: boolean
  createdAt: string
}

export interface ValidationRecord {
  key: string
  artifactKey: string
  /** Blob with the ValidationResult as JSON. */
  resultSha256: string
  createdAt: string
}

export interface Page<T> {
  items: T[]
  /** Opaque; null: the last page. */
  next: string | null
}

export interface PageRequest {
  limit: number
  cursor: string | null
}

export interface NewJob {
  id: string
  modelId: string
  datasetId: string | null
  submittedBy: string | null
  payload: unknown
  createdAt: string
  /** Delivered when the job has ended. */
  webhook?: NewWebhook | null
}

export interface EnqueueLimits {
  /** Jobs that wait. */
  maxQueued: number
  /** Jobs of one API key that wait or run. Jobs without a key are not counted. */
  maxPerSubmitter: number
}

export type EnqueueResult =
  | { kind: 'created' | 'replayed'; job: JobRecord }
  | { kind: 'key_reused'; jobId: string }
  | { kind: 'queue_full'; queued: number }
  | { kind: 'submitter_full'; live: number }
  | { kind: 'model_missing' | 'dataset_missing' }

export type DeleteResult = { kind: 'deleted' | 'missing' } | { kind: 'in_use'; jobId: string }

export interface Catalog extends UploadCatalog, RetentionRows, WebhookRows {
  /** Finishes `uploadIds` in the same transaction. false: a row with this id was there already and stays as it is. */
  addModel(model: ModelRecord, uploadIds?: readonly string[]): Promise<boolean>
  getModel(id: string): Promise<ModelRecord | null>
  listModels(page: PageRequest): Promise<Page<ModelRecord>>
  /** Refuses while a queued or running job uses the model. */
  deleteModel(id: string): Promise<DeleteResult>

  addDataset(dataset: DatasetRecord, uploadIds?: readonly string[]): Promise<boolean>
  getDataset(id: string): Promise<DatasetRecord | null>
  listDatasets(page: PageRequest): Promise<Page<DatasetRecord>>
  deleteDataset(id: string): Promise<DeleteResult>

  /**
   * One transaction: an idempotency key that the same submitter sent before decides first, then how many jobs the submitter
   * has, then the queue length, then model and dataset must exist. Durable when it resolves.
   */
  enqueueJob(
    job: NewJob,
    idempotency: { key: string; fingerprint: string } | null,
    limits: EnqueueLimits,
  ): Promise<EnqueueResult>
  /** The job that this submitter asked for with this idempotency key before; null: none that is still there. */
  findReplay(submittedBy: string | null, key: string): Promise<{ job: JobRecord; fingerprint: string } | null>
  getJob(id: string): Promise<JobRecord | null>
  listJobs(page: PageRequest & { state?: JobState | null; modelId?: string | null }): Promise<Page<JobRecord>>
  /** oldestQueuedAt: when the job that waits at the head of the queue was accepted; null: none waits. */
  countJobs(): Promise<{ queued: number; running: number; oldestQueuedAt: string | null }>
  /** Takes the oldest queued job and makes it running; null: none waits. */
  claimJob(now: string): Promise<JobRecord | null>
  /** running -> queued with this attempt number; null when the job is not running. */
  requeueJob(id: string, attempt: number): Promise<JobRecord | null>
  /** running -> final; null when the job is not running any more (it was cancelled). */
  finishJob(id: string, outcome: JobOutcome, now: string): Promise<JobRecord | null>
  /** queued -> cancelled at once; running -> marked, so that a restart does not run it again. null: no such job. */
  requestCancel(id: string, now: string): Promise<JobRecord | null>
  /** At start: running jobs go back to queued without counting an attempt, those marked for cancelling end. Returns how many. */
  recoverJobs(now: string): Promise<{ requeued: number; cancelled: number }>

  getArtifact(key: string): Promise<ArtifactRecord | null>
  /** Adds or replaces (a measured result replaces one that was not). */
  putArtifact(artifact: ArtifactRecord): Promise<void>
  /** Removes the row and its validations unless a job names it; used when an artifact turns out not to load. */
  dropArtifact(key: string, now: string): Promise<void>
  getValidation(key: string): Promise<ValidationRecord | null>
  putValidation(validation: ValidationRecord): Promise<void>

  modelIds(): Promise<Set<string>>
  datasetIds(): Promise<Set<string>>
  /** Every blob that a row names; blobs beyond these are orphans. */
  referencedBlobs(): Promise<Set<string>>
  close(): Promise<void>
}
