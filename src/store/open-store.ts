// Everything that lies in one data folder, opened together: folder and lock, catalogue, stores, retention. Entry: openStore,
// for the server and for `tensorpress gc`.

import { type ArtifactStore, createArtifactStore } from './artifact-store.ts'
import { type BlobStore, createLocalBlobStore } from './blob-store.ts'
import type { Catalog } from './catalog.ts'
import { type DataFolder, openDataFolder } from './data-folder.ts'
import { createDatasetStore, type DatasetStore } from './dataset-store.ts'
import { createGarbageCollector, type GarbageCollector } from './garbage-collector.ts'
import { createModelStore, type ModelStore } from './model-store.ts'
import type { Expiry, RetentionPolicy } from './retention.ts'
import { openSqliteCatalog } from './sqlite-catalog.ts'
import { createStoreQuota, type StoreQuota } from './store-quota.ts'

export interface Store {
  data: DataFolder
  catalog: Catalog
  blobs: BlobStore
  models: ModelStore
  datasets: DatasetStore
  artifacts: ArtifactStore
  collector: GarbageCollector
  quota: StoreQuota
  /** Closes the catalogue and drops the lock. */
  close(): Promise<void>
}

export interface OpenStoreOptions {
  policy: RetentionPolicy
  /** The folder must be there and of this version, and nothing in it is changed by opening it. */
  existing?: boolean
  onExpired?: (expiry: Expiry) => void
}

/** Throws conflict (another process has the folder), not_found (with `existing`), store_failed. */
export async function openStore(dataDir: string, options: OpenStoreOptions): Promise<Store> {
  const { policy, existing = false } = options
  const data = await openDataFolder(dataDir, { existing })
  try {
    const catalog = openSqliteCatalog(data.catalogPath, { keepsSpace: !existing })
    const blobs = createLocalBlobStore(data.blobs, data.makeTemporary)
    const models = createModelStore(data, catalog)
    const datasets = createDatasetStore(data, catalog)
    const artifacts = createArtifactStore(catalog, blobs)
    const collector = createGarbageCollector({
      catalog,
      models,
      datasets,
      artifacts,
      policy,
      ...(options.onExpired === undefined ? {} : { onExpired: options.onExpired }),
    })
    return {
      data,
      catalog,
      blobs,
      models,
      datasets,
      artifacts,
      collector,
      quota: createStoreQuota(policy.storeBytes, catalog, collector),
      async close() {
        await catalog.close()
        data.close()
      },
    }
  } catch (error) {
    data.close()
    throw error
  }
}
