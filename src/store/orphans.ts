// What a crash leaves behind: files and folders that no row names, and whatever lies in temporary/. Entries: findOrphans,
// removeOrphans. Only for a moment in which nothing is received or run: at the start of a server, or under gc's lock.

import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import type { BlobStore } from './blob-store.ts'
import type { Catalog } from './catalog.ts'
import type { DataFolder } from './data-folder.ts'
import { inStore, isMissing } from './file-errors.ts'

export interface Orphan {
  /** temporary: an upload that cannot be resumed, or the working folder of an attempt that ended with its process. */
  kind: 'temporary' | 'upload' | 'model' | 'dataset' | 'blob'
  /** Name of the file or folder; of a blob its sha256. */
  id: string
  sizeBytes: number
}

export async function findOrphans(data: DataFolder, catalog: Catalog, blobs: BlobStore): Promise<Orphan[]> {
  const orphans: Orphan[] = []
  async function addFrom(kind: Orphan['kind'], folder: string, known: ReadonlySet<string>): Promise<void> {
    for (const id of await entries(folder)) {
      if (!known.has(id)) orphans.push({ kind, id, sizeBytes: await sizeOf(join(folder, id)) })
    }
  }
  await inStore('looking for orphans', async () => {
    await addFrom('temporary', data.temporary, new Set())
    // Of a finished or refused upload the row stays for a while; its bytes go at once, unless a crash comes in between.
    const open = (await catalog.listUploads(null)).filter(({ state }) => state === 'receiving' || state === 'stored')
    await addFrom('upload', data.uploads, new Set(open.map(({ id }) => id)))
    await addFrom('model', data.models, await catalog.modelIds())
    await addFrom('dataset', data.datasets, new Set([...(await catalog.datasetIds())].map((id) => `${id}.npz`)))
    const used = await catalog.referencedBlobs()
    for (const id of (await blobs.list()).blobs) {
      if (!used.has(id)) orphans.push({ kind: 'blob', id, sizeBytes: (await blobs.locate(id)).sizeBytes })
    }
  })
  return orphans
}

export async function removeOrphans(
  data: DataFolder,
  catalog: Catalog,
  blobs: BlobStore,
  orphans: readonly Orphan[],
): Promise<void> {
  const folders = { temporary: data.temporary, upload: data.uploads, model: data.models, dataset: data.datasets }
  for (const { kind, id } of orphans) {
    if (kind === 'blob') await blobs.remove(id)
    else await inStore(`removing ${id}`, () => fs.rm(join(folders[kind], id), { recursive: true, force: true }))
  }
  await catalog.forgetUnusedBlobs()
}

/** Sizes of blobs whose rows were written by a version that did not note them. */
export async function sizeOldBlobs(catalog: Catalog, blobs: BlobStore): Promise<void> {
  const now = new Date().toISOString()
  for (const sha256 of await catalog.unsizedBlobs()) {
    const found = await blobs.locate(sha256).catch(() => null) // a vanished file says so when it is used
    if (found !== null) await catalog.addBlob({ sha256, kind: 'document', sizeBytes: found.sizeBytes }, now)
  }
}

async function entries(folder: string): Promise<string[]> {
  try {
    return await fs.readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

async function sizeOf(path: string): Promise<number> {
  const found = await fs.lstat(path)
  if (!found.isDirectory()) return found.size
  const sizes = await Promise.all((await fs.readdir(path)).map((name) => sizeOf(join(path, name))))
  return sizes.reduce((sum, size) => sum + size, 0)
}
