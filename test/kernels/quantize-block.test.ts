// Block quantization on blocks worked out by hand, and the choice of the fast kernels.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ComputeDevice } from '../../src/compute/compute-device.ts'
import {
  blockKernel,
  quantizeBlock,
  quantizeInt4Block32,
  quantizeInt4Block32Subgroup,
} from '../../src/kernels/quantize-block.ts'
import {
  quantizeBlockTranspose,
  quantizeInt4Block32Transpose,
  quantizeInt4Block32TransposeSubgroup,
  type TransposeParams,
  transposeKernel,
  transposeParams,
  transposeWorkgroups,
} from '../../src/kernels/quantize-block-transpose.ts'
import { segmentWorkgroups } from '../../src/kernels/segments.ts'
import { bytesOf, floatsOf, segmentTable, wordsOf } from '../support/float-words.ts'
import { runKernel } from '../support/run-kernel.ts'
import { valueBits } from '../support/value-cases.ts'
import { testOnDevices } from '../support/with-device.ts'

interface Blocks {
  codes: number[]
  scales: number[]
  zeroPoints: number[]
  nonFinite: number
}

function unpack(packed: Uint32Array, bits: number): number[] {
  const bytes = bytesOf(packed)
  return bits === 8 ? bytes : bytes.flatMap((byte) => [byte & 15, byte >> 4])
}

async function quantize(
  device: ComputeDevice,
  values: Uint32Array,
  settings: { bits: number; blockSize: number; asymmetric?: boolean; shrinkCount?: number },
): Promise<Blocks> {
  const { bits, blockSize, asymmetric = false, shrinkCount = 0 } = settings
  const blocks = Math.ceil(values.length / blockSize)
  const result = await runKernel(
    device,
    blockKernel(bits, blockSize, asymmetric, shrinkCount),
    {
      values,
      segments: segmentTable([[0, values.length, 0, 0]]),
      packed: new Uint32Array((blocks * blockSize * bits) / 32),
      scales: new Uint32Array(blocks),
      zero_points: new Uint32Array(blocks),
      flags: new Uint32Array(2),
    },
    [1, 1, bits, blockSize, asymmetric ? 1 : 0, shrinkCount, 0, 0],
    segmentWorkgroups(1, 1),
  )
  return {
    codes: unpack(result['packed']!, bits),
    scales: floatsOf(result['scales']!),
    zeroPoints: [...result['zero_points']!],
    nonFinite: result['flags']![0]!,
  }
}

testOnDevices(
  'symmetric int4: the largest magnitude lands on code 0 and the scale carries its sign',
  async (device) => {
    const values = new Array(32).fill(0)
    values.splice(0, 8, 8, -8, 1, 2.5, 3.5, -7, 0.5, 4)
    const { codes, scales, zeroPoints } = await quantize(device, wordsOf(values), { bits: 4, blockSize: 32 })
    // w* = 8 (first of the two of magnitude 8): scale = 8 / -8 = -1; w / scale = -8, 8 -> 7, -1, -2.5 -> -2, -3.5 -> -4, 7, -0.5 -> 0, -4
    assert.deepEqual(scales, [-1])
    assert.deepEqual(zeroPoints, [8])
    assert.deepEqual(codes.slice(0, 9), [0, 15, 7, 6, 4, 15, 8, 4, 8])
  },
)

testOnDevices('of equal magnitudes the first one decides', async (device) => {
  for (const [first, second, expected] of [
    [-4, 4, 0.5],
    [4, -4, -0.5],
  ]) {
    const values = new Array(32).fill(0.25)
    values[13] = first
    values[22] = second
    const { scales } = await quantize(device, wordsOf(values), { bits: 4, blockSize: 32 })
    assert.deepEqual(scales, [expected])
  }
})

testOnDevices(
  'a block of zeros, or of values too small to invert, gets scale 0 and the middle code',
  async (device) => {
    for (const value of [0, -0, 1e-31, -1e-40]) {
      for (const asymmetric of [false, true]) {
        const values = wordsOf(new Array(32).fill(value))
        const { codes, scales, zeroPoints } = await quantize(device, values, { bits: 4, blockSize: 32, asymmetric })
        assert.deepEqual(codes, new Array(32).fill(8))
        assert.deepEqual(scales, [0])
        assert.deepEqual(zeroPoints, [8])
      }
    }
  },
)

testOnDevices('a short last block is padded with the code of 0', async (device) => {
  const { codes, scales } = await quantize(device, wordsOf(new Array(34).fill(-2)), { bits: 4, blockSize: 32 })
  // w* = -2: scale 0.25, w / scale = -8
  assert.deepEqual(scales, [0.25, 0.25])
  assert.deepEqual(codes.slice(30, 36), [0, 0, 0, 0, 8, 8])
})

testOnDevices('symmetric int8 blocks divide by 128', async (device) => {
  const values = new Array(32).fill(0)
  values.splice(0, 4, -1, 1, 0.5, -0.0078125)
  const { codes, scales, zeroPoints } = await quantize(device, wordsOf(values), { bits: 8, blockSize: 32 })
  // scale = -1 / -128; w / scale = -128, 128 -> 127, 64, -1
  assert.deepEqual(scales, [0.0078125])
  assert.deepEqual(zeroPoints, [128])
  assert.deepEqual(codes.slice(0, 5), [0, 255, 192, 127, 128])
})

testOnDevices('asymmetric int4 spreads 16 levels over [min, max] with 0 among them', async (device) => {
  const values = new Array(16).fill(0)
  values.splice(0, 5, -3, 12, 1.5, 2.5, -0.4)
  const settings = { bits: 4, blockSize: 16, asymmetric: true }
  const { codes, scales, zeroPoints } = await quantize(device, wordsOf(values), settings)
  // scale = f32(15 * f32(1/15)) = 1, zero point = 3; codes round(w) + 3: 0, 15, 2 + 3, 2 + 3, 0 + 3
  assert.deepEqual(scales, [Math.fround(15 * Math.fround(1 / 15))])
  assert.deepEqual(zeroPoints, [3])
  assert.deepEqual(codes.slice(0, 6), [0, 15, 5, 5, 3, 3])
})

testOnDevices('asymmetric blocks of one sign keep 0 at the end of the range', async (device) => {
  const settings = { bits: 4, blockSize: 16, asymmetric: true }
  const positive = await quantize(device, wordsOf(new Array(16).fill(3)), settings)
  assert.deepEqual(positive.zeroPoints, [0])
  assert.deepEqual(positive.codes, new Array(16).fill(15))
  const negative = await quantize(device, wordsOf(new Array(16).fill(-3)), settings)
  assert.deepEqual(negative.zeroPoints, [15])
  assert.deepEqual(negative.codes, new Array(16).fill(0))
})

testOnDevices('non-finite values are counted and taken as 0', async (device) => {
  const values = new Array(32).fill(1)
  values.splice(4, 3, NaN, Infinity, -Infinity)
  values[20] = -2
  const { codes, scales, nonFinite } = await quantize(device, wordsOf(values), { bits: 4, blockSize: 32 })
  assert.equal(nonFinite, 3)
  assert.deepEqual(scales, [0.25])
  assert.deepEqual(codes.slice(3, 8), [12, 8, 8, 8, 12])
})

testOnDevices(
  'mse clipping shrinks the range of a block with one outlier and leaves an even one alone',
  async (device) => {
    const error = ({ codes, scales }: Blocks, values: number[]): number =>
      values.reduce((sum, value, i) => sum + (value - (codes[i]! - 8) * scales[0]!) ** 2, 0)
    const outlier = Array.from({ length: 32 }, (_, i) => (i === 5 ? 1.5 : ((i % 7) - 3) / 3))
    const plain = await quantize(device, wordsOf(outlier), { bits: 4, blockSize: 32 })
    const clipped = await quantize(device, wordsOf(outlier), { bits: 4, blockSize: 32, shrinkCount: 12 })
    assert.ok(Math.abs(clipped.scales[0]!) < Math.abs(plain.scales[0]!))
    assert.ok(error(clipped, outlier) < error(plain, outlier))
    const levels = Array.from({ length: 32 }, (_, i) => (i % 16) - 8)
    const kept = await quantize(device, wordsOf(levels), { bits: 4, blockSize: 32, shrinkCount: 12 })
    assert.deepEqual(kept.scales, [1])
    assert.equal(error(kept, levels), 0)
  },
)

function transposeOf(change: Partial<TransposeParams>): TransposeParams {
  return {
    rows: 64,
    n: 8,
    firstBlock: 0,
    blocksPerColumn: 2,
    bits: 4,
    blockSize: 32,
    asymmetric: false,
    shrinkCount: 0,
    valuesStart: 0,
    packedWordBase: 0,
    blockBase: 0,
    slot: 0,
    ...change,
  }
}

testOnDevices('transposing equals quantizing the transposed matrix, whole or in pieces', async (device) => {
  for (const [k, n] of [
    [64, 8],
    [70, 12],
    [45, 3],
  ] as const) {
    const source = valueBits('weights', k * n)
    const transposed = new Uint32Array(k * n)
    for (let row = 0; row < k; row++) {
      for (let column = 0; column < n; column++) transposed[column * k + row] = source[row * n + column]!
    }
    const blocksPerColumn = Math.ceil(k / 32)
    const blocks = blocksPerColumn * n
    const empty = {
      packed: new Uint32Array(blocks * 4),
      scales: new Uint32Array(blocks),
      zero_points: new Uint32Array(blocks),
      flags: new Uint32Array(2),
    }
    const expected = await runKernel(
      device,
      quantizeBlock,
      {
        values: transposed,
        segments: segmentTable(Array.from({ length: n }, (_, c) => [c * k, k, 0, c * blocksPerColumn] as const)),
        ...empty,
      },
      [n, 1, 4, 32, 0, 0, 0, 0],
      segmentWorkgroups(n, 1),
    )
    for (const rowsPerPiece of [32, 96]) {
      let written: Record<string, Uint32Array> = empty
      for (let row = 0; row < k; row += rowsPerPiece) {
        const rows = Math.min(rowsPerPiece, k - row)
        const p = transposeOf({ rows, n, firstBlock: row / 32, blocksPerColumn })
        const values = source.slice(row * n, (row + rows) * n)
        const kernel = transposeKernel(p, device.tuning.subgroups)
        written = await runKernel(
          device,
          kernel,
          { values, ...written },
          [...transposeParams(p)],
          transposeWorkgroups(kernel, rows, n, 32),
        )
      }
      assert.deepEqual(written, expected, `${k}x${n} in pieces of ${rowsPerPiece} rows`)
    }
  }
})

test('the fast kernels are chosen only where they hold', () => {
  assert.equal(blockKernel(4, 32, false, 0), quantizeInt4Block32)
  assert.equal(blockKernel(4, 32, false, 1), quantizeInt4Block32)
  assert.equal(blockKernel(4, 32, false, 0, { aligned: false, subgroups: true }), quantizeBlock)
  assert.equal(blockKernel(4, 32, false, 0, { subgroups: true }), quantizeInt4Block32Subgroup)
  assert.equal(blockKernel(4, 64, false, 0, { subgroups: true }), quantizeBlock)
  assert.equal(blockKernel(4, 64, false, 0), quantizeBlock)
  assert.equal(blockKernel(8, 32, false, 0), quantizeBlock)
  assert.equal(blockKernel(4, 32, true, 0), quantizeBlock)
  assert.equal(blockKernel(4, 32, false, 12), quantizeBlock)
  assert.equal(transposeKernel(transposeOf({})), quantizeInt4Block32Transpose)
  assert.equal(transposeKernel(transposeOf({}), true), quantizeInt4Block32TransposeSubgroup)
  assert.equal(transposeKernel(transposeOf({ n: 6 }), true), quantizeBlockTranspose)
  assert.equal(transposeKernel(transposeOf({ valuesStart: 2 })), quantizeBlockTranspose)
  assert.equal(transposeKernel(transposeOf({ packedWordBase: 2 })), quantizeBlockTranspose)
})
