// The statistics of src/kernels/statistics.ts, without moments, for every column of a row-major [rows, cols] matrix:
// the per-channel statistics of a [K,N] weight. Slot of column c: slotBase + c; slots merge over chunks of rows.
// One invocation takes 8 neighbouring columns and rowsPerItem rows. Fast when cols is a multiple of 4.
// Params: [rows, cols, slotBase, rowsPerItem].

import type { Kernel } from '../compute/compute-device.ts'
import { chunk, invocationCount, readWrite, WORKGROUP_SIZE, type Workgroups, workgroupsFor } from './kernel-support.ts'
import { addToStatistics, STATISTICS_WORDS } from './statistics.ts'

/** Columns of an invocation, as in the shader. */
const ITEM_COLUMNS = 8
/** A software adapter's chunk: there, few invocations are best, as each pays for its atomics. */
const SMALL_CHUNK_ELEMENTS = 2 ** 21
const ROWS_OF_SMALL_CHUNK = 256
/** Large chunks come from discrete GPUs, which need many invocations to be busy. */
const ROWS_OF_LARGE_CHUNK = 64
/** Invocations below which the cores of a software adapter are not all busy. */
const LEAST_INVOCATIONS = 512

/** Rows that an invocation takes of a [rows, cols] chunk. Results never depend on it. */
export function rowsPerItem(rows: number, cols: number): number {
  const most = rows * cols <= SMALL_CHUNK_ELEMENTS ? ROWS_OF_SMALL_CHUNK : ROWS_OF_LARGE_CHUNK
  const busy = Math.ceil((rows * Math.ceil(cols / ITEM_COLUMNS)) / LEAST_INVOCATIONS)
  return Math.max(1, Math.min(most, busy))
}

export function statisticsColumnsWorkgroups(rows: number, cols: number, rowsEach: number): Workgroups {
  return workgroupsFor(Math.ceil(cols / ITEM_COLUMNS) * Math.ceil(rows / rowsEach))
}

export const statisticsColumns: Kernel = {
  name: 'statistics-columns',
  bindings: [chunk(), readWrite('stats')],
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  library: ['extremes'],
  reference(buffers, params, workgroups) {
    const [values, stats] = buffers as [Uint32Array, Uint32Array]
    const [rows, cols, slotBase, rowsEach] = params as unknown as [number, number, number, number]
    const items = Math.floor(invocationCount(workgroups) / Math.ceil(cols / ITEM_COLUMNS))
    const reachedRows = Math.min(rows, items * rowsEach)
    for (let row = 0; row < reachedRows; row++) {
      for (let col = 0; col < cols; col++) {
        addToStatistics(stats, (slotBase + col) * STATISTICS_WORDS, values[row * cols + col]!)
      }
    }
  },
}
