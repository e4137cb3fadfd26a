// The decisions behind thresholds, as pure functions on counts.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClipSearch } from '../../src/execute/clip-search.ts'
import { DeadZoneSearch } from '../../src/execute/dead-zone-search.ts'
import { countTarget, MagnitudeSearch } from '../../src/execute/magnitude-search.ts'
import { magnitudeBits, roundHalfEven, scaledParameters } from '../../src/execute/scaled-parameters.ts'
import {
  packNibbles,
  packZeroPointColumns,
  packZeroPointRows,
  unpackNibbles,
  unpackZeroPointColumns,
  unpackZeroPointRows,
} from '../../src/execute/write-parts.ts'
import { bitsFloat, floatBits } from '../../src/kernels/float-bits.ts'
import { HISTOGRAM_LEVELS } from '../../src/kernels/histogram.ts'
import { addToStatistics, STATISTICS_WORDS } from '../../src/kernels/statistics.ts'
import { weights } from '../support/weights.ts'

/** Counts of |w| at a level inside a prefix, as the kernel gives them. */
function countsAt(values: Float32Array, level: 0 | 1 | 2, prefix: number): Uint32Array {
  const { shift, prefixShift, bins } = HISTOGRAM_LEVELS[level]
  const counts = new Uint32Array(2048)
  for (const value of values) {
    const bits = floatBits(Math.abs(value))
    if (bits >= 0x7f800000) continue
    if (prefixShift < 32 && bits >>> prefixShift !== prefix) continue
    const bin = (bits >>> shift) & (bins - 1)
    counts[bin] = (counts[bin] ?? 0) + 1
  }
  return counts
}

function search(values: Float32Array, target: number): number {
  const found = new MagnitudeSearch(target)
  for (const level of [0, 1, 2] as const) found.narrow(countsAt(values, level, found.prefix))
  return bitsFloat(found.resultBits ?? 0xffffffff)
}

test('a target is the ceiling of the exact product, not of its binary rounding', () => {
  assert.equal(countTarget(0.07, 100), 7)
  assert.equal(countTarget(0.3, 10), 3)
  assert.equal(countTarget(0.5, 5), 3)
  assert.equal(countTarget(0, 10), 0)
  assert.equal(countTarget(1, 12345), 12345)
  assert.equal(countTarget(1 / 3, 9), 3)
})

test('three levels find the exact order statistic', () => {
  const values = weights(999)
  const sorted = Float32Array.from(values, Math.abs).sort()
  for (const target of [1, 2, 500, 998, 999]) assert.equal(search(values, target), sorted[target - 1])
})

test('a target of nothing is 0, and NaN and infinities are never below a threshold', () => {
  const values = Float32Array.of(1, Number.NaN, Number.POSITIVE_INFINITY, -3, 2)
  assert.equal(search(values, 0), 0)
  assert.equal(search(values, 3), 3)
  assert.equal(search(values, 5), 3)
  assert.equal(search(Float32Array.of(Number.NaN), 1), 0)
})

test('denormals and the largest finite value are found exactly', () => {
  const values = new Float32Array(new Uint32Array([1, 2, 0x7f7fffff, 0x80000003]).buffer)
  assert.deepEqual(
    [1, 2, 3, 4].map((target) => floatBits(search(values, target))),
    [1, 2, 3, 0x7f7fffff],
  )
})

test('the clip search ends near the best clip of a scan over all of them', () => {
  const values = weights(4000)
  values[0] = 20 * Math.abs(values[1] ?? 1)
  const error = (clip: number) => {
    const scale = clip / 7
    return values.reduce((sum, value) => {
      const code = Math.max(-7, Math.min(7, roundHalfEven(value / scale)))
      return sum + (value - code * scale) ** 2
    }, 0)
  }
  const found = new ClipSearch(7)
  found.fine(countsAt(values, 1, found.coarse(countsAt(values, 0, 0))))
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  let best = Number.POSITIVE_INFINITY
  for (let step = 1; step <= 400; step++) best = Math.min(best, error((largest * step) / 400))
  assert.ok(error(bitsFloat(found.resultBits)) < 1.05 * best)
  assert.ok(best < 0.5 * error(largest), 'the example gains from clipping')
})

test('a clip search over zeros ends below every range that counts', () => {
  const found = new ClipSearch(127)
  found.fine(countsAt(new Float32Array(8), 1, found.coarse(countsAt(new Float32Array(8), 0, 0))))
  assert.ok(bitsFloat(found.resultBits) < 1e-30)
})

/** Squared error of int8 with scale absmax / 127 where |w| <= t is 0 and all else at least one step, as the artifact has it. */
function deadZoneSqnrDb(values: Float32Array, scale: number, absMax: number, t: number): number {
  let signal = 0
  let error = 0
  for (const value of values) {
    const magnitude = Math.abs(value)
    const code = Math.max(1, roundHalfEven(Math.fround(magnitude * Math.fround(127 / absMax))))
    signal += magnitude ** 2
    error += (magnitude - (magnitude <= t ? 0 : Math.fround(code * scale))) ** 2
  }
  return 10 * Math.log10(signal / error)
}

function searchDeadZone(values: Float32Array, minSqnrDb: number, pruneBits = 0) {
  const stats = new Uint32Array(STATISTICS_WORDS)
  for (const value of values) addToStatistics(stats, 0, floatBits(value))
  const form = { bits: 8, symmetric: true, symmetricZeroPoint: 0 } as const
  const { slots, scale } = scaledParameters(form, stats, 0, 1, null, { bits: 0 })
  const search = new DeadZoneSearch(slots, scale[0] ?? 0, minSqnrDb)
  const bits = new Uint32Array(values.buffer)
  search.add(bits.subarray(0, 7), pruneBits)
  search.add(bits.subarray(7), pruneBits)
  if (search.narrow()) {
    search.addAgain(bits, pruneBits)
    search.finish()
  }
  return { t: bitsFloat(search.resultBits), scale: scale[0] ?? 0 }
}

test('the dead zone of a bound is exact: t keeps it, the next larger magnitude does not', () => {
  for (const values of [weights(5000), weights(5000, 9, 1e-3)]) {
    const sorted = Float32Array.from(values, Math.abs).sort()
    const absMax = sorted.at(-1) ?? 0
    for (const bound of [1, 5, 10, 15, 20, 25, 30]) {
      const { t, scale } = searchDeadZone(values, bound)
      const next = sorted.find((magnitude) => magnitude > t) ?? 0
      assert.ok(sorted.includes(t), `${t} is a magnitude of the tensor`)
      const [kept, lost] = [t, next].map((zone) => deadZoneSqnrDb(values, scale, absMax, zone))
      assert.ok(kept! >= bound && lost! < bound, `${bound} dB asked: ${kept} at t, ${lost} at the next magnitude`)
    }
  }
})

test('the dead zone of 0 dB takes everything, one out of reach takes nothing', () => {
  const values = weights(5000)
  const absMax = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  assert.equal(searchDeadZone(values, 0).t, absMax)
  assert.equal(searchDeadZone(values, 100).t, 0)
  assert.equal(searchDeadZone(new Float32Array(50), 20).t, 0)
})

test('a bound that holds only where codes of 0 and 1 cost the same is met there', () => {
  // Scale 1: zeroing 0.25 and 0.4 gains, zeroing 0.6 and 1.5 (which is read back as 2) loses.
  const values = Float32Array.of(127, 0.25, -0.4, 0.6, 1.5)
  const signal = values.reduce((sum, value) => sum + value ** 2, 0)
  const boundFor = (error: number) => 10 * Math.log10(signal / error)
  const errors = [0, 0.25, 0.4, 0.6, 1.5].map(
    (t) => signal / 10 ** (deadZoneSqnrDb(values, 1, 127, Math.fround(t)) / 10),
  )
  assert.deepEqual(
    errors.map((error) => Number(error.toFixed(4))),
    [1.3325, 0.8325, 0.6325, 0.8325, 2.8325],
  )
  assert.equal(searchDeadZone(values, boundFor(0.7)).t, Math.fround(0.4))
  assert.equal(searchDeadZone(values, boundFor(0.9)).t, Math.fround(0.6))
  assert.equal(searchDeadZone(values, boundFor(0.6)).t, 0)
})

test('values that pruning zeroes have no part in the search for a dead zone', () => {
  const values = weights(3000)
  const pruned = values.map((value) => (Math.abs(value) <= 0.02 ? 0 : value))
  assert.equal(searchDeadZone(values, 20, floatBits(0.02)).t, searchDeadZone(pruned, 20).t)
})

test('scales: a worked example of each form, and ranges too small for a reciprocal', () => {
  const stats = new Uint32Array(3 * STATISTICS_WORDS)
  const put = (slot: number, values: number[]) => {
    for (const value of values) addToStatistics(stats, slot * STATISTICS_WORDS, floatBits(value))
  }
  put(0, [-2, 1])
  put(1, [0.5, 3])
  put(2, [1e-31, -1e-31])
  const symmetric = scaledParameters({ bits: 8, symmetric: true, symmetricZeroPoint: 128 }, stats, 0, 3, null, null)
  assert.deepEqual([...symmetric.scale], [Math.fround(2 / 127), Math.fround(3 / 127), 1])
  assert.deepEqual([...symmetric.zeroPoint], [128, 128, 128])
  const clip = Uint32Array.of(floatBits(1), floatBits(9), 0)
  const clipped = scaledParameters({ bits: 4, symmetric: true, symmetricZeroPoint: 0 }, stats, 0, 3, clip, null)
  assert.deepEqual([...clipped.scale], [Math.fround(1 / 7), Math.fround(3 / 7), 1])
  const asymmetric = scaledParameters({ bits: 4, symmetric: false, symmetricZeroPoint: 0 }, stats, 0, 3, null, null)
  assert.deepEqual([...asymmetric.scale], [Math.fround(3 / 15), Math.fround(3 / 15), 1])
  assert.deepEqual([...asymmetric.zeroPoint], [10, 0, 0])
})

test('a threshold of a recipe is the largest f32 not above it', () => {
  assert.equal(bitsFloat(magnitudeBits(0.5)), 0.5)
  const tenth = bitsFloat(magnitudeBits(0.1))
  assert.ok(tenth <= 0.1 && bitsFloat(magnitudeBits(0.1) + 1) > 0.1)
  assert.equal(bitsFloat(magnitudeBits(1e300)), 3.4028234663852886e38)
  assert.equal(magnitudeBits(0), 0)
})

test('nibbles and zero points pack and unpack, odd counts padded with 0', () => {
  assert.deepEqual([...packNibbles(Uint8Array.of(1, 2, 0xff))], [0x21, 0x0f])
  assert.deepEqual([...unpackNibbles(Uint8Array.of(0x21, 0x0f), 3, true)], [1, 2, 0xff])
  const codes = Uint8Array.from({ length: 11 * 3 }, (_, i) => (i * 7) % 16)
  assert.deepEqual(unpackZeroPointRows(packZeroPointRows(codes, 11, 3, 4), 11, 3, 4), codes)
  assert.deepEqual(unpackZeroPointColumns(packZeroPointColumns(codes, 11, 3, 4), 11, 3, 4), codes)
  assert.deepEqual(unpackZeroPointColumns(packZeroPointColumns(codes, 11, 3, 8), 11, 3, 8), codes)
  assert.deepEqual([...packZeroPointRows(Uint8Array.of(1, 2, 3), 1, 3, 4)], [0x21, 0x03])
  // rows 0..7 of one block column share the first word, row 8 starts the second
  const column = packZeroPointColumns(
    Uint8Array.from({ length: 9 }, (_, row) => row),
    9,
    1,
    4,
  )
  assert.deepEqual([...new Uint32Array(column.buffer)], [0x76543210, 8])
})
