// The GPU worker and the inspect child as processes: what they answer, how they cancel, and that they end with their parent.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { CompressionResult, HistogramResult, ModelDescription, PlanDocument } from '../../src/jobs/protocol.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import type { SourceFile } from '../../src/tensor/model.ts'
import { buildSafetensors } from '../support/build-safetensors.ts'
import { type ForkedChild, forkChild } from '../support/fork-child.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { weights } from '../support/weights.ts'

const OUTPUT = { externalData: 'auto', shardBytes: null, fileName: 'out.safetensors' } as const

function modelFiles(t: TestContext, rows = 64): { folder: string; files: SourceFile[]; values: Float32Array } {
  const folder = tempFolder(t)
  const values = weights(rows * 64)
  const data = new Uint8Array(values.buffer)
  const bytes = buildSafetensors([{ name: 'model/w', dtype: 'F32', shape: [rows, 64], data }])
  return { folder, files: writeFiles(folder, { 'model.safetensors': bytes }), values }
}

async function start(t: TestContext, entry: 'worker' | 'inspect', args: string[] = []): Promise<ForkedChild> {
  const child = await forkChild(entry, args)
  t.after(() => child.process.kill('SIGKILL'))
  return child
}

async function result<T>(child: ForkedChild, id: number): Promise<T> {
  const reply = await child.answer(id)
  assert.ok(reply.type === 'done', JSON.stringify(reply))
  return reply.result as T
}

test('the worker names its device, compresses, and counts a histogram', async (t) => {
  const { folder, files, values } = modelFiles(t)
  const worker = await start(t, 'worker', ['--device', 'reference'])
  assert.equal(worker.ready.device?.kind, 'reference')
  assert.ok(worker.ready.limits !== null && worker.ready.rssBytes > 0)
  const spec = { jobId: 'j', attempt: 1, files, output: OUTPUT, outputDir: folder, measure: true }
  worker.send({ id: 1, type: 'compress', spec: { ...spec, recipe: resolveRecipe('int8').recipe } })
  worker.send({ id: 2, type: 'histogram', files, tensor: 'model/w', bins: 16 })
  const compressed = await result<CompressionResult>(worker, 1)
  const [file] = compressed.files
  assert.ok(file !== undefined && file.sha256 !== null && file.sha256.length === 64)
  assert.equal(readFileSync(join(folder, 'out.safetensors')).length, file.sizeBytes)
  assert.ok(compressed.input.zstdBytes !== null && compressed.zstdBytes !== null)
  assert.ok(worker.replies(1).some((reply) => reply.type === 'progress' && reply.progress.stage === 'measuring'))

  const histogram = await result<HistogramResult>(worker, 2)
  const counted = histogram.bins.map(
    ({ from, to }, bin) =>
      values.filter((value) => value >= from && (value < to || (bin === 15 && value <= to))).length,
  )
  assert.deepEqual(
    histogram.bins.map(({ count }) => count),
    counted,
  )
  assert.equal(histogram.min, Math.min(...values))
  assert.equal(histogram.max, Math.max(...values))
  assert.equal(await worker.leave(), 0)
})

test('the worker refuses what it cannot do with a code, and goes on', async (t) => {
  const { folder, files } = modelFiles(t)
  const worker = await start(t, 'worker', ['--device', 'reference'])
  worker.send({ id: 1, type: 'histogram', files, tensor: 'nothing', bins: 16 })
  worker.send({ id: 2, type: 'histogram', files: writeFiles(folder, { 'x.onnx': '<html>' }), tensor: 'w', bins: 16 })
  worker.send({ id: 3, type: 'describe', files })
  worker.send({ id: 4, type: 'histogram', files, tensor: 'model/w', bins: 2 })
  const codes = await Promise.all(
    [1, 2, 3].map(async (id) => {
      const reply = await worker.answer(id)
      return reply.type === 'failed' ? reply.error.code : reply.type
    }),
  )
  assert.deepEqual(codes, ['not_found', 'format_unrecognised', 'internal'])
  assert.equal((await worker.answer(4)).type, 'done')
})

test('cancelling takes effect within a second, for the running and for a waiting request', async (t) => {
  const { folder, files } = modelFiles(t, 200_000)
  const worker = await start(t, 'worker', ['--device', 'reference'])
  const recipe = resolveRecipe('prune-50+int8').recipe
  const spec = { jobId: 'j', attempt: 1, files, recipe, output: OUTPUT, outputDir: folder, measure: false }
  worker.send({ id: 1, type: 'compress', spec })
  worker.send({ id: 2, type: 'compress', spec })
  await new Promise((resolve) => setTimeout(resolve, 400))
  const asked = performance.now()
  worker.send({ id: 3, type: 'cancel', target: 2 })
  worker.send({ id: 4, type: 'cancel', target: 1 })
  const replies = await Promise.all([worker.answer(1), worker.answer(2)])
  assert.ok(performance.now() - asked < 1000)
  for (const reply of replies) assert.equal(reply.type === 'failed' && reply.error.code, 'cancelled')
})

test('a worker with work ends when its parent closes the channel', async (t) => {
  const { folder, files } = modelFiles(t, 200_000)
  const worker = await start(t, 'worker', ['--device', 'reference'])
  const recipe = resolveRecipe('prune-50+int8').recipe
  worker.send({
    id: 1,
    type: 'compress',
    spec: { jobId: 'j', attempt: 1, files, recipe, output: OUTPUT, outputDir: folder, measure: true },
  })
  await new Promise((resolve) => setTimeout(resolve, 300))
  const closed = performance.now()
  await worker.leave()
  assert.ok(performance.now() - closed < 3000)
})

test('a worker that finds no such adapter says so and ends', async () => {
  await assert.rejects(forkChild('worker', ['--device', 'no such adapter']), /the child ended with 1/)
})

test('the inspect child describes and plans without a device', async (t) => {
  const { folder, files } = modelFiles(t)
  const inspect = await start(t, 'inspect')
  assert.equal(inspect.ready.device, null)
  inspect.send({ id: 1, type: 'describe', files })
  inspect.send({ id: 2, type: 'plan', files, recipe: resolveRecipe('int4').recipe, output: OUTPUT })
  inspect.send({ id: 3, type: 'describe', files: writeFiles(folder, { 'a.safetensors': new Uint8Array(9) }) })
  const description = await result<ModelDescription>(inspect, 1)
  assert.equal(description.parameterCount, 4096)
  assert.deepEqual(
    description.tensors.map(({ name, dtype, shape, bytes }) => [name, dtype, shape, bytes]),
    [['model/w', 'f32', [64, 64], 16384]],
  )
  const plan = await result<PlanDocument>(inspect, 2)
  assert.equal(plan.tensors[0]?.action, 'compress')
  assert.ok(!existsSync(join(folder, 'out.safetensors')))
  const refused = await inspect.answer(3)
  assert.match(refused.type === 'failed' ? refused.error.code : 'done', /^format_/)
  assert.equal(await inspect.leave(), 0)
})
