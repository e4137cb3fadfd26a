// f32 -> float16 and bfloat16 on bit patterns from IEEE 754 and, for every float16, back again.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ComputeDevice, Kernel } from '../../src/compute/compute-device.ts'
import { castBfloat16, castFloat16 } from '../../src/kernels/cast-float.ts'
import { float16ToBits, toFloat16 } from '../../src/kernels/float16-bits.ts'
import { segmentWorkgroups } from '../../src/kernels/segments.ts'
import { segmentTable } from '../support/float-words.ts'
import { runKernel } from '../support/run-kernel.ts'
import { testOnDevices } from '../support/with-device.ts'

async function cast(
  device: ComputeDevice,
  kernel: Kernel,
  bits: number[],
): Promise<{ halves: number[]; flags: number[] }> {
  const { out, flags } = await runKernel(
    device,
    kernel,
    {
      values: Uint32Array.from(bits),
      segments: segmentTable([[0, bits.length, 0, 0]]),
      out: new Uint32Array(Math.ceil(bits.length / 4) * 2).fill(0xffffffff),
      flags: new Uint32Array(2),
    },
    [1, 8, 0, 0],
    segmentWorkgroups(1, 8),
  )
  return { halves: [...new Uint16Array(out!.buffer)], flags: [...flags!] }
}

testOnDevices('float16: normal, tie, denormal, overflow, infinity and NaN', async (device) => {
  const rows: [number, number, string][] = [
    [0x3f800000, 0x3c00, '1'],
    [0xc0000000, 0xc000, '-2'],
    [0x3f801000, 0x3c00, '1 + 2^-11: tie, down to even'],
    [0x3f803000, 0x3c02, '1 + 3 * 2^-11: tie, up to even'],
    [0x3f801001, 0x3c01, 'just above a tie'],
    [0x477fe000, 0x7bff, '65504, the largest'],
    [0x477fefff, 0x7bff, 'just below 65520'],
    [0x477ff000, 0x7c00, '65520 overflows'],
    [0xff7fffff, 0xfc00, 'the lowest f32 overflows'],
    [0x38800000, 0x0400, '2^-14, the least normal'],
    [0x387fffff, 0x0400, 'rounds up into it'],
    [0x33800000, 0x0001, '2^-24, the least denormal'],
    [0x33000000, 0x0000, '2^-25: tie, down to 0'],
    [0x33000001, 0x0001, 'just above it'],
    [0xb3c00000, 0x8002, '-1.5 * 2^-24: tie, to even'],
    [0x80000000, 0x8000, '-0'],
    [0x00000001, 0x0000, 'the least f32'],
    [0x7f800000, 0x7c00, 'infinity'],
    [0x7fc00000, 0x7e00, 'NaN'],
    [0xff800001, 0xfe00, 'a signalling NaN becomes quiet'],
  ]
  const { halves, flags } = await cast(
    device,
    castFloat16,
    rows.map(([bits]) => bits),
  )
  for (const [i, [, expected, label]] of rows.entries()) {
    assert.equal(halves[i]!.toString(16), expected.toString(16), label)
  }
  // 65520 and the lowest f32; infinity and two NaNs
  assert.deepEqual(flags, [2, 3])
})

testOnDevices('bfloat16: ties to even, overflow, NaN stays NaN', async (device) => {
  const rows: [number, number, string][] = [
    [0x3f800000, 0x3f80, '1'],
    [0x3f808000, 0x3f80, 'tie, down to even'],
    [0x3f818000, 0x3f82, 'tie, up to even'],
    [0x3f808001, 0x3f81, 'just above a tie'],
    [0x7f7f7fff, 0x7f7f, 'just below overflow'],
    [0x7f7f8000, 0x7f80, 'overflow'],
    [0x80000001, 0x8000, 'a tiny denormal'],
    [0x00010000, 0x0001, 'a denormal that fits'],
    [0xff800000, 0xff80, '-infinity'],
    [0x7f800001, 0x7fc0, 'a NaN whose upper bits alone would be infinity'],
  ]
  const { halves, flags } = await cast(
    device,
    castBfloat16,
    rows.map(([bits]) => bits),
  )
  for (const [i, [, expected, label]] of rows.entries()) {
    assert.equal(halves[i]!.toString(16), expected.toString(16), label)
  }
  assert.deepEqual(flags, [1, 2])
  // 10 elements: halfwords 10 and 11 are behind the end
  assert.deepEqual(halves.slice(10), [0, 0])
})

testOnDevices('every finite float16 survives the way through f32', async (device) => {
  const all = Array.from({ length: 65536 }, (_, half) => half).filter((half) => (half & 0x7c00) !== 0x7c00)
  const { halves, flags } = await cast(device, castFloat16, all.map(float16ToBits))
  assert.deepEqual(halves.slice(0, all.length), all)
  assert.deepEqual(flags, [0, 0])
})

test('float16 rounding agrees with the engine', { skip: 'f16round' in Math ? false : 'no Math.f16round' }, () => {
  const f16round = (Math as typeof Math & { f16round: (value: number) => number }).f16round
  const scratch = new Float32Array(1)
  const words = new Uint32Array(scratch.buffer)
  let state = 99
  for (let i = 0; i < 20000; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    // exponents around the float16 range
    words[0] = (state & 0x80ffffff) | ((0x30 + ((state >>> 24) % 24)) << 24)
    const value = scratch[0]!
    words[0] = float16ToBits(toFloat16(words[0]!))
    assert.ok(Object.is(scratch[0], f16round(value)), `${value}`)
  }
})
