// What lands in the artifact, part by part, against formulas written out here, independent of kernels and executor.

import assert from 'node:assert/strict'
import { compressInMemory } from '../support/compress-memory.ts'
import { memoryModel } from '../support/memory-model.ts'
import { weights } from '../support/weights.ts'
import { testOnDevices } from '../support/with-device.ts'

const ANY_SIZE = { min_elements: 1 }
const { fround } = Math

function floats(bytes: Uint8Array): number[] {
  return [...new Float32Array(bytes.slice().buffer)]
}

function roundHalfEven(value: number): number {
  const low = Math.floor(value)
  if (value - low !== 0.5) return Math.round(value)
  return low % 2 === 0 ? low : low + 1
}

testOnDevices('int8 per tensor: a worked example with ties, clamps and zeros', async (device) => {
  // absmax 127: scale 1, so that every code is the value rounded half to even
  const values = Float32Array.of(127, -127, 0, -0, 0.5, 1.5, 2.5, -0.5, -1.5, 100.49)
  const model = memoryModel([{ name: 'w', shape: [10], values, axis: null }])
  const recipe = { steps: [{ method: 'quantize', granularity: 'tensor', select: ANY_SIZE }] }
  const { part } = await compressInMemory(model, recipe, device)
  assert.deepEqual([...new Int8Array(part('w', 'values').buffer)], [127, -127, 0, 0, 0, 2, 2, 0, -2, 100])
  assert.deepEqual(floats(part('w', 'scale')), [1])
})

testOnDevices('int8 per channel: scale is absmax / 127 of its row or column', async (device) => {
  const values = weights(24 * 20)
  for (const axis of [0, 1]) {
    const model = memoryModel([{ name: 'w', shape: [24, 20], values, axis }])
    const { part } = await compressInMemory(model, 'int8', device)
    const channels = axis === 0 ? 24 : 20
    const absMax = new Float32Array(channels)
    const channelOf = (i: number) => (axis === 0 ? Math.floor(i / 20) : i % 20)
    for (const [i, value] of values.entries()) {
      absMax[channelOf(i)] = Math.max(absMax[channelOf(i)] ?? 0, Math.abs(value))
    }
    assert.deepEqual(
      floats(part('w', 'scale')),
      Array.from(absMax, (largest) => fround(largest / 127)),
    )
    const expected = Array.from(
      values,
      (value, i) => roundHalfEven(fround(value * fround(127 / (absMax[channelOf(i)] ?? 1)))) + 0,
    )
    assert.deepEqual([...new Int8Array(part('w', 'values').buffer)], expected)
  }
})

testOnDevices('int8 asymmetric: 0 is in the range and has a code', async (device) => {
  // [2, 6]: the range becomes [0, 6], scale 6/255, zero point 0; [-1, 2]: scale 3/255, zero point 85
  const values = Float32Array.of(2, 3, 4, 6, -1, 0, 1, 2)
  const model = memoryModel([{ name: 'w', shape: [2, 4], values }])
  const recipe = { steps: [{ method: 'quantize', symmetric: false, select: ANY_SIZE }] }
  // 8 elements take 8 + 8 + 2 bytes, less than 32
  const { part } = await compressInMemory(model, recipe, device)
  assert.deepEqual(floats(part('w', 'scale')), [fround(6 / 255), fround(3 / 255)])
  assert.deepEqual([...part('w', 'zero_point')], [0, 85])
  assert.deepEqual([...part('w', 'values')], [85, 128, 170, 255, 0, 85, 170, 255])
})

testOnDevices('all zeros and constant channels stay exact', async (device) => {
  const values = new Float32Array(3 * 64)
  values.fill(0.75, 64, 128)
  values.fill(-3e-39, 128)
  const model = memoryModel([{ name: 'w', shape: [3, 64], values }])
  const { part } = await compressInMemory(model, 'int8', device)
  const codes = new Int8Array(part('w', 'values').buffer)
  assert.deepEqual(floats(part('w', 'scale')), [1, fround(0.75 / 127), 1])
  assert.ok(codes.subarray(0, 64).every((code) => code === 0))
  assert.ok(codes.subarray(64, 128).every((code) => code === 127))
  assert.ok(codes.subarray(128).every((code) => code === 0))
})

testOnDevices('int8-dynamic: unsigned codes around 128, one scale a column', async (device) => {
  const values = weights(32 * 12)
  for (const axis of [0, 1]) {
    const model = memoryModel([{ name: 'w', shape: axis === 1 ? [32, 12] : [12, 32], values, axis }])
    const { part } = await compressInMemory(model, 'int8-dynamic', device)
    assert.deepEqual([...part('w', 'zero_point')], Array(12).fill(128))
    const scale = floats(part('w', 'scale'))
    assert.equal(scale.length, 12)
    const codes = part('w', 'values')
    for (const [i, value] of values.entries()) {
      const own = scale[axis === 1 ? i % 12 : Math.floor(i / 32)] ?? 0
      assert.ok(Math.abs(((codes[i] ?? 0) - 128) * own - value) <= own * 0.5001)
    }
  }
})

testOnDevices('int4 blocks: a worked block, low nibble first, the extreme at code 0', async (device) => {
  // w* = -8, scale 1: code = value + 8; a positive extreme 4 gives scale -0.5: code = value / -0.5 + 8
  const block = Float32Array.from({ length: 64 }, (_, i) => (i < 32 ? -8 + (i % 16) : 4 - (i % 16) * 0.5))
  const model = memoryModel([{ name: 'w', shape: [2, 32], values: block }])
  const { part } = await compressInMemory(model, { steps: [{ method: 'quantize', bits: 4, select: ANY_SIZE }] }, device)
  const packed = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]
  assert.deepEqual(floats(part('w', 'scale')), [1, -0.5])
  assert.deepEqual([...part('w', 'values')], [...packed, ...packed, ...packed, ...packed])
  assert.deepEqual([...part('w', 'zero_point')], [8, 8])
})

testOnDevices('a [K,N] weight packs to the same blocks as its [N,K] transpose', async (device) => {
  const [k, n] = [100, 36]
  const values = weights(k * n)
  const transposed = Float32Array.from(values, (_, i) => values[(i % k) * n + Math.floor(i / k)] ?? 0)
  for (const recipe of ['int4', 'int4-asym-b128']) {
    const kn = memoryModel([{ name: 'w', shape: [k, n], values, axis: 1 }])
    const nk = memoryModel([{ name: 'w', shape: [n, k], values: transposed }])
    const a = await compressInMemory(kn, recipe, device)
    const b = await compressInMemory(nk, recipe, device)
    for (const name of ['values', 'scale', 'zero_point'] as const) {
      assert.deepEqual(a.part('w', name), b.part('w', name), `${recipe} ${name}`)
    }
  }
})

testOnDevices('asymmetric zero points pack by rows on bytes, or by columns in words', async (device) => {
  const values = Float32Array.from({ length: 10 * 48 }, (_, i) => Math.sin(i) + (i % 3) * 0.4)
  const step = { method: 'quantize', bits: 4, symmetric: false, block_size: 16 }
  const zeroPoints = async (zeroPointLayout: 'row-bytes' | 'column-words') => {
    const support = {
      ok: true,
      channelAxis: 0,
      matrix: { k: 48, n: 10, order: 'nk' },
      blocks: { raggedBlocks: true, zeroPoints: zeroPointLayout },
    } as const
    const model = memoryModel([{ name: 'w', shape: [10, 48], values, encodings: { 'block-packed': support } }])
    return (await compressInMemory(model, { steps: [step] }, device)).part('w', 'zero_point')
  }
  const rows = await zeroPoints('row-bytes')
  const words = await zeroPoints('column-words')
  assert.equal(rows.length, 10 * 2)
  assert.equal(words.length, 2 * 3 * 4)
  const codes = new Set<number>()
  for (let row = 0; row < 10; row++) {
    for (let block = 0; block < 3; block++) {
      const byRow = ((rows[row * 2 + (block >> 1)] ?? 0) >> ((block & 1) * 4)) & 15
      const word = new DataView(words.buffer).getUint32(((row >> 3) * 3 + block) * 4, true)
      assert.equal((word >>> ((row % 8) * 4)) & 15, byRow)
      codes.add(byRow)
    }
    assert.equal((rows[row * 2 + 1] ?? 0) >> 4, 0, 'the odd nibble of a row is 0')
  }
  assert.ok(codes.size > 1, 'the blocks of the test differ in their zero points')
})

testOnDevices('4-bit per channel: two codes a byte, signed, symmetric in [-7, 7]', async (device) => {
  const values = Float32Array.of(7, -7, 3.5, 2.5, -1, 0, 14, 1, -14)
  const model = memoryModel([{ name: 'w', shape: [1, 9], values }])
  const recipe = { steps: [{ method: 'quantize', bits: 4, granularity: 'channel', select: ANY_SIZE }] }
  const { part } = await compressInMemory(model, recipe, device)
  // scale 2: 3.5 -> 1.75 -> 2, 2.5 -> 1.25 -> 1, -0.5 and 0.5 -> 0
  assert.deepEqual(floats(part('w', 'scale')), [2])
  const nibbles = [...part('w', 'values')].flatMap((byte) => [(byte << 28) >> 28, (byte << 24) >> 28])
  assert.deepEqual(nibbles, [4, -4, 2, 1, 0, 0, 7, 0, -7, 0])
})

testOnDevices('fp16 and bf16 round to nearest even', async (device) => {
  const values = new Float32Array(
    new Uint32Array([0x3f800000, 0x3f801000, 0x3f803000, 0x3f808000, 0x80000000, 0x38800000]).buffer,
  )
  const model = () => memoryModel([{ name: 'w', shape: [6], values, axis: null }])
  const cast = (dtype: string) => ({ steps: [{ method: 'cast', dtype, select: ANY_SIZE }] })
  const halves = (bytes: Uint8Array) => [...new Uint16Array(bytes.slice().buffer)].map((word) => word.toString(16))
  const fp16 = await compressInMemory(model(), cast('fp16'), device)
  assert.deepEqual(halves(fp16.part('w', 'values')), ['3c00', '3c00', '3c02', '3c04', '8000', '400'])
  const bf16 = await compressInMemory(model(), cast('bf16'), device)
  assert.deepEqual(halves(bf16.part('w', 'values')), ['3f80', '3f80', '3f80', '3f80', '8000', '3880'])
})
