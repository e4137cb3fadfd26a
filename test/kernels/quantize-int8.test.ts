// The int8 kernels on values worked out by hand: rounding, clamping, zero points, dead zone, channels.

import assert from 'node:assert/strict'
import type { ComputeDevice } from '../../src/compute/compute-device.ts'
import { floatBits } from '../../src/kernels/float-bits.ts'
import { pruneThreshold } from '../../src/kernels/prune-threshold.ts'
import { INT8_SLOT_WORDS, type Int8Slot, quantizeInt8, writeInt8Slot } from '../../src/kernels/quantize-int8.ts'
import { channelWorkgroups, quantizeInt8Channel } from '../../src/kernels/quantize-int8-channel.ts'
import { segmentWorkgroups } from '../../src/kernels/segments.ts'
import { bytesOf, floatsOf, segmentTable, wordsOf } from '../support/float-words.ts'
import { runKernel } from '../support/run-kernel.ts'
import { testOnDevices } from '../support/with-device.ts'

const SYMMETRIC: Int8Slot = {
  inverseScale: 1,
  zeroPoint: 0,
  qMin: -127,
  qMax: 127,
  deadZoneBits: 0,
  minMagnitude: 0,
}

async function quantize(device: ComputeDevice, values: number[], slot: Partial<Int8Slot>): Promise<number[]> {
  const slots = new Uint32Array(INT8_SLOT_WORDS)
  writeInt8Slot(slots, 0, { ...SYMMETRIC, ...slot })
  const { out } = await runKernel(
    device,
    quantizeInt8,
    {
      values: wordsOf(values),
      segments: segmentTable([[0, values.length, 0, 0]]),
      slots,
      out: new Uint32Array(Math.ceil(values.length / 4)),
    },
    [1, 1, 0, 0],
    segmentWorkgroups(1, 1),
  )
  return bytesOf(out!).slice(0, values.length)
}

function signed(bytes: number[]): number[] {
  return bytes.map((byte) => (byte << 24) >> 24)
}

testOnDevices('ties round to even and large values clamp', async (device) => {
  const codes = await quantize(device, [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.6, 1000, -1000, 0.4999], {})
  assert.deepEqual(signed(codes), [0, 2, 2, 0, -2, -2, 127, 127, -127, 0])
})

testOnDevices('the zero point is added after rounding, so ties do not depend on it', async (device) => {
  const codes = await quantize(device, [0.5, 1.5, -0.5, -3.5, 300, -300], { zeroPoint: 3, qMin: 0, qMax: 255 })
  // roundHalfEven: 0, 2, 0, -4, clamped to 252 and -3; then + 3
  assert.deepEqual(codes, [3, 5, 3, 0, 255, 0])
})

testOnDevices('u8 with zero point 128 covers both signs', async (device) => {
  const codes = await quantize(device, [-1, 0, 1, 0.25], { inverseScale: 127, zeroPoint: 128, qMin: 0, qMax: 255 })
  // 0.25 * 127 = 31.75
  assert.deepEqual(codes, [1, 128, 255, 160])
})

testOnDevices('NaN and infinities take the code of 0, in the dead zone or not', async (device) => {
  for (const slot of [{}, { minMagnitude: 1 as const, deadZoneBits: floatBits(0.1) }]) {
    const codes = await quantize(device, [NaN, Infinity, -Infinity, -0, 5], { zeroPoint: 7, ...slot })
    assert.deepEqual(codes, [7, 7, 7, 7, 12])
  }
})

testOnDevices('in the dead zone the code is 0, outside of it never', async (device) => {
  const slot = { inverseScale: 1, deadZoneBits: floatBits(0.25), minMagnitude: 1 as const }
  const codes = await quantize(device, [0.25, -0.25, 0.2500001, -0.2500001, 0.1, 1.4, -1.6, 0], slot)
  assert.deepEqual(signed(codes), [0, 0, 1, -1, 0, 1, -2, 0])
})

testOnDevices('codes behind the end of a segment are 0', async (device) => {
  const slots = new Uint32Array(INT8_SLOT_WORDS)
  writeInt8Slot(slots, 0, { ...SYMMETRIC, zeroPoint: 5 })
  const { out } = await runKernel(
    device,
    quantizeInt8,
    {
      values: wordsOf([1, 1, 1, 1, 1, 1, 1, 1]),
      segments: segmentTable([[0, 6, 0, 0]]),
      slots,
      out: new Uint32Array(2).fill(0xffffffff),
    },
    [1, 8, 0, 0],
    segmentWorkgroups(1, 8),
  )
  assert.deepEqual(bytesOf(out!), [6, 6, 6, 6, 6, 6, 0, 0])
})

testOnDevices('each channel has its own scale, on any axis', async (device) => {
  // shape [2, 3, 2], axis 1: element i has channel (i / 2) % 3; the chunk starts at element 1
  const slots = new Uint32Array(3 * INT8_SLOT_WORDS)
  for (const [channel, inverseScale] of [1, 10, 100].entries()) {
    writeInt8Slot(slots, channel, { ...SYMMETRIC, inverseScale })
  }
  const { out } = await runKernel(
    device,
    quantizeInt8Channel,
    { values: wordsOf(new Array(11).fill(1)), slots, out: new Uint32Array(3) },
    [11, 2, 3, 1],
    channelWorkgroups(11, 2, 3),
  )
  assert.deepEqual(bytesOf(out!), [1, 10, 10, 100, 100, 1, 1, 10, 10, 100, 100, 0])
})

testOnDevices('pruned values quantize to exactly the zero point', async (device) => {
  const { pruned, zeros } = await runKernel(
    device,
    pruneThreshold,
    {
      values: wordsOf([0.5, -0.5, 0.5000001, -0, NaN, -Infinity, 0, 3]),
      segments: segmentTable([[0, 8, 0, 0]]),
      thresholds: Uint32Array.of(floatBits(0.5)),
      pruned: new Uint32Array(8),
      zeros: new Uint32Array(2),
    },
    [1, 1, 0, 0],
    segmentWorkgroups(1, 1),
  )
  // 0.5 and -0.5 are new zeros; -0 and 0 were zeros before
  assert.deepEqual([...zeros!], [2, 4])
  assert.deepEqual(floatsOf(pruned!), [0, 0, Math.fround(0.5000001), 0, NaN, -Infinity, 0, 3])
  const codes = await quantize(device, floatsOf(pruned!), { inverseScale: 40, zeroPoint: 9 })
  assert.deepEqual(signed(codes), [9, 9, 29, 9, 9, 9, 9, 127])
})
