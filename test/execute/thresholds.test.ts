// Thresholds found from the data: exact sparsity, dead zones, clipping; against sorting in plain JavaScript.

import assert from 'node:assert/strict'
import { compressInMemory } from '../support/compress-memory.ts'
import { memoryModel } from '../support/memory-model.ts'
import { weights } from '../support/weights.ts'
import { testOnDevices } from '../support/with-device.ts'
import { withTuning } from '../support/with-tuning.ts'

const ANY_SIZE = { min_elements: 1 }

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.slice().buffer)
}

/** The magnitude at or below which at least `target` values lie. */
function sortedThreshold(values: Float32Array, target: number): number {
  return Float32Array.from(values, Math.abs).sort()[target - 1] ?? 0
}

function prune(params: object) {
  return { steps: [{ method: 'prune-magnitude', ...params, select: ANY_SIZE }] }
}

testOnDevices(
  'sparsity per tensor prunes exactly the smallest values and keeps the others bit for bit',
  async (device) => {
    const values = weights(5000)
    const tuned = withTuning(device, { chunkBytes: 8192 })
    for (const [sparsity, target] of [
      [0.5, 2500],
      [0.07, 350],
      [0.3333, 1667],
      [1, 5000],
    ] as const) {
      const model = memoryModel([{ name: 'w', shape: [50, 100], values }])
      const { part, result } = await compressInMemory(model, prune({ sparsity }), tuned)
      const threshold = sortedThreshold(values, target)
      assert.equal(result.tensors[0]?.resolved['threshold'], threshold)
      assert.deepEqual(
        floats(part('w', 'values')),
        values.map((value) => (Math.abs(value) <= threshold ? 0 : value)),
      )
      assert.equal(result.tensors[0]?.resolved['sparsity'], target / 5000)
      assert.equal(result.tensors[0]?.resolved['sparsityRequested'], sparsity)
    }
  },
)

testOnDevices('ties at the threshold all go, and the achieved sparsity says so', async (device) => {
  const values = Float32Array.of(1, -2, 2, 2, -2, 3, 4, 5, 6, 7)
  const model = memoryModel([{ name: 'w', shape: [10], values, axis: null }])
  const { part, result } = await compressInMemory(model, prune({ sparsity: 0.2 }), device)
  assert.deepEqual([...floats(part('w', 'values'))], [0, 0, 0, 0, 0, 3, 4, 5, 6, 7])
  assert.equal(result.tensors[0]?.resolved['threshold'], 2)
  assert.equal(result.tensors[0]?.resolved['sparsity'], 0.5)
})

testOnDevices('global sparsity has one threshold over all tensors of the step', async (device) => {
  const [a, b, c] = [weights(3000, 1, 0.1), weights(2000, 2, 1), weights(500, 3, 1)]
  const all = Float32Array.of(...a, ...b)
  const model = memoryModel([
    { name: 'a', shape: [30, 100], values: a },
    { name: 'b', shape: [20, 100], values: b },
    { name: 'bias', shape: [500], values: c, roles: ['bias'] },
  ])
  const { part, result } = await compressInMemory(model, 'prune-50', withTuning(device, { chunkBytes: 4096, lanes: 2 }))
  const threshold = sortedThreshold(all, 2500)
  assert.deepEqual(
    result.tensors.map(({ resolved }) => resolved['threshold']),
    [threshold, threshold, undefined],
  )
  assert.deepEqual(
    result.tensors.map(({ resolved }) => resolved['sparsityOfGroup']),
    [0.5, 0.5, undefined],
  )
  const zeros = [...floats(part('a', 'values')), ...floats(part('b', 'values'))].filter((value) => value === 0).length
  assert.equal(zeros, 2500)
})

testOnDevices('a given threshold zeroes up to and including it; NaN and infinities stay', async (device) => {
  const values = Float32Array.of(0.1, -0.1, 0.10000001, -0, Number.NaN, Number.POSITIVE_INFINITY, -0.05, 1)
  const model = memoryModel([{ name: 'w', shape: [8], values, axis: null }])
  const { part, result } = await compressInMemory(model, prune({ threshold: Math.fround(0.1) }), device, {
    measure: true,
  })
  const kept = [0, 0, Math.fround(0.10000001), 0, Number.NaN, Number.POSITIVE_INFINITY, 0, 1]
  assert.deepEqual([...floats(part('w', 'values'))], kept)
  assert.equal(result.tensors[0]?.nonFinite, 2)
})

testOnDevices('prune, then quantize: zeros stay exactly zero, the rest is as without pruning', async (device) => {
  const values = weights(64 * 64)
  const model = () => memoryModel([{ name: 'w', shape: [64, 64], values }])
  const both = await compressInMemory(model(), 'prune-50+int8', device, { measure: true })
  const alone = await compressInMemory(model(), 'int8', device)
  const threshold = sortedThreshold(values, 2048)
  const [pruned, plain] = [both.part('w', 'values'), alone.part('w', 'values')]
  for (const [i, value] of values.entries()) {
    assert.equal(pruned[i], Math.abs(value) <= threshold ? 0 : plain[i])
  }
  assert.ok((both.result.tensors[0]?.measure?.zerosAfter ?? 0) >= 0.5)
})

testOnDevices('prune, then block-quantize: pruned values dequantize to exactly zero', async (device) => {
  const values = weights(64 * 64)
  const model = memoryModel([{ name: 'w', shape: [64, 64], values, axis: 1 }])
  const { result } = await compressInMemory(model, 'prune-50+int4', device, { measure: true })
  assert.ok((result.tensors[0]?.measure?.zerosAfter ?? 0) >= 0.5)
})

testOnDevices('the dead zone of a requested sparsity: small weights are 0, all others at least 1', async (device) => {
  const values = weights(4096)
  const tuned = withTuning(device, { chunkBytes: 8192, lanes: 2 })
  const { part, result } = await compressInMemory(
    memoryModel([{ name: 'w', shape: [64, 64], values }]),
    'deadzone-8',
    tuned,
    { measure: true },
  )
  const threshold = sortedThreshold(values, 1229)
  assert.equal(result.tensors[0]?.resolved['threshold'], threshold)
  const codes = new Int8Array(part('w', 'values').buffer)
  const inverse = Math.fround(127 / sortedThreshold(values, 4096))
  for (const [i, value] of values.entries()) {
    const magnitude = Math.min(127, Math.max(1, Math.round(Math.abs(value) * inverse)))
    const expected = Math.abs(value) <= threshold ? 0 : Math.sign(value) * magnitude
    assert.equal(codes[i], expected)
  }
  assert.equal(result.tensors[0]?.resolved['sparsity'], 1229 / 4096)
})

testOnDevices('the dead zone of a given threshold', async (device) => {
  const values = Float32Array.of(127, 10, 10.5, -10, -11, 0.2)
  const model = memoryModel([{ name: 'w', shape: [6], values, axis: null }])
  const recipe = { steps: [{ method: 'quantize-deadzone', threshold: 10, select: ANY_SIZE }] }
  const { part } = await compressInMemory(model, recipe, device)
  assert.deepEqual([...new Int8Array(part('w', 'values').buffer)], [127, 0, 10, 0, -11, 0])
  const small = { steps: [{ method: 'quantize-deadzone', threshold: 0.1, select: ANY_SIZE }] }
  const other = await compressInMemory(memoryModel([{ name: 'w', shape: [6], values, axis: null }]), small, device)
  // 0.2 rounds to 0, but only |w| <= 0.1 may be zero
  assert.deepEqual([...new Int8Array(other.part('w', 'values').buffer)], [127, 10, 10, -10, -11, 1])
})

testOnDevices('the dead zone of a bound is as wide as the bound allows, and keeps it', async (device) => {
  const values = weights(20000)
  for (const bound of [15, 20, 30]) {
    const model = memoryModel([{ name: 'w', shape: [200, 100], values }])
    const recipe = { steps: [{ method: 'quantize-deadzone', min_sqnr_db: bound }] }
    const { result } = await compressInMemory(model, recipe, device, { measure: true })
    const sqnr = result.tensors[0]?.measure?.sqnrDb ?? 0
    assert.ok(sqnr >= bound && sqnr < bound + 0.005, `${bound} dB asked, ${sqnr} dB measured`)
  }
})

testOnDevices('a bound that plain int8 does not reach leaves the dead zone empty', async (device) => {
  const model = memoryModel([{ name: 'w', shape: [20, 100], values: weights(2000) }])
  const { result } = await compressInMemory(
    model,
    { steps: [{ method: 'quantize-deadzone', min_sqnr_db: 60 }] },
    device,
  )
  assert.equal(result.tensors[0]?.resolved['threshold'], 0)
})

testOnDevices('weights too small for a scale stay zeros under a dead zone narrower than they are', async (device) => {
  const values = Float32Array.of(1e-31, -2e-31, 3e-31, 0)
  for (const source of [{ threshold: 0 }, { sparsity: 0.5 }, { min_sqnr_db: 20 }]) {
    const recipe = { steps: [{ method: 'quantize-deadzone', ...source, select: ANY_SIZE }] }
    const { part } = await compressInMemory(
      memoryModel([{ name: 'w', shape: [4], values, axis: null }]),
      recipe,
      device,
    )
    assert.deepEqual([...new Int8Array(part('w', 'values').buffer)], [0, 0, 0, 0])
  }
})

testOnDevices(
  'percentile clipping takes the exact order statistic of |w|, per tensor and per channel',
  async (device) => {
    const values = weights(40 * 100)
    const clip = { clip: 'percentile', percentile: 95 }
    const tensor = await compressInMemory(
      memoryModel([{ name: 'w', shape: [40, 100], values }]),
      { steps: [{ method: 'quantize', granularity: 'tensor', ...clip }] },
      device,
    )
    assert.deepEqual([...floats(tensor.part('w', 'scale'))], [Math.fround(sortedThreshold(values, 3800) / 127)])
    for (const axis of [0, 1]) {
      const channel = await compressInMemory(
        memoryModel([{ name: 'w', shape: [40, 100], values, axis }]),
        { steps: [{ method: 'quantize', granularity: 'channel', ...clip }] },
        withTuning(device, { chunkBytes: 4096 }),
      )
      const channels = Array.from({ length: axis === 0 ? 40 : 100 }, (_, c) =>
        values.filter((_value, i) => (axis === 0 ? Math.floor(i / 100) : i % 100) === c),
      )
      assert.deepEqual(
        [...floats(channel.part('w', 'scale'))],
        channels.map((own) => Math.fround(sortedThreshold(own, Math.ceil(own.length * 0.95)) / 127)),
      )
    }
  },
)

testOnDevices('percentile clipping of an asymmetric form bounds both ends', async (device) => {
  const values = Float32Array.from({ length: 200 }, (_, i) => (i === 7 ? -90 : i === 8 ? 50 : i / 100))
  const recipe = {
    steps: [{ method: 'quantize', granularity: 'tensor', symmetric: false, clip: 'percentile', percentile: 99 }],
  }
  const { part } = await compressInMemory(memoryModel([{ name: 'w', shape: [10, 20], values }]), recipe, device)
  // the 198th of 200 magnitudes is 1.99: the range [-90, 50] becomes [-1.99, 1.99]
  const clip = Math.fround(1.99)
  const scale = Math.fround(clip / 255 + clip / 255)
  assert.deepEqual([...floats(part('w', 'scale'))], [scale])
  assert.deepEqual([...part('w', 'zero_point')], [128])
  assert.deepEqual([...part('w', 'values')].slice(7, 9), [0, 255])
})

testOnDevices('weights at the f32 limit are read back finite', async (device) => {
  const limit = 3.4028234663852886e38
  const values = Float32Array.from({ length: 256 }, (_, i) => (i % 2 === 0 ? limit : -limit) / (1 + (i >> 1)))
  for (const params of [{}, { symmetric: false }, { granularity: 'tensor' }, { bits: 4, granularity: 'channel' }]) {
    const model = memoryModel([{ name: 'w', shape: [2, 128], values }])
    const { part, result } = await compressInMemory(model, { steps: [{ method: 'quantize', ...params }] }, device)
    const [scale = 0] = floats(part('w', 'scale'))
    const steps = 'symmetric' in params ? 255 : 'bits' in params ? 7 : 127
    assert.ok(result.tensors[0]?.action === 'compress' && Number.isFinite(scale))
    const zeroPoint = 'symmetric' in params ? (part('w', 'zero_point')[0] ?? 0) : 0
    assert.ok(Number.isFinite(Math.fround(Math.max(zeroPoint, steps - zeroPoint) * scale)), JSON.stringify(params))
  }
})

testOnDevices('mse clipping loses less than no clipping where the tail is heavy', async (device) => {
  const values = weights(64 * 256)
  values[100] = 40 * sortedThreshold(values, values.length / 2)
  const error = async (params: object) => {
    const model = memoryModel([{ name: 'w', shape: [64, 256], values }])
    const { result } = await compressInMemory(model, { steps: [{ method: 'quantize', ...params }] }, device, {
      measure: true,
    })
    return result.tensors[0]?.measure?.sumSquaredError ?? 0
  }
  const perTensor = { bits: 4, granularity: 'tensor' }
  const perChannel = { bits: 4, granularity: 'channel' }
  const blocks = { bits: 4, granularity: 'block', block_size: 128 }
  for (const params of [perTensor, perChannel, blocks]) {
    const [clipped, plain] = [await error({ ...params, clip: 'mse' }), await error(params)]
    assert.ok(clipped < 0.97 * plain, `${JSON.stringify(params)}: ${clipped} against ${plain}`)
  }
})

testOnDevices('mse clipping keeps an outlier that costs more than the steps it takes', async (device) => {
  const values = weights(2 * 64)
  values[100] = 70000
  const error = async (clip: string) => {
    const model = memoryModel([{ name: 'w', shape: [2, 64], values }])
    const steps = [{ method: 'quantize', granularity: 'channel', clip }]
    const { result } = await compressInMemory(model, { steps }, device, { measure: true })
    return result.tensors[0]?.measure?.sumSquaredError ?? Number.NaN
  }
  const [clipped, plain] = [await error('mse'), await error('none')]
  assert.ok(clipped <= 1.01 * plain, `${clipped} against ${plain}`)
})
