// histogram and histogram-linear: bins worked out by hand, levels that narrow down to one value, merging by addition.

import assert from 'node:assert/strict'
import type { ComputeDevice } from '../../src/compute/compute-device.ts'
import { floatBits } from '../../src/kernels/float-bits.ts'
import { HISTOGRAM_BINS, HISTOGRAM_LEVELS, histogram, histogramBinRange } from '../../src/kernels/histogram.ts'
import { histogramLinear } from '../../src/kernels/histogram-linear.ts'
import { segmentWorkgroups } from '../../src/kernels/segments.ts'
import { segmentTable, wordsOf } from '../support/float-words.ts'
import { runKernel } from '../support/run-kernel.ts'
import { valueBits } from '../support/value-cases.ts'
import { testOnDevices } from '../support/with-device.ts'

async function countLevel(
  device: ComputeDevice,
  values: Uint32Array,
  level: 0 | 1 | 2,
  prefix: number,
): Promise<Uint32Array> {
  const { shift, prefixShift } = HISTOGRAM_LEVELS[level]
  const { counts } = await runKernel(
    device,
    histogram,
    {
      values,
      segments: segmentTable([[0, values.length, 0, 0]]),
      prefixes: Uint32Array.of(prefix),
      counts: new Uint32Array(HISTOGRAM_BINS),
    },
    [1, 8, shift, prefixShift, 0, 0, 0, 1],
    segmentWorkgroups(1, 8),
  )
  return counts!
}

function filled(counts: Uint32Array): [number, number][] {
  return [...counts.entries()].filter(([, count]) => count > 0)
}

testOnDevices(
  'level 0 bins by exponent and three bits of mantissa, sign ignored, non-finite left out',
  async (device) => {
    // 1.0 = 0x3f800000 -> 0x3f8 = 1016; 1.25 = 0x3fa00000 -> 1018; 2.0 = 0x40000000 -> 1024; 0 -> 0
    const counts = await countLevel(device, wordsOf([1, -1, 1.25, 1.1249, 2, 0, -0, NaN, Infinity]), 0, 0)
    assert.deepEqual(filled(counts), [
      [0, 2],
      [1016, 3],
      [1018, 1],
      [1024, 1],
    ])
  },
)

testOnDevices('three levels narrow down to a single f32', async (device) => {
  const wanted = floatBits(0.1)
  const values = Uint32Array.of(wanted, wanted | 0x80000000, wanted + 1, wanted - 1, floatBits(0.1012), floatBits(7))
  const first = await countLevel(device, values, 0, 0)
  assert.equal(first[wanted >>> 20], 5)
  const second = await countLevel(device, values, 1, wanted >>> 20)
  const bin = (wanted >>> 9) & 2047
  assert.equal(second[bin], 4)
  const third = await countLevel(device, values, 2, wanted >>> 9)
  assert.deepEqual(
    [-1, 0, 1].map((step) => third[(wanted & 511) + step]),
    [1, 2, 1],
  )
  assert.deepEqual(histogramBinRange(2, wanted >>> 9, wanted & 511), { from: wanted, to: wanted })
  assert.deepEqual(histogramBinRange(0, 0, 1016), { from: 0x3f800000, to: 0x3f8fffff })
})

testOnDevices('counts of two halves add up to the counts of the whole', async (device) => {
  const values = valueBits('bits', 999)
  const whole = await countLevel(device, values, 0, 0)
  const left = await countLevel(device, values.slice(0, 500), 0, 0)
  const right = await countLevel(device, values.slice(500), 0, 0)
  assert.deepEqual(
    whole,
    left.map((count, bin) => count + right[bin]!),
  )
})

testOnDevices('by channel, a segment that starts inside the pattern continues it', async (device) => {
  // tensor elements 3, 4, 5, 6 of a [.., 3 channels, 2] pattern: channels (3/2)%3=1, 2, 2, 0
  const { counts } = await runKernel(
    device,
    histogram,
    {
      values: wordsOf([9, 1, 1, 1, 1, 9]),
      segments: segmentTable([[1, 4, 0, 3]]),
      prefixes: new Uint32Array(3),
      counts: new Uint32Array(3 * HISTOGRAM_BINS),
    },
    [1, 1, 20, 32, 2, 3, 0, 3],
    segmentWorkgroups(1, 1),
  )
  assert.deepEqual(
    [0, 1, 2].map((channel) => counts![channel * HISTOGRAM_BINS + 1016]),
    [1, 1, 2],
  )
})

testOnDevices('linear bins close on the left, the last one also on the right', async (device) => {
  const { counts } = await runKernel(
    device,
    histogramLinear,
    {
      values: wordsOf([-1, -0.5, -0, 0, 0.4999, 0.5, 1, 1.0001, -1.0001, NaN, Infinity]),
      segments: segmentTable([[0, 11, 0, 0]]),
      edges: wordsOf([-1, -0.5, 0, 0.5, 1]),
      counts: new Uint32Array(4),
    },
    [1, 8, 4, floatBits(2)],
    segmentWorkgroups(1, 8),
  )
  // [-1, -0.5): -1; [-0.5, 0): -0.5; [0, 0.5): -0, 0, 0.4999; [0.5, 1]: 0.5, 1
  assert.deepEqual([...counts!], [1, 1, 3, 2])
})

testOnDevices('a linear histogram does not depend on the guess', async (device) => {
  const values = valueBits('weights', 300)
  const run = async (inverseWidth: number): Promise<number[]> => {
    const { counts } = await runKernel(
      device,
      histogramLinear,
      {
        values,
        segments: segmentTable([[0, 300, 0, 0]]),
        edges: wordsOf([-0.3, -0.1, -0.05, 0, 0.02, 0.3]),
        counts: new Uint32Array(5),
      },
      [1, 1, 5, floatBits(inverseWidth)],
      segmentWorkgroups(1, 1),
    )
    return [...counts!]
  }
  const good = await run(8)
  assert.equal(
    good.reduce((sum, count) => sum + count, 0),
    300,
  )
  assert.deepEqual(await run(0), good)
  assert.deepEqual(await run(1e30), good)
})
