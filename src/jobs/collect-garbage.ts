// `tensorpress gc` behind its command line: what retention and a crash leave to be removed in a data folder that no server
// holds, told or done. Entry: collectGarbage.

import { AppError } from '../errors.ts'
import { openStore, type Store } from '../store/open-store.ts'
import { findOrphans, removeOrphans, sizeOldBlobs } from '../store/orphans.ts'
import { type Expiry, policyOf, type RetentionSettings, totalBytes } from '../store/retention.ts'

export type { Expiry, RetentionSettings }

export interface GarbageReport {
  dataDir: string
  dryRun: boolean
  /** Bytes of rows before anything went; orphans have no row. */
  storedBytes: number
  /** The same afterwards. */
  leftBytes: number
  /** null: no cap. */
  storeBytes: number | null
  /** In the order in which they go, or went. */
  items: Expiry[]
  /** Bytes of the items together. */
  bytes: number
}

/** Throws conflict (a server holds the folder, or it is of an older version), not_found, store_failed. */
export async function collectGarbage(
  dataDir: string,
  settings: RetentionSettings,
  dryRun: boolean,
): Promise<GarbageReport> {
  const policy = policyOf(settings)
  const store = await openStore(dataDir, { policy, existing: true }).catch((error: unknown) => {
    throw heldByServer(AppError.from(error))
  })
  try {
    const storedBytes = totalBytes(await store.catalog.usage())
    const orphans = await collectOrphans(store, dryRun)
    if (!dryRun) await sizeOldBlobs(store.catalog, store.blobs)
    const { collector } = store
    const expired = await (dryRun ? collector.plan(Date.now()) : collector.collect(Date.now()))
    const leftBytes = dryRun ? storedBytes - sumBytes(expired) : totalBytes(await store.catalog.usage())
    // A blob without a user is an orphan and an unused blob; it goes once.
    const known = new Set(orphans.map(({ kind, id }) => `${kind} ${id}`))
    const items = [...orphans, ...expired.filter(({ kind, id }) => !known.has(`${kind} ${id}`))]
    const { storeBytes } = policy
    return { dataDir: store.data.root, dryRun, storedBytes, leftBytes, storeBytes, items, bytes: sumBytes(items) }
  } finally {
    await store.close()
  }
}

function sumBytes(items: readonly Expiry[]): number {
  return items.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
}

async function collectOrphans({ data, catalog, blobs }: Store, dryRun: boolean): Promise<Expiry[]> {
  const orphans = await findOrphans(data, catalog, blobs)
  if (!dryRun) await removeOrphans(data, catalog, blobs, orphans)
  return orphans.map((orphan) => ({ ...orphan, reason: 'orphan', lastUsedAt: null }))
}

function heldByServer(error: AppError): AppError {
  const { holder, dataDir } = error.context
  if (error.code !== 'conflict' || holder === undefined) return error
  return new AppError(
    'conflict',
    `Process ${String(holder)} holds the data folder ${String(dataDir)}. A running server removes what has expired by ` +
      'itself (metric tensorpress_expired_total); gc is for a folder that no server uses.',
    error.context,
    error,
  )
}
