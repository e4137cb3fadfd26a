// statistics and statistics-columns against figures worked out by hand.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { floatBits } from '../../src/kernels/float-bits.ts'
import { lanesForBlocks, lanesForLength, lanesForSegments, segmentWorkgroups } from '../../src/kernels/segments.ts'
import { readStatistics, STATISTICS_WORDS, statistics, sumMoments } from '../../src/kernels/statistics.ts'
import { rowsPerItem, statisticsColumns, statisticsColumnsWorkgroups } from '../../src/kernels/statistics-columns.ts'
import { segmentTable, wordsOf } from '../support/float-words.ts'
import { runKernel } from '../support/run-kernel.ts'
import { testOnDevices } from '../support/with-device.ts'

testOnDevices('counts and extremes of neighbouring segments do not mix', async (device) => {
  const values = wordsOf([9, -2.5, 0, -0, 1.5, NaN, -Infinity, 0.25, -100, 3])
  const segments = segmentTable([
    [1, 4, 1, 0],
    [5, 3, 0, 0],
  ])
  const { stats, moments } = await runKernel(
    device,
    statistics,
    { values, segments, stats: new Uint32Array(2 * STATISTICS_WORDS), moments: new Uint32Array(64 * 2) },
    [2, 8, 0, 0],
    segmentWorkgroups(2, 8),
  )
  // slot 1: -2.5, 0, -0, 1.5
  assert.deepEqual(readStatistics(stats!, 1), {
    absMaxBits: floatBits(2.5),
    absMax: 2.5,
    min: -2.5,
    max: 1.5,
    zeros: 2,
    nonFinite: 0,
  })
  // slot 0: NaN, -Infinity, 0.25
  assert.deepEqual(readStatistics(stats!, 0), {
    absMaxBits: floatBits(0.25),
    absMax: 0.25,
    min: 0.25,
    max: 0.25,
    zeros: 0,
    nonFinite: 2,
  })
  const floats = new Float32Array(moments!.buffer)
  // -2.5 + 1.5 and 6.25 + 2.25
  assert.deepEqual(sumMoments(floats, 0, 8), { sum: -1, sumSquares: 8.5 })
  assert.deepEqual(sumMoments(floats, 8, 8), { sum: 0.25, sumSquares: 0.0625 })
})

testOnDevices('statistics of a slot merge over dispatches', async (device) => {
  const segments = segmentTable([[0, 3, 0, 0]])
  const run = (values: Uint32Array, stats: Uint32Array) =>
    runKernel(
      device,
      statistics,
      { values, segments, stats, moments: new Uint32Array(2) },
      [1, 1, 0, 0],
      segmentWorkgroups(1, 1),
    )
  const first = await run(wordsOf([-1, 2, 0]), new Uint32Array(STATISTICS_WORDS))
  const second = await run(wordsOf([-7, 1, 0]), first['stats']!)
  assert.deepEqual(readStatistics(second['stats']!, 0), {
    absMaxBits: floatBits(7),
    absMax: 7,
    min: -7,
    max: 2,
    zeros: 2,
    nonFinite: 0,
  })
})

test('a slot without any finite value reads as zeros', () => {
  assert.deepEqual(readStatistics(new Uint32Array(STATISTICS_WORDS), 0), {
    absMaxBits: 0,
    absMax: 0,
    min: 0,
    max: 0,
    zeros: 0,
    nonFinite: 0,
  })
})

testOnDevices('every column of a matrix gets its own slot', async (device) => {
  // 3 rows, 5 columns
  const values = wordsOf([1, -2, 0, 4, 5, -6, 2, 0, NaN, 5, 3, -1, -0, 1, 5])
  const { stats } = await runKernel(
    device,
    statisticsColumns,
    { values, stats: new Uint32Array(7 * STATISTICS_WORDS) },
    [3, 5, 2, 2],
    statisticsColumnsWorkgroups(3, 5, 2),
  )
  const figures = [0, 1, 2, 3, 4].map((column) => readStatistics(stats!, 2 + column))
  assert.deepEqual(
    figures.map(({ absMax, min, max }) => [absMax, min, max]),
    [
      [6, -6, 3],
      [2, -2, 2],
      [0, -0, 0],
      [4, 1, 4],
      [5, 5, 5],
    ],
  )
  assert.deepEqual(
    figures.map(({ zeros, nonFinite }) => [zeros, nonFinite]),
    [
      [0, 0],
      [0, 0],
      [3, 0],
      [0, 1],
      [0, 0],
    ],
  )
  // slots below slotBase stay untouched
  assert.deepEqual([...stats!.subarray(0, 16)], new Array(16).fill(0))
})

test('lanes grow with the length of segments', () => {
  assert.deepEqual([1, 127, 128, 1023, 1024].map(lanesForLength), [1, 1, 8, 8, 64])
})

test('a software adapter gets as few lanes as still fill its cores', () => {
  assert.equal(lanesForSegments(1024, 4096, true), 1)
  assert.equal(lanesForSegments(256, 4096, true), 8)
  assert.equal(lanesForSegments(64, 16_384, true), 8)
  assert.equal(lanesForSegments(16, 65536, true), 64)
  // too short for 64 lanes, too few for 1
  assert.equal(lanesForSegments(16, 200, true), 8)
  assert.equal(lanesForSegments(1024, 4096, false), 64)
})

test('lanes of block kernels: teams of 8 on software adapters with segments enough, never fewer than a kernel needs', () => {
  assert.equal(lanesForBlocks(128, 512, 8, true), 8)
  assert.equal(lanesForBlocks(128, 512, 1, false), 64)
  assert.equal(lanesForBlocks(8, 512, 1, true), 64)
  assert.equal(lanesForBlocks(2000, 32, 1, true), 8)
  assert.equal(lanesForBlocks(2000, 4, 8, true), 8)
  assert.equal(lanesForBlocks(2000, 4, 1, true), 1)
})

test('column chunks give every core work, and invocations of small chunks many rows', () => {
  assert.equal(rowsPerItem(512, 4096), 256)
  assert.equal(rowsPerItem(2048, 4096), 64)
  // 32 items a row: 8192 rows in items of 512 would leave 512 invocations, 256 gives 1024
  assert.equal(rowsPerItem(8192, 256), 256)
  // one item a row: 512 items of 2 rows
  assert.equal(rowsPerItem(1024, 8), 2)
  assert.equal(rowsPerItem(1, 3), 1)
})

test('a dispatch beyond 65535 workgroups takes a second dimension', () => {
  assert.deepEqual(segmentWorkgroups(65535, 64), [65535, 1, 1])
  // 100000 groups: 2 rows of 50000
  assert.deepEqual(segmentWorkgroups(100000, 64), [50000, 2, 1])
})
