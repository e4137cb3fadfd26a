// Tensors that the lanes hold together: read once, the same bytes as with a pass of their own, and nobody waits for ever.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../../src/errors.ts'
import type { ModelReader } from '../../src/tensor/model.ts'
import { compressInMemory } from '../support/compress-memory.ts'
import { type MemoryTensor, memoryModel } from '../support/memory-model.ts'
import { weights } from '../support/weights.ts'
import { testOnDevices } from '../support/with-device.ts'
import { withTuning } from '../support/with-tuning.ts'

const CHUNK_BYTES = 4096
const PER_TENSOR = { steps: [{ method: 'quantize', granularity: 'tensor' }] }

/** In turn: one piece, as many as three lanes hold, one more than that, and columns. */
function tensors(): MemoryTensor[] {
  const sizes = [700, 2049, 3072, 3073, 900, 3000, 2500, 2000, 4000, 1025]
  const flat = sizes.map((size, i): MemoryTensor => ({ name: `w${i}`, shape: [size], values: weights(size, i + 1) }))
  return [...flat, { name: 'columns', shape: [40, 64], values: weights(2560, 99), axis: 1 }]
}

/** Counts the bytes that are read of each tensor. */
function counted(model: ModelReader): { reader: ModelReader; bytes: Map<unknown, number> } {
  const bytes = new Map<unknown, number>()
  const reader: ModelReader = {
    ...model,
    async read(data, offsetBytes, target) {
      bytes.set(data, (bytes.get(data) ?? 0) + target.length)
      // out of order, as disks are
      await sleep(offsetBytes % 3)
      return model.read(data, offsetBytes, target)
    },
  }
  return { reader, bytes }
}

testOnDevices(
  'pieces of a tensor that fit the lanes together are read once, those of larger ones twice',
  async (device) => {
    for (const recipe of [PER_TENSOR, 'int8', 'deadzone-8', 'prune-50+int8']) {
      const expected = await compressInMemory(memoryModel(tensors()), recipe, device)
      const { reader, bytes } = counted(memoryModel(tensors()))
      const tuned = withTuning(device, { chunkBytes: CHUNK_BYTES, lanes: 3 })
      const found = await compressInMemory(reader, recipe, tuned)
      assert.deepEqual(found.bytes, expected.bytes, JSON.stringify(recipe))
      if (recipe !== PER_TENSOR) continue
      for (const { name, shape, data } of reader.tensors) {
        const elements = shape.reduce((a, b) => a * b, 1)
        const reads = elements * 4 > 3 * CHUNK_BYTES ? 2 : 1
        assert.equal(bytes.get(data), reads * elements * 4, name)
      }
    }
  },
)

testOnDevices('one lane, and as many lanes as there are pieces of everything, give the same bytes', async (device) => {
  const expected = await compressInMemory(memoryModel(tensors()), PER_TENSOR, device)
  for (const lanes of [1, 2, 5, 40]) {
    const tuned = withTuning(device, { chunkBytes: CHUNK_BYTES, lanes })
    assert.deepEqual(
      (await compressInMemory(counted(memoryModel(tensors())).reader, PER_TENSOR, tuned)).bytes,
      expected.bytes,
    )
  }
})

testOnDevices('a read that fails while a lane waits for that piece ends the job', async (device) => {
  const model = memoryModel([{ name: 'w', shape: [3000], values: weights(3000, 1) }])
  for (const failing of [0, CHUNK_BYTES, 2 * CHUNK_BYTES]) {
    const reader: ModelReader = {
      ...model,
      async read(data, offsetBytes, target) {
        if (offsetBytes === failing) {
          await sleep(30)
          throw new AppError('format_truncated', 'the file went away')
        }
        return model.read(data, offsetBytes, target)
      },
    }
    const tuned = withTuning(device, { chunkBytes: CHUNK_BYTES, lanes: 3 })
    await assert.rejects(compressInMemory(reader, PER_TENSOR, tuned), /the file went away/)
  }
})

testOnDevices('cancelling while a lane waits ends the job', async (device) => {
  const model = memoryModel([1, 2, 3].map((seed) => ({ name: `w${seed}`, shape: [3000], values: weights(3000, seed) })))
  const abort = new AbortController()
  const reader: ModelReader = {
    ...model,
    async read(data, offsetBytes, target) {
      if (offsetBytes === CHUNK_BYTES) {
        await sleep(30)
        abort.abort(new Error('cancelled'))
      }
      return model.read(data, offsetBytes, target)
    },
  }
  const tuned = withTuning(device, { chunkBytes: CHUNK_BYTES, lanes: 3 })
  await assert.rejects(compressInMemory(reader, PER_TENSOR, tuned, { signal: abort.signal }), /cancelled/)
})

testOnDevices('a tensor with NaN among its pieces is kept as it was', async (device) => {
  const values = weights(3000, 7)
  values[2500] = Number.NaN
  const model = () =>
    memoryModel([
      { name: 'w', shape: [3000], values },
      { name: 'v', shape: [2500], values: weights(2500, 8) },
    ])
  const tuned = withTuning(device, { chunkBytes: CHUNK_BYTES, lanes: 3 })
  const { result, bytes } = await compressInMemory(model(), PER_TENSOR, tuned)
  assert.equal(result.tensors.find(({ name }) => name === 'w')?.reason, 'non_finite')
  assert.deepEqual(bytes, (await compressInMemory(model(), PER_TENSOR, device)).bytes)
})
