// The part of the catalogue that retention needs: when things were last used, what they weigh, who uses which blob, and
// removal that checks and removes in one transaction. Types only; Catalog extends RetentionRows.

export type StoredKind = 'model' | 'dataset' | 'artifact'

export interface StoreUsage {
  modelBytes: number
  datasetBytes: number
  /** Of uploads that are not finished yet: what they announced. */
  uploadBytes: number
  /** Files of artifacts; one that two artifacts share counts once. */
  artifactBytes: number
  /** Reports, results of compression and validation. */
  documentBytes: number
}

export interface BlobRecord {
  sha256: string
  kind: 'artifact' | 'document'
  sizeBytes: number
}

/** A model, dataset or artifact that no queued or running job uses. */
export interface UnusedItem {
  kind: StoredKind
  /** Of an artifact: its key. */
  id: string
  lastUsedAt: string
  /** Bytes that go with it for certain. */
  ownBytes: number
  /** Blobs that go with it once nobody else uses them; `users` counts this item too. */
  blobs: { sha256: string; sizeBytes: number; users: number }[]
}

export interface EndedJob {
  id: string
  finishedAt: string
  reportBytes: number
}

export type RemovalResult =
  /** `blobs`: those that nobody uses any more, since `unusedSince`; their files are still there. */
  { kind: 'removed'; freedBytes: number; blobs: string[]; unusedSince: string } | { kind: 'kept' }

export interface RetentionRows {
  usage(): Promise<StoreUsage>
  /** Marks as used now. Uses that follow one another within a minute may be written as one. */
  touch(kind: StoredKind, id: string, now: string): Promise<void>
  /** The job makes or uses this artifact: it stays at least until the job has ended. */
  claimArtifact(jobId: string, key: string, now: string): Promise<void>

  /** Least recently used first; `after`: the last item of the page before. */
  listUnused(page: { usedBefore: string; after: UnusedItem | null; limit: number }): Promise<UnusedItem[]>
  /** Only if it was not used since `usedBefore` and no queued or running job uses it. With an artifact go its validations. */
  removeUnused(kind: StoredKind, id: string, usedBefore: string, now: string): Promise<RemovalResult>

  /** Jobs that ended before `endedBefore` and whose webhook is not due, oldest first. */
  listEndedJobs(page: { endedBefore: string; limit: number; offset: number }): Promise<EndedJob[]>
  countEndedJobs(): Promise<number>
  /** Only if it is final and its webhook is not due; with its report and idempotency keys. The artifact stays, for equal jobs. */
  removeJob(id: string, now: string): Promise<RemovalResult>

  /** The file of the blob is in the store. Unused until a row that names it is added. */
  addBlob(blob: BlobRecord, now: string): Promise<void>
  listUnusedBlobs(unusedBefore: string): Promise<(BlobRecord & { unusedSince: string })[]>
  isUnusedSince(sha256: string, unusedSince: string): Promise<boolean>
  forgetBlob(sha256: string): Promise<void>
  /** At start, when nothing is being put: forgets every unused blob. */
  forgetUnusedBlobs(): Promise<void>
  /** Blobs in use whose size is not known: of rows that an earlier version wrote. */
  unsizedBlobs(): Promise<string[]>
}
