// The job engine on the SQLite catalogue.

import { join } from 'node:path'
import { createJobQueue } from '../../src/jobs/job-queue.ts'
import { openSqliteCatalog } from '../../src/store/sqlite-catalog.ts'
import { modelRow } from '../support/catalog-contract.ts'
import { jobEngineContract } from '../support/job-engine-contract.ts'
import { tempFolder } from '../support/temp-folder.ts'

const SILENT = { debug() {}, info() {}, warn() {}, error() {} }

jobEngineContract('queue on sqlite', async (t, options) => {
  const catalog = openSqliteCatalog(join(tempFolder(t), 'catalog.sqlite'))
  await catalog.addModel(modelRow('m'))
  const engine = createJobQueue({
    catalog,
    maxQueued: 100,
    maxPerSubmitter: 100,
    maxStageMs: 60_000,
    maxAttempts: 3,
    log: SILENT,
    ...options,
  })
  t.after(async () => {
    await engine.drain(0)
    await catalog.close()
  })
  return { engine, catalog }
})
