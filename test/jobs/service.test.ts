// The service from outside, with a fake GPU worker: uploads, jobs, caching, idempotency, failures, cancel, drain, restart.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import type { JobEvent } from '../../src/jobs/service.ts'
import type { Report } from '../../src/validate/report.ts'
import {
  ended,
  fakeRecipe,
  keptLog,
  NOTHING_CHANGED,
  startService,
  tinyModel,
  uploadModel,
} from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const code = (expected: ErrorCode) => (error: unknown) => error instanceof AppError && error.code === expected
const temporaries = (dataDir: string) => readdirSync(join(dataDir, 'temporary'))

test('a job writes the artifact, its report and nothing else', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const bytes = tinyModel()
  const model = await uploadModel(service, bytes)
  assert.equal(model.id, sha256(bytes))
  assert.equal(model.tensorCount, 1)

  const { job, replayed } = await service.jobs.create({ modelId: model.id, recipe: 'int8' })
  assert.equal(job.state, 'queued')
  assert.equal(replayed, false)
  const done = await ended(service, job.id)
  assert.equal(done.state, 'succeeded')
  assert.equal(done.attempt, 1)
  assert.equal(done.artifact?.reused, false)

  const [file] = await service.jobs.artifactFiles(job.id)
  const inverted = bytes.map((byte) => 255 - byte)
  assert.equal(file?.name, 'tiny.int8.safetensors')
  assert.equal(file.sha256, sha256(inverted))
  assert.deepEqual(readFileSync(file.path), Buffer.from(inverted))
  const { path } = await service.jobs.report(job.id)
  const report = JSON.parse(readFileSync(path, 'utf8')) as Report
  assert.equal(report.jobId, job.id)
  assert.equal(report.model.files[0]?.sha256, model.id)
  assert.deepEqual(temporaries(dataDir), [])
})

test('the same content again is the same model', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const first = await uploadModel(service)
  const upload = service.models.beginUpload()
  await upload.addFile('other-name.safetensors', Readable.from([Buffer.from(tinyModel())]), null)
  const { view, created } = await upload.commit()
  assert.equal(created, false)
  assert.equal(view.id, first.id)
  assert.equal(view.files[0]?.name, 'tiny.safetensors')
  assert.deepEqual(temporaries(dataDir), [])
})

test('a start that fails half-way stops what it had started, and the job goes back to the queue', async (t) => {
  const dataDir = tempFolder(t)
  const first = await startService(t, { dataDir })
  const { id: modelId } = await uploadModel(first)
  const about = { kind: 'model', fileName: 'a', set: null, sizeBytes: 10, expectedSha256: null } as const
  await first.uploads.create({ id: 'u', metadata: {}, submittedBy: null, ...about })
  const { job } = await first.jobs.create({ modelId, recipe: fakeRecipe('slow-60000') })
  await first.close()
  // An expired upload that cannot be removed: the look for it at the start fails, after jobs have begun.
  rmSync(join(dataDir, 'uploads', 'u'))
  mkdirSync(join(dataDir, 'uploads', 'u'))
  const open = () => new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  let db = open()
  db.exec(`UPDATE uploads SET expires_at = '2020-01-01T00:00:00.000Z'`)
  db.close()

  const { log, lines } = keptLog()
  await assert.rejects(startService(t, { dataDir, log }), code('store_failed'))
  assert.ok(lines.some(({ message }) => message === 'job running'))
  const told = lines.length
  await sleep(1500)
  assert.deepEqual(lines.slice(told), [], 'nothing goes on')
  assert.deepEqual(
    lines.filter(({ level }) => level === 'error'),
    [],
  )
  db = open()
  assert.deepEqual(
    { ...db.prepare('SELECT id, state, attempt FROM jobs').get() },
    { id: job.id, state: 'queued', attempt: 1 },
  )
  db.close()
})

test('a file that is no model is refused and nothing is stored', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const bytes = Buffer.from(tinyModel()).subarray(0, 100)
  await assert.rejects(uploadModel(service, bytes), (error) => error instanceof AppError && error.kind === 'format')
  assert.deepEqual(readdirSync(join(dataDir, 'models')), [])
  assert.deepEqual(temporaries(dataDir), [])
  assert.deepEqual((await service.models.list({ limit: 10, cursor: null })).items, [])
})

test('a file that crashes its reader is refused as malformed, and the next one is read', async (t) => {
  const dataDir = tempFolder(t)
  const entry = join(import.meta.dirname, '..', 'support', 'fragile-inspect.ts')
  const service = await startService(t, { dataDir, internals: { inspectEntry: entry } })
  for (const poison of ['crash.bin', 'exit.bin']) {
    await assert.rejects(uploadModel(service, Buffer.from('x'), poison), (error) => {
      assert.ok(error instanceof AppError)
      assert.equal(error.code, 'format_invalid')
      assert.match(error.detail, /could not be read/)
      return true
    })
  }
  assert.equal((await uploadModel(service)).tensorCount, 1)
  assert.equal(readdirSync(join(dataDir, 'models')).length, 1)
  assert.deepEqual(temporaries(dataDir), [])
})

test('an artifact made before is not made again, and its requirement is judged again', async (t) => {
  const dataDir = tempFolder(t)
  let validations = 0
  const validate = async () => {
    validations++
    return NOTHING_CHANGED
  }
  const service = await startService(t, { dataDir, internals: { validate } })
  const { id: modelId } = await uploadModel(service)
  const first = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  const require = { metric: 'cosine', min: 0.99 }
  const second = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8', require })).job.id)
  const strict = { metric: 'cosine', min: 0.9999 }
  const third = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8', require: strict })).job.id)
  assert.equal(validations, 1)
  assert.deepEqual(
    [first, second, third].map((job) => [job.state, job.artifact?.reused, job.artifact?.requirementMet]),
    [
      ['succeeded', false, null],
      ['succeeded', true, true],
      ['failed', true, false],
    ],
  )
  const other = await ended(service, (await service.jobs.create({ modelId, recipe: 'fp16' })).job.id)
  assert.equal(other.artifact?.reused, false)
})

test('an unmet requirement fails the job with its report, and the artifact only comes on explicit request', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const require = 'metric=cosine,min=0.9999'
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8', require })).job.id)
  assert.equal(job.state, 'failed')
  assert.equal(job.error?.code, 'requirement_not_met')
  assert.match(job.error.detail, /0\.999/)
  await assert.rejects(service.jobs.artifactFiles(job.id), code('requirement_not_met'))
  assert.equal((await service.jobs.artifactFiles(job.id, { evenIfUnmet: true })).length, 1)
  assert.ok((await service.jobs.report(job.id)).sizeBytes > 0)
})

test('an unmeasured artifact is measured when a later job wants it', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const quick = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8', validate: false })).job.id)
  const full = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  const again = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8', validate: false })).job.id)
  assert.deepEqual(
    [quick, full, again].map((job) => job.artifact?.reused),
    [false, false, true],
  )
  assert.equal(quick.artifact?.files[0]?.sha256, full.artifact?.files[0]?.sha256)
})

test('an inference child that used too much memory is counted as such, and its job says what to do', async (t) => {
  const deaths: string[] = []
  const hooks = { childDied: (kind: string, cause: string) => deaths.push(`${kind} ${cause}`) }
  const validate = async () => {
    throw new AppError('limit_exceeded', 'used too much', {
      limit: 'validation_memory_bytes',
      allowed: 1,
      requested: 2,
    })
  }
  const service = await startService(t, { dataDir: tempFolder(t), hooks, internals: { validate } })
  const { id: modelId } = await uploadModel(service)
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  assert.equal(job.state, 'failed')
  assert.equal(job.error?.code, 'limit_exceeded')
  assert.deepEqual(deaths, ['inference memory'])
})

test('a requirement on accuracy without validation is refused', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const request = { modelId, recipe: 'int8', validate: false }
  await assert.rejects(
    service.jobs.create({ ...request, require: { metric: 'cosine', min: 0.9 } }),
    code('request_invalid'),
  )
  const job = await ended(service, (await service.jobs.create({ ...request, require: { maxSizeRatio: 0.5 } })).job.id)
  assert.equal(job.error?.code, 'requirement_not_met')
})

test('an Idempotency-Key gives the same job, and is refused with another body', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const options = { idempotencyKey: 'pipeline-7' }
  const first = await service.jobs.create({ modelId, recipe: 'int8' }, options)
  const again = await service.jobs.create({ recipe: 'int8', modelId }, options)
  assert.deepEqual([again.replayed, again.job.id], [true, first.job.id])
  await assert.rejects(service.jobs.create({ modelId, recipe: 'fp16' }, options), code('idempotency_key_reused'))
  assert.equal((await service.jobs.list({ limit: 10, cursor: null })).items.length, 1)
})

test('a replayed Idempotency-Key is answered with its job also when the model is gone', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const options = { idempotencyKey: 'pipeline-8', submittedBy: 'ci' }
  const { job } = await service.jobs.create({ modelId, recipe: 'int8' }, options)
  await ended(service, job.id)
  await service.models.delete(modelId)
  const again = await service.jobs.create({ modelId, recipe: 'int8' }, options)
  assert.deepEqual([again.replayed, again.job.id, again.job.state], [true, job.id, 'succeeded'])
  const foreign = { ...options, submittedBy: 'cd' }
  await assert.rejects(service.jobs.create({ modelId, recipe: 'int8' }, foreign), code('not_found'))
})

test('what does not exist is not found', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  await assert.rejects(service.models.get('nothing'), code('not_found'))
  await assert.rejects(service.jobs.get('nothing'), code('not_found'))
  await assert.rejects(service.jobs.cancel('nothing'), code('not_found'))
  await assert.rejects(service.jobs.create({ modelId: 'nothing', recipe: 'int8' }), code('not_found'))
  const { id: modelId } = await uploadModel(service)
  await assert.rejects(service.jobs.create({ modelId, recipe: 'int8', datasetId: 'nothing' }), code('not_found'))
  await assert.rejects(service.jobs.create({ modelId, recipe: 'no-such-preset' }), code('recipe_invalid'))
})

test('a model is not deleted while a job uses it', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const { id: modelId } = await uploadModel(service)
  const { job } = await service.jobs.create({ modelId, recipe: fakeRecipe('slow-300') })
  await assert.rejects(service.models.delete(modelId), code('conflict'))
  await ended(service, job.id)
  await service.models.delete(modelId)
  assert.equal(existsSync(join(dataDir, 'models', modelId)), false)
  assert.equal((await service.jobs.artifactFiles(job.id)).length, 1)
})

test('the queue has a limit, and a replayed key is answered beyond it', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t), limits: { maxQueuedJobs: 1 } })
  const { id: modelId } = await uploadModel(service)
  const running = await service.jobs.create({ modelId, recipe: fakeRecipe('slow-5000') })
  for await (const event of service.jobs.events(running.job.id, null, t.signal))
    if (event.job.state === 'running') break
  await service.jobs.create({ modelId, recipe: 'int8' }, { idempotencyKey: 'k' })
  await assert.rejects(service.jobs.create({ modelId, recipe: 'fp16' }), code('queue_full'))
  assert.equal((await service.jobs.create({ modelId, recipe: 'int8' }, { idempotencyKey: 'k' })).replayed, true)
})

test('a key may have so many jobs waiting or running; other keys go on', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t), limits: { maxJobsPerKey: 1 } })
  const { id: modelId } = await uploadModel(service)
  const first = await service.jobs.create({ modelId, recipe: fakeRecipe('slow-5000') }, { submittedBy: 'ci' })
  assert.equal(first.job.submittedBy, 'ci')
  await assert.rejects(service.jobs.create({ modelId, recipe: 'int8' }, { submittedBy: 'ci' }), (error: AppError) => {
    assert.equal(error.code, 'too_many_jobs')
    assert.deepEqual(error.context, { limit: 'jobsPerKey', allowed: 1, requested: 2 })
    return true
  })
  await service.jobs.create({ modelId, recipe: 'int8' }, { submittedBy: 'cd' })
  await service.jobs.create({ modelId, recipe: 'fp16' })
  await service.jobs.cancel(first.job.id)
  await service.jobs.create({ modelId, recipe: 'int8' }, { submittedBy: 'ci' })
})

test('a job that is too long in one stage fails with that limit, leaves nothing, and the worker goes on', async (t) => {
  const dataDir = tempFolder(t)
  const deaths: string[] = []
  const hooks = { childDied: (kind: string, cause: string) => deaths.push(`${kind} ${cause}`) }
  const service = await startService(t, { dataDir, hooks, limits: { maxStageMs: 400 } })
  const { id: modelId } = await uploadModel(service)
  const slow = await service.jobs.create({ modelId, recipe: fakeRecipe('slow-20000') })
  const job = await ended(service, slow.job.id)
  assert.deepEqual([job.state, job.attempt, job.error?.code], ['failed', 1, 'stage_timeout'])
  assert.equal(
    job.error?.detail,
    'The job was encoding for longer than the 0.4 seconds that limit stageSeconds allows. Use a smaller dataset or a simpler recipe, or have the operator raise the limit.',
  )
  assert.deepEqual([temporaries(dataDir), deaths], [[], []])
  const next = await service.jobs.create({ modelId, recipe: fakeRecipe('quick') })
  assert.equal((await ended(service, next.job.id)).state, 'succeeded')
})

test('a stage whose worker hangs ends as well', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t), limits: { maxStageMs: 400 } })
  const { id: modelId } = await uploadModel(service)
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: fakeRecipe('hang') })).job.id)
  assert.deepEqual([job.state, job.attempt, job.error?.code], ['failed', 1, 'stage_timeout'])
})

test('a dataset has a size limit of its own, named in the error', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir, limits: { maxDatasetBytes: 100, maxUploadBytes: 1_000_000 } })
  await uploadModel(service)
  for (const declared of [101, null]) {
    const upload = service.datasets.beginUpload()
    await assert.rejects(upload.addFile('d.npz', Readable.from([Buffer.alloc(101)]), declared), (error: AppError) => {
      assert.equal(error.code, 'body_too_large')
      assert.deepEqual(error.context, { limit: 'datasetBytes', allowed: 100, requested: 101 })
      return true
    })
    await upload.discard()
  }
  assert.deepEqual(temporaries(dataDir), [])
})

test('a worker that dies costs one attempt', async (t) => {
  const deaths: string[] = []
  const hooks = { childDied: (kind: string, cause: string) => deaths.push(`${kind} ${cause}`) }
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir, hooks })
  const { id: modelId } = await uploadModel(service)
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: fakeRecipe('crash-once') })).job.id)
  assert.deepEqual([job.state, job.attempt], ['succeeded', 2])
  assert.deepEqual(deaths, ['gpu crashed'])
  assert.deepEqual(temporaries(dataDir), [])
})

test('after three deaths the job fails with worker_crashed and the next job runs', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: fakeRecipe('crash') })).job.id)
  assert.deepEqual([job.state, job.attempt, job.error?.code], ['failed', 3, 'worker_crashed'])
  assert.match(job.error?.detail ?? '', /SIGKILL.*3 times/)
  await assert.rejects(service.jobs.artifactFiles(job.id), code('conflict'))
  await assert.rejects(service.jobs.report(job.id), code('not_found'))
  const next = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  assert.equal(next.state, 'succeeded')
})

test('a lost device costs an attempt and the worker is started again', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t), limits: { maxAttempts: 2 } })
  const { id: modelId } = await uploadModel(service)
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: fakeRecipe('lose-device') })).job.id)
  assert.deepEqual([job.attempt, job.error?.code], [2, 'device_lost'])
  assert.equal(
    (await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)).state,
    'succeeded',
  )
})

for (const [word, limits] of [
  ['hang', { childSilenceMs: 1000 }],
  ['stall', { childStallMs: 1000 }],
] as const) {
  test(`a worker that ${word}s is killed and the job says so`, async (t) => {
    const service = await startService(t, { dataDir: tempFolder(t), limits: { maxAttempts: 1, ...limits } })
    const { id: modelId } = await uploadModel(service)
    const job = await ended(service, (await service.jobs.create({ modelId, recipe: fakeRecipe(word) })).job.id)
    assert.deepEqual([job.state, job.error?.code], ['failed', 'worker_timeout'])
  })
}

test('a worker that grows beyond its memory limit is killed', { skip: process.platform !== 'linux' }, async (t) => {
  const limits = { maxAttempts: 1, childMemoryBytes: 300 * 1024 * 1024 }
  const service = await startService(t, { dataDir: tempFolder(t), limits })
  const { id: modelId } = await uploadModel(service)
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: fakeRecipe('bloat') })).job.id)
  assert.equal(job.error?.code, 'worker_crashed')
  assert.equal(job.error.context['limit'], 'childMemoryBytes')
})

test('an error of the model fails the job at once, without another attempt', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: fakeRecipe('refuse') })).job.id)
  assert.deepEqual([job.attempt, job.error?.code, job.error?.context['tensor']], [1, 'format_invalid', 'w'])
})

test('an artifact that does not load is never served and not kept', async (t) => {
  const dataDir = tempFolder(t)
  const validate = async () => {
    throw new AppError('validation_failed', 'the artifact does not load')
  }
  const service = await startService(t, { dataDir, internals: { validate } })
  const { id: modelId } = await uploadModel(service)
  const job = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  assert.deepEqual([job.state, job.error?.code, job.artifact], ['failed', 'validation_failed', null])
  await assert.rejects(service.jobs.artifactFiles(job.id, { evenIfUnmet: true }), code('conflict'))
  await service.close()
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'), { readOnly: true })
  assert.deepEqual(db.prepare('SELECT key FROM artifacts').all(), [])
  db.close()
})

for (const word of ['slow-60000', 'hang', 'stall']) {
  test(`cancel takes effect within a second in a job that runs "${word}"`, async (t) => {
    const dataDir = tempFolder(t)
    const service = await startService(t, { dataDir })
    const { id: modelId } = await uploadModel(service)
    const { job } = await service.jobs.create({ modelId, recipe: fakeRecipe(word) })
    for await (const event of service.jobs.events(job.id, null, t.signal)) if (event.job.progress !== null) break
    const start = performance.now()
    const cancelled = await service.jobs.cancel(job.id)
    assert.equal(cancelled.state, 'cancelled')
    assert.equal(cancelled.error?.code, 'cancelled')
    assert.ok(performance.now() - start < 1500, `took ${performance.now() - start} ms`) // a second, on a loaded machine
    const next = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
    assert.equal(next.state, 'succeeded')
    assert.deepEqual(temporaries(dataDir), [])
  })
}

test('a queued job is cancelled at once, and an ended one is not', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  await service.jobs.create({ modelId, recipe: fakeRecipe('slow-60000') })
  const { job } = await service.jobs.create({ modelId, recipe: 'int8' })
  assert.equal((await service.jobs.cancel(job.id)).state, 'cancelled')
  await assert.rejects(service.jobs.cancel(job.id), code('conflict'))
})

test('events tell every state in order, with growing ids, and can be taken up again', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const { job } = await service.jobs.create({ modelId, recipe: fakeRecipe('slow-1500') })
  const events: JobEvent[] = []
  for await (const event of service.jobs.events(job.id, null, t.signal)) events.push(event)
  const states = events.filter((event) => event.type === 'state').map((event) => event.job.state)
  assert.deepEqual(states.slice(-2), ['running', 'succeeded'])
  assert.ok(events.some((event) => event.type === 'progress' && event.job.stage === 'encoding'))
  const ids = events.map((event) => event.id)
  assert.deepEqual(
    ids,
    [...new Set(ids)].sort((a, b) => a - b),
  )
  const later: JobEvent[] = []
  for await (const event of service.jobs.events(job.id, ids.at(-2)!, t.signal)) later.push(event)
  assert.deepEqual(
    later.map((event) => event.job.state),
    ['succeeded'],
  )
  for await (const event of service.jobs.events(job.id, ids.at(-1)!, t.signal)) assert.fail(`unexpected ${event.type}`)
})

test('progress is told at least once a second', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const { job } = await service.jobs.create({ modelId, recipe: fakeRecipe('slow-2500') })
  const times: number[] = []
  for await (const _ of service.jobs.events(job.id, null, t.signal)) times.push(performance.now())
  const gaps = times.slice(1).map((time, index) => time - times[index]!)
  assert.ok(Math.max(...gaps) < 1500, `gaps of ${gaps.map(Math.round).join(', ')} ms`)
})

test('close puts the running job back without counting an attempt, and a new server finishes it', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const { id: modelId } = await uploadModel(service)
  const { job } = await service.jobs.create({ modelId, recipe: fakeRecipe('slow-700') })
  const waiting = await service.jobs.create({ modelId, recipe: 'fp16' })
  for await (const event of service.jobs.events(job.id, null, t.signal)) if (event.job.progress !== null) break
  const closing = service.close()
  await assert.rejects(service.jobs.create({ modelId, recipe: 'int8' }), code('shutting_down'))
  await closing

  const next = await startService(t, { dataDir })
  assert.deepEqual(
    [(await next.jobs.get(job.id)).state, (await next.jobs.get(waiting.job.id)).state],
    ['running', 'queued'],
  )
  const done = await ended(next, job.id)
  assert.deepEqual([done.state, done.attempt], ['succeeded', 1])
  assert.equal((await ended(next, waiting.job.id)).state, 'succeeded')
})

test('close lets the running job finish within the grace', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir, limits: { drainGraceMs: 10_000 } })
  const { id: modelId } = await uploadModel(service)
  const { job } = await service.jobs.create({ modelId, recipe: fakeRecipe('slow-500') })
  for await (const event of service.jobs.events(job.id, null, t.signal)) if (event.job.progress !== null) break
  await service.close()
  const next = await startService(t, { dataDir })
  assert.equal((await next.jobs.get(job.id)).state, 'succeeded')
})

test('a second server on the same data folder is refused while the first lives', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  await assert.rejects(startService(t, { dataDir }), (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'conflict')
    assert.match(error.detail, new RegExp(`process ${process.pid}`))
    return true
  })
  await service.close()
  await startService(t, { dataDir })
})

test('a device that is not there stops the start with its name', async (t) => {
  await assert.rejects(startService(t, { dataDir: tempFolder(t), device: 'not-there' }), code('device_unavailable'))
})

test('health names the device, the children and the queue', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const health = await service.health()
  assert.equal(health.ready, true)
  assert.equal(health.worker.device?.adapter, 'fake')
  assert.equal(health.store.writable, true)
  assert.deepEqual(health.queue, { queued: 0, running: 0, limit: 256, oldestSeconds: 0 })
  const gpu = health.children.find((child) => child.kind === 'gpu')
  assert.ok(gpu !== undefined && gpu.rssBytes > 10_000_000)
})

test('a model file that vanished fails the job with store_failed and leaves the server working', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const lost = await uploadModel(service, tinyModel(2))
  const { rmSync } = await import('node:fs')
  rmSync(join(dataDir, 'models', lost.id, 'files', 'tiny.safetensors'))
  const job = await ended(service, (await service.jobs.create({ modelId: lost.id, recipe: 'int8' })).job.id)
  assert.equal(job.error?.code, 'store_failed')
  assert.match(job.error.detail, /is gone/)
  const { id: modelId } = await uploadModel(service)
  assert.equal(
    (await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)).state,
    'succeeded',
  )
})

test('an artifact blob that vanished is made again by the next job', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const { id: modelId } = await uploadModel(service)
  const first = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  const [file] = await service.jobs.artifactFiles(first.id)
  const { rmSync } = await import('node:fs')
  rmSync(file!.path)
  await assert.rejects(service.jobs.artifactFiles(first.id), code('store_failed'))
  const second = await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  assert.equal(second.artifact?.reused, false)
  assert.equal((await service.jobs.artifactFiles(first.id))[0]?.sha256, file?.sha256)
})

test('too little free space refuses uploads and jobs with disk_full', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t), limits: { minFreeBytes: 2 ** 60 } })
  await assert.rejects(uploadModel(service), code('disk_full'))
  assert.equal((await service.health()).ready, false)
})

test('the histogram of a tensor is counted once', async (t) => {
  const service = await startService(t, { dataDir: tempFolder(t) })
  const { id: modelId } = await uploadModel(service)
  const first = await service.models.histogram(modelId, 'w', 8)
  assert.deepEqual(await service.models.histogram(modelId, 'w', 8), first)
  await assert.rejects(service.models.histogram(modelId, 'w', 0), code('request_invalid'))
})
