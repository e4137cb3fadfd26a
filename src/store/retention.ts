// The rules of retention as values and pure functions: what is too old, and how many bytes go with an item. Carried out by
// garbage-collector.ts; the settings and their reasons are in src/config.ts.

import type { StoredKind, StoreUsage, UnusedItem } from './retention-catalog.ts'

export interface RetentionPolicy {
  /** Bytes of models, datasets, unfinished uploads, artifacts and documents together; null: no cap. */
  storeBytes: number | null
  /** Unused for longer than this: it goes; null: age is no reason. Of a job: since its end. */
  maxAgeMs: Record<StoredKind | 'job', number | null>
  /** Ended jobs that are kept, the newest; null: any number. */
  maxEndedJobs: number | null
  /** What was used this recently is not evicted for space: a client may be between its upload and its job. */
  graceMs: number
}

export const KEEP_EVERYTHING: RetentionPolicy = {
  storeBytes: null,
  maxAgeMs: { model: null, dataset: null, artifact: null, job: null },
  maxEndedJobs: null,
  graceMs: 0,
}

export type ExpiryReason = 'age' | 'quota' | 'count' | 'orphan'
export type ExpiredKind = StoredKind | 'job' | 'blob' | 'temporary' | 'upload'

/** One thing that goes, or went. */
export interface Expiry {
  kind: ExpiredKind
  id: string
  reason: ExpiryReason
  sizeBytes: number
  /** When it was last used; of a job: when it ended; of an orphan: null. */
  lastUsedAt: string | null
}

export const NOTHING_STORED: StoreUsage = {
  modelBytes: 0,
  datasetBytes: 0,
  uploadBytes: 0,
  artifactBytes: 0,
  documentBytes: 0,
}

export function totalBytes(usage: StoreUsage): number {
  return usage.modelBytes + usage.datasetBytes + usage.uploadBytes + usage.artifactBytes + usage.documentBytes
}

/** How long something may lie unused before any age in the policy is over; null: nothing goes by age. */
export function shortestAgeMs({ maxAgeMs }: RetentionPolicy): number | null {
  const ages = [maxAgeMs.model, maxAgeMs.dataset, maxAgeMs.artifact].filter((age) => age !== null)
  return ages.length === 0 ? null : Math.min(...ages)
}

export function isTooOld(item: UnusedItem, { maxAgeMs }: RetentionPolicy, nowMs: number): boolean {
  const age = maxAgeMs[item.kind]
  return age !== null && nowMs - Date.parse(item.lastUsedAt) > age
}

/** Bytes that go with each item, when items go one after another: a shared blob goes with the last of its users. */
export function createFreedBytes(): (item: UnusedItem) => number {
  const usersLeft = new Map<string, number>()
  return ({ ownBytes, blobs }) => {
    let freed = ownBytes
    for (const { sha256, sizeBytes, users } of blobs) {
      const left = (usersLeft.get(sha256) ?? users) - 1
      usersLeft.set(sha256, left)
      if (left === 0) freed += sizeBytes
    }
    return freed
  }
}

/** The settings of src/config.ts, in which 0 stands for "no cap" and "never". */
export interface RetentionSettings {
  storeBytes: number
  modelMaxAgeHours: number
  datasetMaxAgeHours: number
  artifactMaxAgeHours: number
  jobMaxAgeHours: number
  endedJobs: number
  evictionGraceSeconds: number
}

const HOUR_MS = 3_600_000

export function policyOf(settings: RetentionSettings): RetentionPolicy {
  const ms = (hours: number) => (hours === 0 ? null : hours * HOUR_MS)
  return {
    storeBytes: settings.storeBytes || null,
    maxAgeMs: {
      model: ms(settings.modelMaxAgeHours),
      dataset: ms(settings.datasetMaxAgeHours),
      artifact: ms(settings.artifactMaxAgeHours),
      job: ms(settings.jobMaxAgeHours),
    },
    maxEndedJobs: settings.endedJobs || null,
    graceMs: settings.evictionGraceSeconds * 1000,
  }
}
