// The job engine on the SQLite catalogue.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createJobQueue } from '../../src/jobs/job-queue.ts'
import { openSqliteCatalog } from '../../src/store/sqlite-catalog.ts'
import { modelRow, newJob } from '../support/catalog-contract.ts'
import { jobEngineContract, SUCCESS } from '../support/job-engine-contract.ts'
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

test('a job that ends just before it is cancelled stays as it ended, and the caller is told', async (t) => {
  const catalog = openSqliteCatalog(join(tempFolder(t), 'catalog.sqlite'))
  await catalog.addModel(modelRow('m'))
  const run = async () => SUCCESS
  const engine = createJobQueue({
    catalog: {
      ...catalog,
      async requestCancel(id, now) {
        await engine.start()
        while ((await catalog.getJob(id))?.finishedAt === null) await sleep(1)
        return catalog.requestCancel(id, now)
      },
    },
    maxQueued: 100,
    maxPerSubmitter: 100,
    maxStageMs: 60_000,
    maxAttempts: 3,
    log: SILENT,
    run,
    changed() {},
  })
  t.after(() => catalog.close())
  await engine.enqueue(newJob('a'), null)
  await assert.rejects(engine.cancel('a'), { code: 'conflict', message: /has ended \(succeeded\)/ })
  assert.equal((await catalog.getJob('a'))?.state, 'succeeded')
  await engine.drain(0)
})
