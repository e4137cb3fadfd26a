// The library as a program uses it: what resolves, what is written, and which errors are thrown.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { AppError, compress, type ErrorCode, inspect, plan, RequirementNotMetError, validate } from '../../src/index.ts'
import { floatTensor, node, onnxBytes, onnxModel, value } from '../support/build-onnx.ts'
import { tempFolder } from '../support/temp-folder.ts'

const LINEAR = onnxBytes(
  onnxModel({
    nodes: [node('MatMul', ['x', 'w'], ['y'])],
    inputs: [value('x', [1, 64])],
    outputs: [value('y', [1, 32])],
    initializers: [floatTensor('w', [64, 32], 3)],
  }),
)

function modelIn(folder: string): string {
  const model = join(folder, 'm.onnx')
  writeFileSync(model, LINEAR)
  return model
}

async function rejectsWith(code: ErrorCode, work: Promise<unknown>): Promise<AppError> {
  const error = await work.then(
    () => assert.fail(`expected ${code}`),
    (thrown: unknown) => thrown,
  )
  assert(error instanceof AppError, String(error))
  assert.equal(error.code, code, error.detail)
  return error
}

test('compress writes the artifact, reports progress and resolves with files and report', async (t) => {
  const folder = tempFolder(t)
  const stages = new Set<string>()
  const { files, report } = await compress({
    model: modelIn(folder),
    recipe: { version: 1, steps: [{ method: 'quantize', params: { bits: 8 } }] },
    require: [{ maxSizeRatio: 0.5 }, 'metric=cosine,maxDrop=0.01'],
    output: `${folder}/out/`,
    onProgress: ({ stage }) => stages.add(stage),
  })
  assert.deepEqual(files, [join(folder, 'out/m.quantize.onnx')])
  assert.equal(statSync(files[0]!).size, report.sizes.artifact.rawBytes)
  assert.equal(report.verdict.outcome, 'requirement_met')
  assert.equal(report.requirement?.checks.length, 2)
  assert(stages.has('encoding') && stages.has('validating'), [...stages].join())
  const { sizeRatio, metrics, requirement } = await validate({ original: join(folder, 'm.onnx'), artifact: files[0]! })
  assert.equal(sizeRatio, report.sizes.rawRatio)
  assert.equal(metrics.cosine?.after, report.metrics['cosine']?.after)
  assert.equal(requirement, null)
})

test('an unmet requirement is an error that carries the report, and nothing is written', async (t) => {
  const folder = tempFolder(t)
  const options = { model: modelIn(folder), recipe: 'prune-90', output: join(folder, 'small.onnx') }
  const error = await rejectsWith(
    'requirement_not_met',
    compress({ ...options, require: { metric: 'cosine', min: 0.999 } }),
  )
  assert(error instanceof RequirementNotMetError)
  assert.equal(error.report.requirement?.met, false)
  assert.match(error.detail, /cosine/)
  assert.deepEqual(readdirSync(folder), ['m.onnx'])
})

test('an unmet requirement of validate is a result', async (t) => {
  const folder = tempFolder(t)
  const model = modelIn(folder)
  const { files } = await compress({ model, recipe: 'fp16', output: join(folder, 'half.onnx'), validate: false })
  const { requirement } = await validate({ original: model, artifact: files[0]!, require: 'maxSizeRatio=0.1' })
  assert.equal(requirement?.met, false)
})

test('plan and inspect say what a model holds and what would be done', async (t) => {
  const folder = tempFolder(t)
  const model = modelIn(folder)
  const description = await inspect({ model })
  assert.equal(description.summary.format, 'onnx')
  assert.equal(description.parameterCount, 2048)
  const document = await plan({ model, recipe: 'int8' })
  assert.deepEqual(
    document.tensors.map(({ name, action }) => [name, action]),
    [['w', 'compress']],
  )
  assert.ok(document.bytesAfter < document.bytesBefore)
  assert.deepEqual(readdirSync(folder), ['m.onnx'])
})

test('an aborted call rejects with cancelled, keeps the reason as cause and leaves nothing', async (t) => {
  const folder = tempFolder(t)
  const abort = new AbortController()
  const reason = new Error('the user went home')
  const work = compress({
    model: modelIn(folder),
    recipe: 'int8',
    output: join(folder, 'small.onnx'),
    signal: abort.signal,
    onProgress: () => abort.abort(reason),
  })
  assert.equal((await rejectsWith('cancelled', work)).cause, reason)
  assert.deepEqual(readdirSync(folder), ['m.onnx'])
  await rejectsWith('cancelled', inspect({ model: join(folder, 'm.onnx'), signal: AbortSignal.abort() }))
})

test('mistakes are told by code before any work is done', async (t) => {
  const folder = tempFolder(t)
  const model = modelIn(folder)
  const output = join(folder, 'small.onnx')
  await rejectsWith('not_found', compress({ model: join(folder, 'absent.onnx'), recipe: 'int8', output }))
  await rejectsWith('recipe_invalid', compress({ model, recipe: 'int9', output }))
  await rejectsWith('request_invalid', compress({ model, recipe: 'int8', output, require: 'metric=speed,min=1' }))
  const unjudged = { model, recipe: 'int8', output, validate: false, require: 'metric=cosine,min=0.9' }
  await rejectsWith('request_invalid', compress(unjudged))
  await rejectsWith('not_found', compress({ model, recipe: 'int8', output, dataset: join(folder, 'absent.npz') }))
  writeFileSync(output, 'precious')
  await rejectsWith('conflict', compress({ model, recipe: 'int8', output }))
  assert.equal(readFileSync(output, 'utf8'), 'precious')
  await compress({ model, recipe: 'int8', output, overwrite: true, validate: false })
  assert.notEqual(readFileSync(output, 'utf8'), 'precious')
  await rejectsWith(
    'device_unavailable',
    compress({ model, recipe: 'int8', output: `${output}2`, device: 'no such card' }),
  )
  assert.equal(existsSync(`${output}2`), false)
})
