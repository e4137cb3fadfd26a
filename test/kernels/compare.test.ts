// The compare kernels on pairs worked out by hand.

import assert from 'node:assert/strict'
import { addCompareSums, COMPARE_STAT_WORDS } from '../../src/kernels/compare.ts'
import { compareBlock } from '../../src/kernels/compare-block.ts'
import { compareFloat } from '../../src/kernels/compare-float.ts'
import { compareInt8, writeCompareInt8Slot } from '../../src/kernels/compare-int8.ts'
import { floatBits, INFINITY_BITS } from '../../src/kernels/float-bits.ts'
import { workgroupsFor } from '../../src/kernels/kernel-support.ts'
import { segmentWorkgroups } from '../../src/kernels/segments.ts'
import { segmentTable, wordsOf } from '../support/float-words.ts'
import { runKernel } from '../support/run-kernel.ts'
import { testOnDevices } from '../support/with-device.ts'

function sumsOf(words: Uint32Array): {
  squaredError: number
  squaredOriginal: number
  squaredArtifact: number
  dot: number
} {
  return addCompareSums(new Float32Array(words.buffer), 0, words.length / 4)
}

testOnDevices('float comparison: error, zeros, skipped pairs and sums', async (device) => {
  const { stats, sums } = await runKernel(
    device,
    compareFloat,
    {
      values: wordsOf([1, -2, 0, 0.5, NaN, 3]),
      artifact: wordsOf([1, 0, 0, 0.25, 7, 3.5]),
      segments: segmentTable([[0, 6, 1, 0]]),
      stats: new Uint32Array(2 * COMPARE_STAT_WORDS),
      sums: new Uint32Array(4),
    },
    [1, 1, 32, 0],
    segmentWorkgroups(1, 1),
  )
  // errors 0, 2, 0, -0.25, skipped, 0.5
  assert.deepEqual([...stats!.subarray(8)], [floatBits(2), 1, 2, 5, 1, 0, 0, 0])
  assert.deepEqual(sumsOf(sums!), {
    squaredError: 4 + 0.0625 + 0.25,
    squaredOriginal: 1 + 4 + 0.25 + 9,
    squaredArtifact: 1 + 0.0625 + 12.25,
    dot: 1 + 0.125 + 10.5,
  })
})

testOnDevices('an artifact that overflowed shows as an infinite error', async (device) => {
  const { stats, sums } = await runKernel(
    device,
    compareFloat,
    {
      values: wordsOf([70000, 1]),
      // float16: infinity, 1
      artifact: Uint32Array.of(0x3c007c00, 0),
      segments: segmentTable([[0, 2, 0, 0]]),
      stats: new Uint32Array(COMPARE_STAT_WORDS),
      sums: new Uint32Array(4),
    },
    [1, 1, 16, 0],
    segmentWorkgroups(1, 1),
  )
  assert.deepEqual([...stats!], [INFINITY_BITS, 0, 0, 2, 1, 0, 0, 0])
  assert.deepEqual(sumsOf(sums!), { squaredError: 0, squaredOriginal: 1, squaredArtifact: 1, dot: 1 })
})

testOnDevices('int8 comparison dequantizes by channel', async (device) => {
  const slots = new Uint32Array(8)
  writeCompareInt8Slot(slots, 0, 0.5, 0)
  writeCompareInt8Slot(slots, 1, 2, -3)
  const { stats, sums } = await runKernel(
    device,
    compareInt8,
    {
      // columns of a [2, 2] matrix
      values: wordsOf([1, 4, -1, 0]),
      // signed codes 2, -1, -1, -3 -> 1, 4, -0.5, 0
      artifact: Uint32Array.of(0xfdffff02),
      slots,
      stats: new Uint32Array(COMPARE_STAT_WORDS),
      sums: new Uint32Array(4),
    },
    [4, 1, 2, 0, 1, 0, 64, 0],
    workgroupsFor(1),
  )
  assert.deepEqual([...stats!], [floatBits(0.5), 1, 1, 4, 0, 0, 0, 0])
  assert.equal(sumsOf(sums!).squaredError, 0.25)
})

for (const [order, label] of [
  [0, 'nk'],
  [1, 'kn'],
] as const) {
  testOnDevices(`block comparison finds the block of every element (${label})`, async (device) => {
    // K = 17 in blocks of 16: two blocks a row, N = 2; all codes 9, zero points 8, scales 1, 2, 3, 4
    const k = 17
    const n = 2
    const scaleOf = (row: number, along: number): number => row * 2 + Math.floor(along / 16) + 1
    const original: number[] = []
    for (let i = 0; i < k * n; i++) {
      const row = order === 0 ? Math.floor(i / k) : i % n
      const along = order === 0 ? i % k : Math.floor(i / n)
      original.push(scaleOf(row, along))
    }
    original[5]! += 0.5
    const { stats } = await runKernel(
      device,
      compareBlock,
      {
        values: wordsOf(original),
        packed: new Uint32Array(4 * 2).fill(0x99999999),
        scales: wordsOf([1, 2, 3, 4]),
        zero_points: new Uint32Array(4).fill(8),
        stats: new Uint32Array(COMPARE_STAT_WORDS),
        sums: new Uint32Array(4 * 5),
      },
      [k * n, 0, k, n, order, 4, 16, 0, 8, 0, 0, 0],
      workgroupsFor(5),
    )
    assert.deepEqual([...stats!], [floatBits(0.5), 0, 0, k * n, 0, 0, 0, 0])
  })
}
