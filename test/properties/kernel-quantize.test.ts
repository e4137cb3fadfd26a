// Properties that hold for every input of the quantization kernels: the reference against formulas written independently of it
// (in f64, without bit tricks), and the GPU against the reference on shapes and settings that fast-check chooses.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { blockQuantizer, blockWords } from '../../src/kernels/block-codes.ts'
import { bitsFloat, bitsOfKey, floatBits, orderKey } from '../../src/kernels/float-bits.ts'
import { toBfloat16, toFloat16 } from '../../src/kernels/float16-bits.ts'
import { blockKernel } from '../../src/kernels/quantize-block.ts'
import {
  type TransposeParams,
  transposeKernel,
  transposeParams,
  transposeWorkgroups,
} from '../../src/kernels/quantize-block-transpose.ts'
import {
  decodeInt8Slot,
  INT8_SLOT_WORDS,
  int8Code,
  quantizeInt8,
  writeInt8Slot,
} from '../../src/kernels/quantize-int8.ts'
import { lanesForLength, segmentWorkgroups } from '../../src/kernels/segments.ts'
import { float16ToNumber } from '../../src/tensor/float16.ts'
import { segmentTable } from '../support/float-words.ts'
import { runKernel } from '../support/run-kernel.ts'
import { referenceDevice, testOnGpu } from '../support/with-device.ts'

const RUNS = 300
/** A GPU run is a few milliseconds. */
const GPU_RUNS = 40
const SEED = 20240229

const bits = fc.nat({ max: 0xffffffff })
const finiteFloat = fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e6), max: Math.fround(1e6) })

function check<T>(arbitrary: fc.Arbitrary<T>, property: (value: T) => void): void {
  fc.assert(fc.property(arbitrary, property), { numRuns: RUNS, seed: SEED })
}

/** Half to even by the definition: the nearest integer, and of two the even one. */
function nearestEven(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1
  return below % 2 === 0 ? below : below + 1
}

test('order keys order as floats do and turn back into their bits', () => {
  check(fc.tuple(bits, bits), ([a, b]) => {
    assert.equal(bitsOfKey(orderKey(a)), a)
    const [x, y] = [bitsFloat(a), bitsFloat(b)]
    if (Number.isNaN(x) || Number.isNaN(y) || x === y) return
    assert.equal(orderKey(a) < orderKey(b), x < y)
  })
})

test('int8 codes follow the published formula', () => {
  const arbitrary = fc.record({
    value: finiteFloat,
    scale: fc.float({ noNaN: true, min: Math.fround(1e-6), max: Math.fround(1e4) }),
    zeroPoint: fc.integer({ min: 0, max: 255 }),
  })
  check(arbitrary, ({ value, scale, zeroPoint }) => {
    const inverseScale = Math.fround(1 / scale)
    const slots = new Uint32Array(INT8_SLOT_WORDS)
    writeInt8Slot(slots, 0, { inverseScale, zeroPoint, qMin: 0, qMax: 255, deadZoneBits: 0, minMagnitude: 0 })
    const expected = Math.min(255, Math.max(0, nearestEven(Math.fround(value * inverseScale)) + zeroPoint))
    assert.equal(int8Code(decodeInt8Slot(slots, 0), value, floatBits(value)), expected)
  })
})

test('a block dequantizes to within half a step, symmetric values that clamp at the top within one', () => {
  const arbitrary = fc.record({
    values: fc.array(finiteFloat, { minLength: 1, maxLength: 32 }),
    wide: fc.boolean(),
    asymmetric: fc.boolean(),
  })
  check(arbitrary, ({ values, wide, asymmetric }) => {
    const settings = { bits: wide ? 8 : 4, blockSize: 32, asymmetric, shrinkCount: 0 } as const
    const { codes, scale, zeroPoint } = blockQuantizer(settings)(new Uint32Array(Float32Array.from(values).buffer))
    const step = Math.abs(scale)
    for (const [i, value] of values.entries()) {
      const found = (codes[i]! - zeroPoint) * scale
      const bound = scale === 0 ? 1e-30 : asymmetric ? 1.001 * step : step * 1.001
      assert.ok(Math.abs(found - value) <= bound, `${value} became ${found} with step ${step}`)
      const clamps = codes[i] === 0 || codes[i] === 2 ** settings.bits - 1
      if (scale !== 0 && !clamps) assert.ok(Math.abs(found - value) <= step * 0.5001, `${value} became ${found}`)
    }
    // exact zeros stay exact
    for (const [i, value] of values.entries()) if (value === 0) assert.equal(codes[i], zeroPoint)
  })
})

test('mse clipping never makes the counted error larger than no clipping', () => {
  const arbitrary = fc.array(fc.float({ noNaN: true, min: -4, max: 4 }), { minLength: 32, maxLength: 32 })
  check(arbitrary, (values) => {
    const block = new Uint32Array(Float32Array.from(values).buffer)
    const cost = (shrinkCount: number): number => {
      const settings = { bits: 4, blockSize: 32, asymmetric: false, shrinkCount } as const
      const { codes, scale, zeroPoint } = blockQuantizer(settings)(block)
      return values.reduce((sum, value, i) => sum + (value - (codes[i]! - zeroPoint) * scale) ** 2, 0)
    }
    // errors are counted in 128ths of a step, rounded down
    assert.ok(cost(12) <= cost(0) * 1.02 + 1e-9)
  })
})

test('16-bit floats are the nearest ones', () => {
  check(finiteFloat, (value) => {
    const half = toFloat16(floatBits(value))
    const found = float16ToNumber(half)
    if (Number.isFinite(found)) {
      for (const neighbour of [half - 1, half + 1]) {
        const other = float16ToNumber(neighbour & 0xffff)
        if (Number.isNaN(other) || Math.sign(other) * Math.sign(found) < 0) continue
        assert.ok(Math.abs(found - value) <= Math.abs(other - value), `${value} became ${found}, ${other} is nearer`)
      }
    } else {
      assert.ok(Math.abs(value) >= 65520)
    }
    const brain = bitsFloat((toBfloat16(floatBits(value)) << 16) >>> 0)
    // 8 bits of significand: half a unit in the last place is 2^-9 of the value
    assert.ok(Math.abs(brain - value) <= Math.abs(value) * 2 ** -8 || Math.abs(value) < 1e-37)
  })
})

const wordArray = fc.array(fc.oneof({ weight: 4, arbitrary: finiteFloat.map(floatBits) }, bits), {
  minLength: 1,
  maxLength: 600,
  size: 'max',
})

testOnGpu('any values at any length: int8 codes equal the reference', async (device) => {
  const arbitrary = fc.record({
    values: wordArray,
    inverse: fc.float({ noNaN: true, min: Math.fround(1e-4), max: 1e4 }),
  })
  await fc.assert(
    fc.asyncProperty(arbitrary, async ({ values, inverse }) => {
      const slots = new Uint32Array(INT8_SLOT_WORDS)
      const rule = { deadZoneBits: 0, minMagnitude: 0 } as const
      writeInt8Slot(slots, 0, { inverseScale: inverse, zeroPoint: 77, qMin: 0, qMax: 255, ...rule })
      const buffers = {
        values: Uint32Array.from(values),
        segments: segmentTable([[0, values.length, 0, 0]]),
        slots,
        out: new Uint32Array(Math.ceil(values.length / 4)),
      }
      const lanes = lanesForLength(values.length)
      const groups = segmentWorkgroups(1, lanes)
      const expected = await runKernel(referenceDevice(), quantizeInt8, buffers, [1, lanes, 0, 0], groups)
      assert.deepEqual(await runKernel(device, quantizeInt8, buffers, [1, lanes, 0, 0], groups), expected)
    }),
    { numRuns: GPU_RUNS, seed: SEED },
  )
})

const blockSettings = fc.record({
  bits: fc.constantFrom(4 as const, 8 as const),
  blockSize: fc.constantFrom(16, 32, 64, 128),
  asymmetric: fc.boolean(),
  shrinkCount: fc.constantFrom(0, 1, 5, 20),
})

testOnGpu('any values and settings: blocks equal the reference', async (device) => {
  const arbitrary = fc.record({ values: wordArray, settings: blockSettings, skip: fc.nat({ max: 3 }) })
  await fc.assert(
    fc.asyncProperty(arbitrary, async ({ values, settings, skip }) => {
      const { bits: width, blockSize, asymmetric, shrinkCount } = settings
      const start = Math.min(skip, values.length - 1)
      const length = values.length - start
      const blocks = Math.ceil(length / blockSize)
      const buffers = {
        values: Uint32Array.from(values),
        segments: segmentTable([[start, length, 0, 0]]),
        packed: new Uint32Array(blocks * blockWords(width, blockSize)),
        scales: new Uint32Array(blocks),
        zero_points: new Uint32Array(blocks),
        flags: new Uint32Array(2),
      }
      const params = [1, 8, width, blockSize, asymmetric ? 1 : 0, shrinkCount, 0, 0]
      for (const subgroups of new Set([false, device.tuning.subgroups])) {
        const kernel = blockKernel(width, blockSize, asymmetric, shrinkCount, { aligned: start % 4 === 0, subgroups })
        const expected = await runKernel(referenceDevice(), kernel, buffers, params, segmentWorkgroups(1, 8))
        assert.deepEqual(await runKernel(device, kernel, buffers, params, segmentWorkgroups(1, 8)), expected)
      }
    }),
    { numRuns: GPU_RUNS, seed: SEED },
  )
})

testOnGpu('any matrix and settings: transposed blocks equal the reference', async (device) => {
  const arbitrary = fc.record({
    values: wordArray,
    n: fc.integer({ min: 1, max: 24 }),
    settings: blockSettings,
    firstBlock: fc.nat({ max: 2 }),
  })
  await fc.assert(
    fc.asyncProperty(arbitrary, async ({ values, n, settings, firstBlock }) => {
      const rows = Math.max(1, Math.floor(values.length / n))
      const padded = Uint32Array.from({ length: rows * n }, (_, i) => values[i % values.length]!)
      const blocksPerColumn = firstBlock + Math.ceil(rows / settings.blockSize)
      const p: TransposeParams = {
        rows,
        n,
        firstBlock,
        blocksPerColumn,
        ...settings,
        valuesStart: 0,
        packedWordBase: 0,
        blockBase: 0,
        slot: 0,
      }
      const buffers = {
        values: padded,
        packed: new Uint32Array(n * blocksPerColumn * blockWords(settings.bits, settings.blockSize)),
        scales: new Uint32Array(n * blocksPerColumn),
        zero_points: new Uint32Array(n * blocksPerColumn),
        flags: new Uint32Array(2),
      }
      for (const subgroups of new Set([false, device.tuning.subgroups])) {
        const kernel = transposeKernel(p, subgroups)
        const groups = transposeWorkgroups(kernel, rows, n, settings.blockSize)
        const expected = await runKernel(referenceDevice(), kernel, buffers, [...transposeParams(p)], groups)
        assert.deepEqual(await runKernel(device, kernel, buffers, [...transposeParams(p)], groups), expected)
      }
    }),
    { numRuns: GPU_RUNS, seed: SEED },
  )
})
