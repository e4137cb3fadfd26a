// Reads and writes that fail while others of the same piece are under way: memory that the device maps may be unmapped only when
// nothing uses it any more.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { requestGpuDevice } from '../../src/compute/webgpu-device.ts'
import { WebgpuDevice } from '../../src/compute/webgpu-queue.ts'
import { AppError } from '../../src/errors.ts'
import { encodePiece } from '../../src/execute/encode.ts'
import { runPieces, withLanes } from '../../src/execute/lane.ts'
import { createOutputFiles, type OutputFiles } from '../../src/execute/output-files.ts'
import { cutPieces } from '../../src/execute/pieces.ts'
import { createWork, type TensorWork } from '../../src/execute/tensor-work.ts'
import { TransposeAccumulators } from '../../src/execute/transpose-accumulators.ts'
import { planJob } from '../../src/jobs/plan-job.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import { compressInMemory } from '../support/compress-memory.ts'
import { type MemoryTensor, memoryModel } from '../support/memory-model.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { weights } from '../support/weights.ts'
import { testOnDevices, testOnGpu } from '../support/with-device.ts'
import { withTuning } from '../support/with-tuning.ts'

const OUTPUT = { externalData: 'auto', shardBytes: null, fileName: 'artifact.bin' } as const

function matrices(axis: number): MemoryTensor[] {
  return [64, 32].map((rows) => ({ name: `${rows} rows`, shape: [rows, 64], values: weights(rows * 64, rows), axis }))
}

testOnDevices('a read that fails is thrown when the other reads of its piece are done', async (device) => {
  // two tensors in a piece; one tensor in tiles of some columns, read row by row
  const wide = { name: 'wide', shape: [70, 1500], values: weights(105_000), axis: 1 }
  const narrow = withTuning(device, { chunkBytes: 4096 })
  for (const [tensors, recipe, tuned] of [
    [matrices(0), 'int8', device],
    [[wide], 'int4', narrow],
  ] as const) {
    const model = memoryModel([...tensors])
    const read = model.read.bind(model)
    let reads = 0
    let underWay = 0
    model.read = async (data, offsetBytes, into) => {
      if (++reads === 1) throw new AppError('store_failed', 'a bad sector')
      underWay++
      const { length } = into
      await sleep(20)
      assert.equal(into.length, length, 'memory was unmapped under a read')
      await read(data, offsetBytes, into)
      underWay--
    }
    await assert.rejects(
      compressInMemory(model, recipe, tuned),
      (error) => error instanceof AppError && error.code === 'store_failed',
    )
    assert.ok(reads > 1, recipe)
    assert.equal(underWay, 0, recipe)
  }
})

testOnDevices('a write that fails is thrown when the other writes of its piece are done', async (device) => {
  // read back in four parts
  const inParts = { name: 'large', shape: [1024, 8192], values: weights(1024 * 8192), axis: 1 }
  for (const [recipe, tensors] of [
    ['fp16', matrices(0)],
    ['int8', matrices(0)],
    ['int4', matrices(0)],
    ['int4', matrices(1)],
    ['int4', [inParts]],
  ] as const) {
    const reader = memoryModel([...tensors])
    const { plans, layout } = planJob(reader, resolveRecipe(recipe).recipe, OUTPUT)
    const works = plans.map((plan) => createWork(plan, layout))
    let large = 0
    let underWay = 0
    const write = async (bytes: Uint8Array): Promise<void> => {
      if (++large === 2) throw new AppError('disk_full', 'no space left')
      underWay++
      const { length } = bytes
      await sleep(20)
      assert.equal(bytes.length, length, 'memory was unmapped under a write')
      underWay--
    }
    const output: OutputFiles = {
      bytesWritten: 0,
      // codes; scales and zero points are smaller
      write: (_file, _offsetBytes, bytes) => (bytes.length < 1024 ? undefined : write(bytes)),
      defer: (writing) => void writing.catch(() => undefined),
      settle: async () => undefined,
      sync: async () => undefined,
      close: () => undefined,
    }
    const { signal } = new AbortController()
    const pieces = cutPieces(works, device.tuning.chunkBytes, 'encode')
    for (const piece of pieces) for (const { work } of piece.spans) work.piecesLeft++
    await assert.rejects(
      withLanes(device, async (lanes) => {
        const accumulators = new TransposeAccumulators(device, works)
        try {
          await runPieces({ reader, lanes, signal }, pieces, (lane, piece) =>
            encodePiece({ reader, output, accumulators }, lane, piece),
          )
        } finally {
          accumulators.destroy()
        }
      }),
      (error) => error instanceof AppError && error.code === 'disk_full',
    )
    assert.ok(large >= 2, recipe)
    assert.equal(underWay, 0, recipe)
  }
})

testOnGpu(
  'what the device refused without a submit of its own fails the job that caused it, and not the next',
  async () => {
    const opened = await requestGpuDevice('auto')
    const device = new WebgpuDevice(opened!.device, opened!.info, { budgetBytes: 2 ** 28 })
    const refuse = () => opened!.device.createBuffer({ size: 4, usage: 0 })
    const refused = (error: unknown) => error instanceof AppError && /refused a command/.test(error.detail)
    await assert.rejects(
      withLanes(device, async () => void refuse()),
      refused,
    )
    await withLanes(device, async () => undefined)

    // nor is it lost where packed tensors of another size make room
    const [large, small] = [64, 32].map((rows) => {
      const reader = memoryModel([{ name: 'w', shape: [rows, 64], values: weights(rows * 64), axis: 1 }])
      const { plans, layout } = planJob(reader, resolveRecipe('int4').recipe, OUTPUT)
      return createWork(plans[0]!, layout)
    }) as [TensorWork, TensorWork]
    const accumulators = new TransposeAccumulators(device, [large, small])
    await accumulators.target(large, large.block!)
    accumulators.release(large, large.block!)
    refuse()
    await accumulators.target(small, small.block!)
    await new Promise((resolve) => setTimeout(resolve, 20))
    await assert.rejects(device.submit([]), refused)
    accumulators.destroy()
    await device.close()
  },
)

test('a small write that fails is a rejection like a large one, so that writes started before it are not left alone', async (t) => {
  const layout = { files: [{ name: 'artifact.bin', sizeBytes: 16, runs: [] }], notes: [] }
  const output = createOutputFiles(tempFolder(t), layout)
  output.close()
  const writing = output.write(0, 0, new Uint8Array(16))
  await assert.rejects(
    async () => writing,
    (error) => error instanceof AppError && error.code === 'store_failed',
  )
})
