// Every preset on a model with every shape of weight: the same bytes on both devices, twice in a row, and whatever the chunk
// size; and how much each form may lose.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { ComputeDevice } from '../../src/compute/compute-device.ts'
import { openWebgpuDevice } from '../../src/compute/webgpu-device.ts'
import type { ModelReader } from '../../src/tensor/model.ts'
import { compressInMemory } from '../support/compress-memory.ts'
import { type MemoryTensor, memoryModel } from '../support/memory-model.ts'
import { weights } from '../support/weights.ts'
import { referenceDevice, testOnDevices, testOnGpu } from '../support/with-device.ts'
import { withTuning } from '../support/with-tuning.ts'

function tensor(name: string, shape: number[], extra: Partial<MemoryTensor> = {}): MemoryTensor {
  const count = shape.reduce((a, b) => a * b, 1)
  return { name, shape, values: weights(count, name.length * 31 + count), ...extra }
}

function model(): ModelReader {
  return memoryModel([
    tensor('rows', [48, 96]),
    tensor('columns', [96, 48], { axis: 1 }),
    tensor('ragged columns', [45, 50], { axis: 1 }),
    tensor('odd columns', [64, 33], { axis: 1 }),
    tensor('ragged rows', [77, 45]),
    tensor('one row', [1, 3000]),
    tensor('convolution', [16, 3, 3, 3], { roles: ['conv'] }),
    tensor('transposed convolution', [6, 10, 3, 3], { roles: ['conv-transpose'], axis: 1 }),
    tensor('recurrent', [1, 64, 20], { roles: ['lstm'], axis: null }),
    tensor('embedding', [300, 17], { roles: ['gather'] }),
    tensor('bias', [128], { roles: ['bias'] }),
    tensor('empty', [0, 8]),
    tensor('scalar', []),
  ])
}

/** Recipes beyond the presets, so that every encoding and clip is met. */
const RECIPES: Record<string, string | object> = {
  int8: 'int8',
  'int8-dynamic': 'int8-dynamic',
  int4: 'int4',
  'int4-asym-b128': 'int4-asym-b128',
  fp16: 'fp16',
  bf16: 'bf16',
  'prune-50': 'prune-50',
  'prune-50+int8': 'prune-50+int8',
  'prune-50+int4': 'prune-50+int4',
  'deadzone-8': 'deadzone-8',
  'int8 per tensor': { steps: [{ method: 'quantize', granularity: 'tensor' }] },
  'int8 asymmetric': { steps: [{ method: 'quantize', symmetric: false }] },
  'int8 clipped at a percentile': { steps: [{ method: 'quantize', clip: 'percentile', percentile: 99 }] },
  'int4 per channel clipped by mse': {
    steps: [{ method: 'quantize', bits: 4, granularity: 'channel', clip: 'mse' }],
  },
  'int4 asymmetric per tensor': {
    steps: [{ method: 'quantize', bits: 4, granularity: 'tensor', symmetric: false }],
  },
  'int8 blocks clipped by mse': {
    steps: [{ method: 'quantize', granularity: 'block', block_size: 16, clip: 'mse' }, { preset: 'int8' }],
  },
  'int8 asymmetric blocks': {
    steps: [{ method: 'quantize', granularity: 'block', symmetric: false }, { preset: 'int8' }],
  },
  'a dead zone for 25 dB': { steps: [{ method: 'quantize-deadzone', min_sqnr_db: 25 }] },
}

async function sha256(device: ComputeDevice, recipe: string | object): Promise<string> {
  const { bytes } = await compressInMemory(model(), recipe, device)
  return createHash('sha256').update(bytes).digest('hex')
}

for (const [name, recipe] of Object.entries(RECIPES)) {
  testOnGpu(`${name}: the same bytes as on the reference device, and twice in a row`, async (device) => {
    const expected = await sha256(referenceDevice(), recipe)
    assert.equal(await sha256(device, recipe), expected)
    assert.equal(await sha256(device, recipe), expected)
  })

  testOnDevices(`${name}: the same bytes whatever the chunk size and the number of lanes`, async (device) => {
    const expected = await sha256(device, recipe)
    assert.equal(
      await sha256(withTuning(device, { chunkBytes: 8192, lanes: 3, segmentElements: 1024 }), recipe),
      expected,
    )
  })
}

testOnGpu('chunks in buffers, as on GPUs with memory of their own, give the same bytes', async () => {
  const device = await openWebgpuDevice('auto', { chunkTextures: false })
  assert.ok(device)
  try {
    for (const recipe of ['int8', 'int4', 'fp16', 'prune-50+int8', 'deadzone-8']) {
      assert.equal(await sha256(device, recipe), await sha256(referenceDevice(), recipe), recipe)
    }
  } finally {
    await device.close()
  }
})

/** Least SQNR in dB that any tensor of the model above may have: constants per bit width, 1 to 2 dB below what was measured. */
const LEAST_SQNR_DB: Record<string, number> = {
  int8: 36,
  'int8-dynamic': 36,
  int4: 16,
  'int4-asym-b128': 15,
  fp16: 70,
  bf16: 52,
  'deadzone-8': 14,
}

for (const [recipe, least] of Object.entries(LEAST_SQNR_DB)) {
  testOnDevices(`${recipe} loses no more than its bit width allows`, async (device) => {
    const { result } = await compressInMemory(model(), recipe, device, { measure: true })
    const measured = result.tensors.flatMap(({ name, measure }) => (measure === null ? [] : [[name, measure] as const]))
    assert.equal(measured.length, 10)
    for (const [name, { sqnrDb, cosine }] of measured) {
      assert.ok(sqnrDb !== null && sqnrDb >= least, `${name}: ${sqnrDb} dB`)
      assert.ok(cosine !== null && cosine > 0.97, `${name}: cosine ${cosine}`)
    }
  })
}
