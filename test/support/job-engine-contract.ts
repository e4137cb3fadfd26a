// What every JobEngine must do, whatever stands behind it. Entry: jobEngineContract(name, open).

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import type { JobEngine, QueueOptions } from '../../src/jobs/job-queue.ts'
import type { Catalog, JobOutcome, JobRecord } from '../../src/store/catalog.ts'
import { newJob } from './catalog-contract.ts'

export interface OpenEngine {
  engine: JobEngine
  catalog: Catalog
}

/** `open` gives an engine on an empty catalogue that has model "m". The engine is not started. */
export type Open = (
  t: TestContext,
  options: Pick<QueueOptions, 'run' | 'changed'> & Partial<QueueOptions>,
) => Promise<OpenEngine>

export const SUCCESS: JobOutcome = {
  state: 'succeeded',
  artifactKey: null,
  artifactReused: false,
  requirementMet: null,
  reportSha256: null,
  error: null,
}
const code = (expected: ErrorCode) => (error: unknown) => error instanceof AppError && error.code === expected
const silent = () => {}
/** A second, and what a loaded test machine may add. */
const WITHIN_A_SECOND_MS = 1500

async function final(catalog: Catalog, id: string): Promise<JobRecord> {
  for (let tries = 0; tries < 500; tries++) {
    const job = await catalog.getJob(id)
    if (job?.finishedAt) return job
    await sleep(10)
  }
  throw new Error(`job ${id} did not end in 5 s`)
}

export function jobEngineContract(name: string, open: Open): void {
  test(`${name}: jobs run one at a time, oldest first`, async (t) => {
    const log: string[] = []
    const { engine, catalog } = await open(t, {
      async run(job) {
        log.push(`+${job.id}`)
        await sleep(5)
        log.push(`-${job.id}`)
        return SUCCESS
      },
      changed: silent,
    })
    for (const id of ['a', 'b', 'c']) await engine.enqueue(newJob(id), null)
    await engine.start()
    await final(catalog, 'c')
    assert.deepEqual(log, ['+a', '-a', '+b', '-b', '+c', '-c'])
  })

  test(`${name}: a job that comes later is begun at once`, async (t) => {
    const { engine, catalog } = await open(t, { run: async () => SUCCESS, changed: silent })
    await engine.start()
    await sleep(20)
    await engine.enqueue(newJob('a'), null)
    assert.equal((await final(catalog, 'a')).state, 'succeeded')
  })

  for (const failing of ['worker_crashed', 'worker_timeout', 'device_lost'] as const) {
    test(`${name}: ${failing} is tried again up to the limit, then ends the job with that code`, async (t) => {
      const attempts: number[] = []
      const { engine, catalog } = await open(t, {
        maxAttempts: 3,
        async run(job) {
          attempts.push(job.attempt)
          throw new AppError(failing, 'the child is gone.')
        },
        changed: silent,
      })
      await engine.start()
      await engine.enqueue(newJob('a'), null)
      const job = await final(catalog, 'a')
      assert.deepEqual(attempts, [1, 2, 3])
      assert.deepEqual([job.state, job.error?.code, job.error?.context['attempts']], ['failed', failing, 3])
    })
  }

  test(`${name}: any other failure ends the job at the first attempt`, async (t) => {
    const { engine, catalog } = await open(t, {
      async run() {
        throw new TypeError('a bug')
      },
      changed: silent,
    })
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    const job = await final(catalog, 'a')
    assert.deepEqual([job.attempt, job.error?.code, job.error?.detail], [1, 'internal', 'a bug'])
  })

  test(`${name}: a job that was running when the engine died is run again without counting an attempt`, async (t) => {
    const attempts: number[] = []
    const { engine, catalog } = await open(t, {
      async run(job) {
        attempts.push(job.attempt)
        return SUCCESS
      },
      changed: silent,
    })
    await engine.enqueue(newJob('a'), null)
    await catalog.claimJob(new Date().toISOString()) // as the engine that died had done
    await engine.start()
    assert.equal((await final(catalog, 'a')).state, 'succeeded')
    assert.deepEqual(attempts, [1])
  })

  test(`${name}: a job that is too long in one stage ends with stage_timeout, at the first attempt, and the next one runs`, async (t) => {
    const runs: string[] = []
    const { engine, catalog } = await open(t, {
      maxStageMs: 50,
      async run(job, { signal, onProgress }) {
        runs.push(job.id)
        onProgress({ stage: 'validating', doneBytes: 0, totalBytes: 0, tensor: null })
        if (job.id === 'a') await sleep(60_000, undefined, { signal })
        return SUCCESS
      },
      changed: silent,
    })
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    await engine.enqueue(newJob('b'), null)
    const job = await final(catalog, 'a')
    assert.deepEqual([job.state, job.error?.code], ['failed', 'stage_timeout'])
    assert.deepEqual(job.error?.context, { limit: 'stageSeconds', allowed: 0.05, stage: 'validating' })
    assert.equal((await final(catalog, 'b')).state, 'succeeded')
    assert.deepEqual(runs, ['a', 'b'])
  })

  test(`${name}: a job that is long, but not in one stage, goes through`, async (t) => {
    const { engine, catalog } = await open(t, {
      maxStageMs: 150,
      async run(_, { signal, onProgress }) {
        for (const stage of ['opening', 'encoding', 'measuring', 'validating'] as const) {
          onProgress({ stage, doneBytes: 0, totalBytes: 0, tensor: null })
          await sleep(60, undefined, { signal })
        }
        return SUCCESS
      },
      changed: silent,
    })
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    assert.equal((await final(catalog, 'a')).state, 'succeeded')
  })

  test(`${name}: cancelling reaches the run by its signal and settles with the final state`, async (t) => {
    const begun = Promise.withResolvers<void>()
    const { engine } = await open(t, {
      async run(_, { signal }) {
        begun.resolve()
        await sleep(60_000, undefined, { signal })
        return SUCCESS
      },
      changed: silent,
    })
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    await begun.promise
    assert.equal((await engine.cancel('a')).state, 'cancelled')
  })

  test(`${name}: a run that succeeds in spite of its signal stays succeeded, and the caller is told`, async (t) => {
    const { engine, catalog } = await open(t, {
      run: (_job, { signal }) => new Promise((resolve) => signal.addEventListener('abort', () => resolve(SUCCESS))),
      changed: silent,
    })
    await engine.enqueue(newJob('a'), null)
    await engine.start()
    while ((await catalog.getJob('a'))?.state !== 'running') await sleep(1)
    await sleep(5)
    await assert.rejects(engine.cancel('a'), { code: 'conflict', message: /has ended \(succeeded\)/ })
    assert.equal((await catalog.getJob('a'))?.state, 'succeeded')
  })

  test(`${name}: a run that ignores its signal is shown as cancelled within a second, and its end changes nothing`, async (t) => {
    const begun = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    const { engine, catalog } = await open(t, {
      async run() {
        begun.resolve()
        await release.promise
        return SUCCESS
      },
      changed: silent,
    })
    t.after(() => release.resolve())
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    await begun.promise
    const start = performance.now()
    assert.equal((await engine.cancel('a')).state, 'cancelled')
    assert.ok(performance.now() - start < WITHIN_A_SECOND_MS)
    await engine.enqueue(newJob('b'), null)
    release.resolve()
    assert.equal((await final(catalog, 'b')).state, 'succeeded')
    assert.equal((await catalog.getJob('a'))?.state, 'cancelled')
  })

  test(`${name}: cancel in the moment a job is taken still cancels it`, async (t) => {
    let cancelling: Promise<JobRecord> | null = null
    const { engine, catalog } = await open(t, {
      async run(_, { signal }) {
        await sleep(300, undefined, { signal })
        return SUCCESS
      },
      changed: (_, job) => {
        if (job.state === 'running') cancelling ??= engine.cancel(job.id)
      },
    })
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    assert.equal((await final(catalog, 'a')).state, 'cancelled')
    assert.equal((await cancelling!).state, 'cancelled')
  })

  test(`${name}: drain waits for the running job and takes no other`, async (t) => {
    const begun = Promise.withResolvers<void>()
    const { engine, catalog } = await open(t, {
      async run() {
        begun.resolve()
        await sleep(50)
        return SUCCESS
      },
      changed: silent,
    })
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    await engine.enqueue(newJob('b'), null)
    await begun.promise
    await engine.drain(5000)
    assert.equal((await catalog.getJob('a'))?.state, 'succeeded')
    assert.equal((await catalog.getJob('b'))?.state, 'queued')
    await assert.rejects(engine.enqueue(newJob('c'), null), code('shutting_down'))
  })

  test(`${name}: drain without grace puts the running job back, at the same attempt`, async (t) => {
    const begun = Promise.withResolvers<void>()
    const { engine, catalog } = await open(t, {
      async run(_, { signal }) {
        begun.resolve()
        await sleep(60_000, undefined, { signal })
        return SUCCESS
      },
      changed: silent,
    })
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    await begun.promise
    await engine.drain(0)
    const job = await catalog.getJob('a')
    assert.deepEqual([job?.state, job?.attempt], ['queued', 1])
  })

  test(`${name}: every change of state is told, and progress at least once a second`, async (t) => {
    const told: string[] = []
    const { engine, catalog } = await open(t, {
      async run(job, { onProgress }) {
        onProgress({ stage: 'encoding', doneBytes: 1, totalBytes: 2, tensor: 'w' })
        await sleep(1150)
        assert.deepEqual(engine.progress(job.id), { stage: 'encoding', doneBytes: 1, totalBytes: 2, tensor: 'w' })
        return SUCCESS
      },
      changed: (type, job) => void told.push(`${type} ${job.state}`),
    })
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    await final(catalog, 'a')
    assert.deepEqual(told, ['state queued', 'state running', 'progress running', 'progress running', 'state succeeded'])
    assert.equal(engine.progress('a'), null)
  })

  test(`${name}: a catalogue that fails for a while does not lose the end of a job`, async (t) => {
    const { engine, catalog } = await open(t, { run: async () => SUCCESS, changed: silent })
    const { finishJob } = catalog
    let failures = 1
    catalog.finishJob = async (...args) => {
      if (failures-- > 0) throw new AppError('disk_full', 'no space')
      return finishJob(...args)
    }
    await engine.start()
    await engine.enqueue(newJob('a'), null)
    assert.equal((await final(catalog, 'a')).state, 'succeeded')
    assert.equal(failures, -1)
  })
}
