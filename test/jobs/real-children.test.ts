// The service with its real children (reference device, onnxruntime) on small built models: several files, datasets,
// requirements, plans, histograms, and the same bytes twice.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { createService } from '../../src/jobs/create-service.ts'
import type { JobRequest, JobView, Service } from '../../src/jobs/service.ts'
import type { Report } from '../../src/validate/report.ts'
import { floatTensor, node, onnxBytes, onnxModel, value } from '../support/build-onnx.ts'
import { tinyModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { f4, i8, npzBytes } from '../support/write-npz.ts'

const CLASSES = 4

/** x [N, 64] -> MatMul -> Relu -> MatMul -> y [N, 4]. */
function classifier(): Uint8Array {
  return onnxBytes(
    onnxModel({
      nodes: [node('MatMul', ['x', 'w1'], ['h']), node('Relu', ['h'], ['r']), node('MatMul', ['r', 'w2'], ['y'])],
      inputs: [value('x', ['N', 64])],
      outputs: [value('y', ['N', CLASSES])],
      initializers: [floatTensor('w1', [64, 96], 1), floatTensor('w2', [96, CLASSES], 2)],
    }),
  )
}

async function realService(t: TestContext): Promise<Service> {
  const limits = { minFreeBytes: 0, drainGraceMs: 0 }
  const service = await createService({ dataDir: tempFolder(t), device: 'reference', limits })
  t.after(() => service.close())
  return service
}

async function upload(
  begin: 'models' | 'datasets',
  service: Service,
  files: Record<string, Uint8Array>,
): Promise<string> {
  const staged = service[begin].beginUpload()
  try {
    for (const [name, bytes] of Object.entries(files))
      await staged.addFile(name, Readable.from([Buffer.from(bytes)]), null)
    return (await staged.commit()).view.id
  } finally {
    await staged.discard()
  }
}

async function run(service: Service, request: JobRequest): Promise<JobView> {
  const { job } = await service.jobs.create(request)
  return service.jobs.wait(job.id, 60_000)
}

async function reportOf(service: Service, job: JobView): Promise<Report> {
  return JSON.parse(readFileSync((await service.jobs.report(job.id)).path, 'utf8')) as Report
}

test('an artifact of several files is validated whole and served file by file', async (t) => {
  const service = await realService(t)
  const modelId = await upload('models', service, { 'net.onnx': classifier() })
  const job = await run(service, { modelId, recipe: 'int8', output: { externalData: true } })
  assert.equal(job.state, 'succeeded', JSON.stringify(job.error))
  const files = await service.jobs.artifactFiles(job.id)
  assert.equal(files.length, 2)
  assert.equal(files[0]?.name, 'net.int8.onnx')
  for (const { path, sha256, sizeBytes } of files) {
    const bytes = readFileSync(path)
    assert.deepEqual([createHash('sha256').update(bytes).digest('hex'), bytes.byteLength], [sha256, sizeBytes])
  }
  const report = await reportOf(service, job)
  assert.equal(report.validation?.kind, 'run')
  assert.deepEqual(
    report.artifact.files.map(({ name, sha256 }) => [name, sha256]),
    files.map(({ name, sha256 }) => [name, sha256]),
  )
})

test('its own artifact can be uploaded with its external data and is recognised as compressed', async (t) => {
  const service = await realService(t)
  const modelId = await upload('models', service, { 'net.onnx': classifier() })
  const job = await run(service, { modelId, recipe: 'int8', output: { externalData: true } })
  const files = await service.jobs.artifactFiles(job.id)
  const again = await upload(
    'models',
    service,
    Object.fromEntries(files.map(({ name, path }) => [name, readFileSync(path)])),
  )
  const model = await service.models.get(again)
  assert.equal(model.files.length, 2)
  assert.notDeepEqual(model.alreadyCompressed, [])
  const hash = createHash('sha256')
  for (const { name, sha256 } of files.toSorted((a, b) => (a.name < b.name ? -1 : 1)))
    hash.update(`${sha256}  ${name}\n`)
  assert.equal(again, hash.digest('hex'))
})

test('the same model and recipe give the same artifact in another data folder', async (t) => {
  const hashes: (string | undefined)[] = []
  for (let round = 0; round < 2; round++) {
    const service = await realService(t)
    const modelId = await upload('models', service, { 'net.onnx': classifier() })
    const job = await run(service, { modelId, recipe: 'int4', validate: round === 0 })
    assert.equal(job.artifact?.reused, false)
    hashes.push(job.artifact?.files[0]?.sha256)
  }
  assert.equal(hashes[0], hashes[1])
})

test('a labelled dataset gives accuracy, and the requirement on it is judged per job', async (t) => {
  const service = await realService(t)
  const modelId = await upload('models', service, { 'net.onnx': classifier() })
  const samples = 40
  const values = Array.from({ length: samples * 64 }, (_, i) => Math.sin(i * 0.7) + Math.cos(i * i))
  const labels = Array.from({ length: samples }, (_, i) => i % CLASSES)
  const dataset = npzBytes({ x: f4([samples, 64], values), labels: i8([samples], labels) })
  const datasetId = await upload('datasets', service, { 'd.npz': dataset })
  assert.deepEqual((await service.datasets.get(datasetId)).arrays, [
    { name: 'x', dtype: 'f32', shape: [samples, 64] },
    { name: 'labels', dtype: 'i64', shape: [samples] },
  ])
  const loose = await run(service, { modelId, recipe: 'int8', datasetId, require: 'metric=top1,maxDrop=0.5' })
  assert.equal(loose.state, 'succeeded', JSON.stringify(loose.error))
  const strict = await run(service, { modelId, recipe: 'int8', datasetId, require: { metric: 'top1', min: 1 } })
  assert.deepEqual([strict.state, strict.error?.code, strict.artifact?.reused], ['failed', 'requirement_not_met', true])
  const report = await reportOf(service, strict)
  assert.equal(report.metrics.top1?.n, samples)
  assert.equal(report.dataset?.sha256, datasetId)
})

test('a dataset that does not fit the model refuses the job and lists what is expected', async (t) => {
  const service = await realService(t)
  const modelId = await upload('models', service, { 'net.onnx': classifier() })
  const datasetId = await upload('datasets', service, { 'd.npz': npzBytes({ z: f4([2, 3], [1, 2, 3, 4, 5, 6]) }) })
  await assert.rejects(service.jobs.create({ modelId, recipe: 'int8', datasetId }), (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'dataset_invalid')
    assert.match(error.detail, /'x'/)
    return true
  })
  assert.deepEqual((await service.jobs.list({ limit: 5, cursor: null })).items, [])
})

test('labels that the model has no class for refuse the job', async (t) => {
  const service = await realService(t)
  const modelId = await upload('models', service, { 'net.onnx': classifier() })
  const x = f4([2, 64], Array(128).fill(0.5))
  const datasetId = await upload('datasets', service, { 'd.npz': npzBytes({ x, labels: i8([2], [0, CLASSES]) }) })
  await assert.rejects(service.jobs.create({ modelId, recipe: 'int8', datasetId }), (error) => {
    assert.equal(AppError.from(error).code, 'dataset_invalid')
    assert.match(AppError.from(error).detail, new RegExp(`label ${CLASSES} at position 1 is out of range`))
    return true
  })
})

test('a file that is no .npz is refused when it is sent', async (t) => {
  const service = await realService(t)
  await assert.rejects(upload('datasets', service, { 'd.npz': Buffer.from('not a zip') }), (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'dataset_invalid')
    return true
  })
  assert.deepEqual((await service.datasets.list({ limit: 5, cursor: null })).items, [])
})

test('a safetensors model is compressed and read back; a plan says the same sizes before', async (t) => {
  const service = await realService(t)
  const modelId = await upload('models', service, { 'm.safetensors': tinyModel(1, 4096) })
  const plan = await service.plans.create({ modelId, recipe: 'int8' })
  const job = await run(service, { modelId, recipe: 'int8' })
  assert.equal(job.state, 'succeeded', JSON.stringify(job.error))
  assert.deepEqual(
    plan.outputFiles,
    job.artifact?.files.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
  )
  const report = await reportOf(service, job)
  assert.equal(report.validation?.kind, 'read-back')
  await assert.rejects(service.plans.create({ modelId, recipe: 'int8-dynamic' }), (error) => {
    return AppError.from(error).code === 'feature_unsupported'
  })
})

test('the histogram counts every element, and an unknown tensor is not found', async (t) => {
  const service = await realService(t)
  const modelId = await upload('models', service, { 'net.onnx': classifier() })
  const histogram = await service.models.histogram(modelId, 'w1', 16)
  assert.equal(histogram.bins.length, 16)
  assert.equal(
    histogram.bins.reduce((sum, bin) => sum + bin.count, 0),
    64 * 96,
  )
  await assert.rejects(
    service.models.histogram(modelId, 'nothing', 16),
    (error) => AppError.from(error).code === 'not_found',
  )
  const { items, total } = await service.models.tensors(modelId, 1, 1)
  assert.deepEqual([items.map((row) => row.name), total], [['w2'], 2])
})
