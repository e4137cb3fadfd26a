// What every Catalog must do, whatever stands behind it. Entry: catalogContract(name, open); `open` gives an empty catalogue.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ArtifactRecord, Catalog, JobOutcome, ModelRecord, NewJob } from '../../src/store/catalog.ts'
import { uploadCatalogContract } from './upload-catalog-contract.ts'

const SUMMARY = {
  format: 'onnx',
  irVersion: 8,
  opset: 17,
  producer: null,
  inputs: [],
  outputs: [],
  metadata: {},
  alreadyCompressed: [],
  notes: [],
} as const satisfies Record<string, unknown>

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString()

export function modelRow(id: string): ModelRecord {
  const files = [{ name: `${id}.onnx`, sizeBytes: 3, sha256: id }]
  return {
    id,
    files,
    sizeBytes: 3,
    summary: { ...SUMMARY, inputs: [], outputs: [], alreadyCompressed: [], notes: [] },
    tensorCount: 2,
    parameterCount: 9_007_199_254_740_991,
    createdAt: at(0),
  }
}

const datasetRow = (id: string) => ({
  id,
  file: { name: 'd.npz', sizeBytes: 5, sha256: id },
  arrays: [{ name: 'x', dtype: 'f32', shape: [2, 3] }],
  createdAt: at(0),
})

export function newJob(id: string, modelId = 'm', datasetId: string | null = null): NewJob {
  return { id, modelId, datasetId, submittedBy: null, payload: { recipe: 'int8', ünïcode: true }, createdAt: at(1) }
}

export const ROOMY = { maxQueued: 10, maxPerSubmitter: 10 }
const ONE_WAITS = { maxQueued: 1, maxPerSubmitter: 10 }

const DONE: JobOutcome = {
  state: 'succeeded',
  artifactKey: 'a',
  artifactReused: false,
  requirementMet: true,
  reportSha256: 'r',
  error: null,
}

const artifactRow = (key: string, measured = true): ArtifactRecord => ({
  key,
  files: [
    { name: 'x.onnx', sizeBytes: 1, sha256: 'f1' },
    { name: 'x.data', sizeBytes: 2, sha256: 'f2' },
  ],
  resultSha256: 'result',
  measured,
  createdAt: at(2),
})

export function catalogContract(name: string, open: () => Promise<Catalog>): void {
  function contract(sentence: string, work: (catalog: Catalog) => Promise<void>): void {
    test(`${name}: ${sentence}`, async () => {
      const catalog = await open()
      try {
        await work(catalog)
      } finally {
        await catalog.close()
      }
    })
  }

  contract('a model is read back as it was added, and the first row stays', async (catalog) => {
    assert.equal(await catalog.addModel(modelRow('m')), true)
    assert.equal(await catalog.addModel({ ...modelRow('m'), tensorCount: 99 }), false)
    assert.deepEqual(await catalog.getModel('m'), modelRow('m'))
    assert.equal(await catalog.getModel('other'), null)
    assert.deepEqual([...(await catalog.modelIds())], ['m'])
  })

  contract('a dataset is read back as it was added', async (catalog) => {
    assert.equal(await catalog.addDataset(datasetRow('d')), true)
    assert.equal(await catalog.addDataset(datasetRow('d')), false)
    assert.deepEqual(await catalog.getDataset('d'), datasetRow('d'))
    assert.deepEqual((await catalog.listDatasets({ limit: 5, cursor: null })).items, [datasetRow('d')])
  })

  contract(
    'lists come newest first in pages that neither repeat nor skip when rows are added meanwhile',
    async (catalog) => {
      for (const id of ['a', 'b', 'c', 'd', 'e']) await catalog.addModel(modelRow(id))
      const first = await catalog.listModels({ limit: 2, cursor: null })
      await catalog.addModel(modelRow('f'))
      const second = await catalog.listModels({ limit: 2, cursor: first.next })
      const third = await catalog.listModels({ limit: 2, cursor: second.next })
      const ids = [first, second, third].map((page) => page.items.map((model) => model.id))
      assert.deepEqual(ids, [['e', 'd'], ['c', 'b'], ['a']])
      assert.equal(third.next, null)
      await assert.rejects(catalog.listModels({ limit: 2, cursor: "1' OR 1=1" }), /request_invalid/)
    },
  )

  contract('a job waits with attempt 1 and keeps its payload', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    const result = await catalog.enqueueJob(newJob('j'), null, ROOMY)
    assert.ok(result.kind === 'created')
    assert.deepEqual(result.job, {
      id: 'j',
      state: 'queued',
      attempt: 1,
      modelId: 'm',
      datasetId: null,
      submittedBy: null,
      payload: { recipe: 'int8', ünïcode: true },
      cancelRequested: false,
      artifactKey: null,
      artifactReused: false,
      requirementMet: null,
      reportSha256: null,
      error: null,
      createdAt: at(1),
      startedAt: null,
      finishedAt: null,
    })
    assert.deepEqual(await catalog.getJob('j'), result.job)
  })

  contract('a job needs its model and its dataset', async (catalog) => {
    assert.deepEqual(await catalog.enqueueJob(newJob('j'), null, ROOMY), { kind: 'model_missing' })
    await catalog.addModel(modelRow('m'))
    assert.deepEqual(await catalog.enqueueJob(newJob('j', 'm', 'd'), null, ROOMY), { kind: 'dataset_missing' })
    await catalog.addDataset(datasetRow('d'))
    assert.equal((await catalog.enqueueJob(newJob('j', 'm', 'd'), null, ROOMY)).kind, 'created')
  })

  contract(
    'an idempotency key answers with its job, refuses another body, and counts before the queue limit',
    async (catalog) => {
      await catalog.addModel(modelRow('m'))
      const key = { key: 'k', fingerprint: 'body' }
      assert.equal((await catalog.enqueueJob(newJob('j1'), key, ONE_WAITS)).kind, 'created')
      const again = await catalog.enqueueJob(newJob('j2'), key, ONE_WAITS)
      assert.ok(again.kind === 'replayed' && again.job.id === 'j1')
      const other = await catalog.enqueueJob(newJob('j3'), { ...key, fingerprint: 'other' }, ONE_WAITS)
      assert.deepEqual(other, { kind: 'key_reused', jobId: 'j1' })
      const replay = await catalog.findReplay(null, 'k')
      assert.deepEqual([replay?.job.id, replay?.fingerprint], ['j1', 'body'])
      assert.equal(await catalog.findReplay('ci', 'k'), null)
      assert.deepEqual(await catalog.enqueueJob(newJob('j4'), null, ONE_WAITS), { kind: 'queue_full', queued: 1 })
      assert.deepEqual(await catalog.countJobs(), { queued: 1, running: 0, oldestQueuedAt: at(1) })
    },
  )

  contract('a job keeps the name of the key that asked for it', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    await catalog.enqueueJob({ ...newJob('j'), submittedBy: 'ci' }, null, ROOMY)
    assert.equal((await catalog.getJob('j'))?.submittedBy, 'ci')
  })

  contract('the same idempotency key of two submitters means two jobs', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    const key = { key: 'k', fingerprint: 'body' }
    const by = (id: string, submittedBy: string | null) => ({ ...newJob(id), submittedBy })
    for (const [id, submitter] of [
      ['a', 'ci'],
      ['b', 'cd'],
      ['c', null],
    ] as const) {
      assert.equal((await catalog.enqueueJob(by(id, submitter), key, ROOMY)).kind, 'created')
    }
    const again = await catalog.enqueueJob(by('x', 'cd'), key, ROOMY)
    assert.ok(again.kind === 'replayed' && again.job.id === 'b')
    const other = await catalog.enqueueJob(by('x', 'ci'), { ...key, fingerprint: 'other' }, ROOMY)
    assert.deepEqual(other, { kind: 'key_reused', jobId: 'a' })
  })

  contract(
    'a submitter may have so many jobs waiting or running; ended ones and those of others do not count',
    async (catalog) => {
      await catalog.addModel(modelRow('m'))
      const limits = { maxQueued: 10, maxPerSubmitter: 2 }
      const add = async (id: string, submittedBy: string | null) =>
        (await catalog.enqueueJob({ ...newJob(id), submittedBy }, null, limits)).kind
      assert.deepEqual([await add('a1', 'ci'), await add('a2', 'ci'), await add('b1', 'cd')], Array(3).fill('created'))
      await catalog.claimJob(at(2))
      const third = await catalog.enqueueJob({ ...newJob('a3'), submittedBy: 'ci' }, null, limits)
      assert.deepEqual(third, { kind: 'submitter_full', live: 2 })
      assert.deepEqual([await add('n1', null), await add('n2', null), await add('n3', null)], Array(3).fill('created'))
      await catalog.finishJob('a1', DONE, at(3))
      assert.equal(await add('a3', 'ci'), 'created')
    },
  )

  contract('jobs are taken oldest first, each once', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    for (const id of ['j1', 'j2', 'j3']) await catalog.enqueueJob(newJob(id), null, ROOMY)
    const taken = [await catalog.claimJob(at(2)), await catalog.claimJob(at(3))]
    assert.deepEqual(
      taken.map((job) => [job?.id, job?.state, job?.startedAt]),
      [
        ['j1', 'running', at(2)],
        ['j2', 'running', at(3)],
      ],
    )
    assert.equal((await catalog.claimJob(at(4)))?.id, 'j3')
    assert.equal(await catalog.claimJob(at(5)), null)
    assert.deepEqual(await catalog.countJobs(), { queued: 0, running: 3, oldestQueuedAt: null })
  })

  contract('a job that was put back is taken before younger ones and keeps its first start', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    for (const id of ['j1', 'j2']) await catalog.enqueueJob(newJob(id), null, ROOMY)
    await catalog.claimJob(at(2))
    assert.equal((await catalog.requeueJob('j1', 2))?.attempt, 2)
    assert.equal(await catalog.requeueJob('j1', 3), null)
    const taken = await catalog.claimJob(at(9))
    assert.deepEqual([taken?.id, taken?.attempt, taken?.startedAt], ['j1', 2, at(2)])
  })

  contract('a job is finished once', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    await catalog.enqueueJob(newJob('j'), null, ROOMY)
    assert.equal(await catalog.finishJob('j', DONE, at(3)), null)
    await catalog.claimJob(at(2))
    const done = await catalog.finishJob('j', DONE, at(3))
    assert.deepEqual(
      [done?.state, done?.artifactKey, done?.requirementMet, done?.reportSha256, done?.finishedAt],
      ['succeeded', 'a', true, 'r', at(3)],
    )
    const error = { code: 'internal', detail: 'late', context: {} } as const
    assert.equal(await catalog.finishJob('j', { ...DONE, state: 'failed', error }, at(4)), null)
    assert.equal((await catalog.getJob('j'))?.error, null)
  })

  contract('cancelling ends a waiting job, marks a running one and leaves an ended one', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    for (const id of ['j1', 'j2', 'j3']) await catalog.enqueueJob(newJob(id), null, ROOMY)
    await catalog.claimJob(at(2))
    await catalog.finishJob('j1', DONE, at(3))
    await catalog.claimJob(at(3))
    assert.equal((await catalog.requestCancel('j1', at(4)))?.state, 'succeeded')
    const running = await catalog.requestCancel('j2', at(4))
    assert.deepEqual([running?.state, running?.cancelRequested], ['running', true])
    const waiting = await catalog.requestCancel('j3', at(4))
    assert.deepEqual([waiting?.state, waiting?.finishedAt, waiting?.error?.code], ['cancelled', at(4), 'cancelled'])
    assert.equal(await catalog.requestCancel('none', at(4)), null)
  })

  contract(
    'recovery puts running jobs back without counting an attempt, except those to be cancelled',
    async (catalog) => {
      await catalog.addModel(modelRow('m'))
      for (const id of ['j1', 'j2', 'j3']) await catalog.enqueueJob(newJob(id), null, ROOMY)
      await catalog.claimJob(at(2))
      await catalog.claimJob(at(2))
      await catalog.requestCancel('j2', at(3))
      assert.deepEqual(await catalog.recoverJobs(at(5)), { requeued: 1, cancelled: 1 })
      const states = await Promise.all(['j1', 'j2', 'j3'].map(async (id) => (await catalog.getJob(id))?.state))
      assert.deepEqual(states, ['queued', 'cancelled', 'queued'])
      assert.equal((await catalog.getJob('j1'))?.attempt, 1)
    },
  )

  contract('jobs are listed by state and model', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    await catalog.addModel(modelRow('n'))
    await catalog.enqueueJob(newJob('j1', 'm'), null, ROOMY)
    await catalog.enqueueJob(newJob('j2', 'n'), null, ROOMY)
    await catalog.enqueueJob(newJob('j3', 'm'), null, ROOMY)
    await catalog.claimJob(at(2))
    const ids = async (filter: Parameters<Catalog['listJobs']>[0]) =>
      (await catalog.listJobs(filter)).items.map((job) => job.id)
    assert.deepEqual(await ids({ limit: 9, cursor: null }), ['j3', 'j2', 'j1'])
    assert.deepEqual(await ids({ limit: 9, cursor: null, state: 'queued' }), ['j3', 'j2'])
    assert.deepEqual(await ids({ limit: 9, cursor: null, state: 'queued', modelId: 'm' }), ['j3'])
  })

  contract('a model or dataset in use is not deleted; with its jobs ended it is', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    await catalog.addDataset(datasetRow('d'))
    await catalog.enqueueJob(newJob('j', 'm', 'd'), null, ROOMY)
    assert.deepEqual(await catalog.deleteModel('m'), { kind: 'in_use', jobId: 'j' })
    assert.deepEqual(await catalog.deleteDataset('d'), { kind: 'in_use', jobId: 'j' })
    await catalog.requestCancel('j', at(2))
    assert.deepEqual(await catalog.deleteModel('m'), { kind: 'deleted' })
    assert.deepEqual(await catalog.deleteModel('m'), { kind: 'missing' })
    assert.deepEqual(await catalog.deleteDataset('d'), { kind: 'deleted' })
    assert.equal((await catalog.getJob('j'))?.modelId, 'm')
  })

  contract('an artifact is replaced by a measured one and dropped unless a job names it', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    await catalog.putArtifact(artifactRow('a', false))
    await catalog.putArtifact(artifactRow('a'))
    await catalog.putArtifact(artifactRow('b'))
    assert.deepEqual(await catalog.getArtifact('a'), artifactRow('a'))
    await catalog.enqueueJob(newJob('j'), null, ROOMY)
    await catalog.claimJob(at(2))
    await catalog.finishJob('j', DONE, at(3))
    await catalog.dropArtifact('a', at(4))
    await catalog.dropArtifact('b', at(4))
    assert.equal((await catalog.getArtifact('a'))?.key, 'a')
    assert.equal(await catalog.getArtifact('b'), null)
  })

  contract('blobs in use are those of artifacts, validations and reports', async (catalog) => {
    await catalog.addModel(modelRow('m'))
    await catalog.putArtifact(artifactRow('a'))
    await catalog.putValidation({ key: 'v', artifactKey: 'a', resultSha256: 'validation', createdAt: at(2) })
    await catalog.enqueueJob(newJob('j'), null, ROOMY)
    await catalog.claimJob(at(2))
    await catalog.finishJob('j', { ...DONE, reportSha256: 'report' }, at(3))
    assert.deepEqual([...(await catalog.referencedBlobs())].sort(), ['f1', 'f2', 'report', 'result', 'validation'])
    assert.equal((await catalog.getValidation('v'))?.resultSha256, 'validation')
    assert.equal(await catalog.getValidation('w'), null)
  })

  uploadCatalogContract(contract)
}
