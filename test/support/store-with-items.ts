// A store on an empty folder, and things to lie in it whose last use is chosen. Entry: openTestStore.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { TestContext } from 'node:test'
import { openStore, type Store } from '../../src/store/open-store.ts'
import { type Expiry, KEEP_EVERYTHING, type RetentionPolicy } from '../../src/store/retention.ts'
import { modelRow, newJob, ROOMY } from './catalog-contract.ts'
import { tempFolder } from './temp-folder.ts'

const HOUR_MS = 3_600_000
/** The hour in which tests take place; items are used some hours before. */
export const NOW_MS = Date.UTC(2026, 5, 1, 12)
export const hoursAgo = (hours: number) => new Date(NOW_MS - hours * HOUR_MS).toISOString()
export const hours = (count: number) => count * HOUR_MS

export interface TestStore extends Store {
  dataDir: string
  /** What onExpired was told. */
  told: Expiry[]
  /** `bytes` bytes, last used `hours` ago. */
  model(id: string, bytes: number, hours: number): Promise<void>
  dataset(id: string, bytes: number, hours: number): Promise<void>
  artifact(key: string, content: string, hours: number): Promise<void>
  /** A job of model `modelId` that has ended `hours` ago with this artifact. */
  endedJob(id: string, modelId: string, artifactKey: string | null, hours: number): Promise<void>
}

export async function openTestStore(t: TestContext, policy: Partial<RetentionPolicy> = {}): Promise<TestStore> {
  const dataDir = tempFolder(t)
  const told: Expiry[] = []
  const store = await openStore(dataDir, {
    policy: { ...KEEP_EVERYTHING, ...policy },
    onExpired: (expiry) => told.push(expiry),
  })
  t.after(() => store.close())
  const { catalog, data, artifacts } = store

  function setLastUse(table: string, key: string, id: string, value: string): void {
    const db = new DatabaseSync(data.catalogPath)
    db.prepare(`UPDATE ${table} SET last_used_at = ? WHERE ${key} = ?`).run(value, id)
    db.close()
  }

  return {
    ...store,
    dataDir,
    told,
    async model(id, bytes, ago) {
      mkdirSync(join(data.models, id, 'files'), { recursive: true })
      writeFileSync(join(data.models, id, 'files', `${id}.onnx`), Buffer.alloc(bytes))
      const files = [{ name: `${id}.onnx`, sizeBytes: bytes, sha256: id }]
      await catalog.addModel({ ...modelRow(id), files, sizeBytes: bytes, createdAt: hoursAgo(ago) })
    },
    async dataset(id, bytes, ago) {
      writeFileSync(join(data.datasets, `${id}.npz`), Buffer.alloc(bytes))
      const file = { name: 'd.npz', sizeBytes: bytes, sha256: id }
      await catalog.addDataset({ id, file, arrays: [], createdAt: hoursAgo(ago) })
    },
    async artifact(key, content, ago) {
      const folder = await data.makeTemporary('made')
      writeFileSync(join(folder, 'a.onnx'), content)
      await artifacts.keep(key, folder, [{ name: 'a.onnx', sha256: null }], () => ({ made: key }), true)
      rmSync(folder, { recursive: true })
      setLastUse('artifacts', 'key', key, hoursAgo(ago))
    },
    async endedJob(id, modelId, artifactKey, ago) {
      await catalog.enqueueJob({ ...newJob(id, modelId), createdAt: hoursAgo(ago) }, null, ROOMY)
      await catalog.claimJob(hoursAgo(ago))
      const reportSha256 = await artifacts.putDocument({ reportOf: id })
      const outcome = { state: 'succeeded', artifactReused: false, requirementMet: null, error: null } as const
      await catalog.finishJob(id, { ...outcome, artifactKey, reportSha256 }, hoursAgo(ago))
    },
  }
}
