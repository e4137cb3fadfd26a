// Carries retention out: by age, by count, and by space when the store is over its cap or room is asked for. Entry:
// createGarbageCollector. Each removal is decided again inside its transaction, so that what was used meanwhile stays; rows
// go before files, so that a crash leaves orphans for the next start and never a row without its file.

import type { ArtifactStore } from './artifact-store.ts'
import type { Catalog } from './catalog.ts'
import type { DatasetStore } from './dataset-store.ts'
import type { ModelStore } from './model-store.ts'
import {
  createFreedBytes,
  type Expiry,
  type ExpiryReason,
  isTooOld,
  type RetentionPolicy,
  shortestAgeMs,
  totalBytes,
} from './retention.ts'
import type { EndedJob, RemovalResult, StoredKind, UnusedItem } from './retention-catalog.ts'
import type { RoomMaker } from './store-quota.ts'

export interface GarbageCollector extends RoomMaker {
  /** What collect() would do now, without doing it. */
  plan(nowMs: number): Promise<Expiry[]>
  /** Returns what went, in order. */
  collect(nowMs: number): Promise<Expiry[]>
}

export interface CollectorParts {
  catalog: Catalog
  models: ModelStore
  datasets: DatasetStore
  artifacts: ArtifactStore
  policy: RetentionPolicy
  /** Told of everything that went. */
  onExpired?: (expiry: Expiry) => void
}

const PAGE = 200
/** A report is put before its job is finished, and a result before its row: what is unused for longer has no row coming. */
const BLOB_GRACE_MS = 3_600_000

const iso = (ms: number) => new Date(ms).toISOString()

export function createGarbageCollector(parts: CollectorParts): GarbageCollector {
  const { catalog, models, datasets, artifacts, policy } = parts

  async function* unusedSince(usedBefore: string): AsyncGenerator<UnusedItem> {
    let after: UnusedItem | null = null
    for (;;) {
      const items: UnusedItem[] = await catalog.listUnused({ usedBefore, after, limit: PAGE })
      yield* items
      after = items.at(-1) ?? null
      if (items.length < PAGE) return
    }
  }

  async function chooseAged(nowMs: number): Promise<UnusedItem[]> {
    const ageMs = shortestAgeMs(policy)
    const chosen: UnusedItem[] = []
    if (ageMs === null) return chosen
    for await (const item of unusedSince(iso(nowMs - ageMs))) if (isTooOld(item, policy, nowMs)) chosen.push(item)
    return chosen
  }

  /** Least recently used first, without those chosen already, until `bytes` go or nothing is left. */
  async function chooseForSpace(
    bytes: number,
    nowMs: number,
    chosen: ReadonlySet<string> = new Set(),
    freedBytes = createFreedBytes(),
  ): Promise<{ items: (UnusedItem & { sizeBytes: number })[]; enough: boolean }> {
    const items: (UnusedItem & { sizeBytes: number })[] = []
    let left = bytes
    if (left <= 0) return { items, enough: true }
    for await (const item of unusedSince(iso(nowMs - policy.graceMs))) {
      if (chosen.has(nameOf(item))) continue
      const sizeBytes = freedBytes(item)
      items.push({ ...item, sizeBytes })
      left -= sizeBytes
      if (left <= 0) return { items, enough: true }
    }
    return { items, enough: false }
  }

  async function choosePastJobs(nowMs: number): Promise<{ job: EndedJob; reason: ExpiryReason }[]> {
    const chosen: { job: EndedJob; reason: ExpiryReason }[] = []
    const { maxAgeMs, maxEndedJobs } = policy
    const take = async (reason: ExpiryReason, endedBefore: string, upTo: number) => {
      while (chosen.length < upTo) {
        const limit = Math.min(PAGE, upTo - chosen.length)
        const page = await catalog.listEndedJobs({ endedBefore, limit, offset: chosen.length })
        chosen.push(...page.map((job) => ({ job, reason })))
        if (page.length < limit) return
      }
    }
    if (maxAgeMs.job !== null) await take('age', iso(nowMs - maxAgeMs.job), Number.MAX_SAFE_INTEGER)
    if (maxEndedJobs !== null) await take('count', iso(nowMs), (await catalog.countEndedJobs()) - maxEndedJobs)
    return chosen
  }

  /** Bytes that stay beyond the cap when `freed` go; 0 or less: none. */
  async function excessBytes(freed: number): Promise<number> {
    return policy.storeBytes === null ? 0 : totalBytes(await catalog.usage()) - freed - policy.storeBytes
  }

  async function removeBlobs(result: RemovalResult): Promise<number | null> {
    if (result.kind === 'kept') return null
    for (const sha256 of result.blobs) await artifacts.removeBlob(sha256, result.unusedSince)
    return result.freedBytes
  }

  const removers: Record<StoredKind, (id: string, usedBefore: string) => Promise<number | null>> = {
    model: (id, usedBefore) => models.removeUnused(id, usedBefore),
    dataset: (id, usedBefore) => datasets.removeUnused(id, usedBefore),
    artifact: async (id, usedBefore) =>
      removeBlobs(await catalog.removeUnused('artifact', id, usedBefore, iso(Date.now()))),
  }

  async function remove(gone: Expiry[], items: UnusedItem[], reason: ExpiryReason): Promise<void> {
    for (const item of items) {
      const sizeBytes = await removers[item.kind](item.id, item.lastUsedAt)
      if (sizeBytes !== null) tell(gone, expiryOf({ ...item, sizeBytes }, reason))
    }
  }

  function tell(gone: Expiry[], expiry: Expiry): void {
    gone.push(expiry)
    parts.onExpired?.(expiry)
  }

  return {
    async plan(nowMs) {
      const freedBytes = createFreedBytes()
      const aged = await chooseAged(nowMs)
      const blobs = await catalog.listUnusedBlobs(iso(nowMs - BLOB_GRACE_MS))
      const planned = [
        ...aged.map((item) => expiryOf({ ...item, sizeBytes: freedBytes(item) }, 'age')),
        ...(await choosePastJobs(nowMs)).map(({ job, reason }) => pastJob(job, reason, job.reportBytes)),
        ...blobs.map(({ sha256, sizeBytes }) => unusedBlob(sha256, sizeBytes)),
      ]
      const excess = await excessBytes(planned.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0))
      const { items } = await chooseForSpace(excess, nowMs, new Set(aged.map(nameOf)), freedBytes)
      return [...planned, ...items.map((item) => expiryOf(item, 'quota'))]
    },
    async collect(nowMs) {
      const gone: Expiry[] = []
      await remove(gone, await chooseAged(nowMs), 'age')
      for (const { job, reason } of await choosePastJobs(nowMs)) {
        const sizeBytes = await removeBlobs(await catalog.removeJob(job.id, iso(Date.now())))
        if (sizeBytes !== null) tell(gone, pastJob(job, reason, sizeBytes))
      }
      for (const { sha256, sizeBytes, unusedSince } of await catalog.listUnusedBlobs(iso(nowMs - BLOB_GRACE_MS))) {
        if (await artifacts.removeBlob(sha256, unusedSince)) tell(gone, unusedBlob(sha256, sizeBytes))
      }
      const { items } = await chooseForSpace(await excessBytes(0), nowMs)
      await remove(gone, items, 'quota')
      return gone
    },
    async makeRoom(bytes, nowMs) {
      const { items, enough } = await chooseForSpace(bytes, nowMs)
      if (enough) await remove([], items, 'quota')
      return enough
    },
  }
}

const nameOf = ({ kind, id }: UnusedItem) => `${kind} ${id}`

function expiryOf(item: UnusedItem & { sizeBytes: number }, reason: ExpiryReason): Expiry {
  const { kind, id, sizeBytes, lastUsedAt } = item
  return { kind, id, reason, sizeBytes, lastUsedAt }
}

function pastJob({ id, finishedAt }: EndedJob, reason: ExpiryReason, sizeBytes: number): Expiry {
  return { kind: 'job', id, reason, sizeBytes, lastUsedAt: finishedAt }
}

function unusedBlob(id: string, sizeBytes: number): Expiry {
  return { kind: 'blob', id, reason: 'orphan', sizeBytes, lastUsedAt: null }
}
