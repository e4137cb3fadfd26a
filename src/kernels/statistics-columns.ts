// The statistics of src/kernels/statistics.ts, without moments, for every column of a row-major [rows, cols] matrix:
// the per-channel statistics of a [K,N] weight. Slot of column c: slotBase + c; slots merge over chunks of rows.
// One invocation takes 4 neighbouring columns and rowsPerItem rows. Fast when cols is a multiple of 4.
// Params: [rows, cols, slotBase, rowsPerItem].

import type { Kernel } from '../compute/compute-device.ts'
import { invocationCount, read, readWrite, WORKGROUP_SIZE, type Workgroups, workgroupsFor } from './kernel-support.ts'
import { addToStatistics, STATISTICS_WORDS } from './statistics.ts'

/** Rows an invocation takes unless the caller knows better: enough to hide its atomics, few enough to fill a GPU. */
export const DEFAULT_ROWS_PER_ITEM = 64

export function statisticsColumnsWorkgroups(rows: number, cols: number, rowsPerItem: number): Workgroups {
  return workgroupsFor(Math.ceil(cols / 4) * Math.ceil(rows / rowsPerItem))
}

export const statisticsColumns: Kernel = {
  name: 'statistics-columns',
  bindings: [read('values'), readWrite('stats')],
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  reference(buffers, params, workgroups) {
    const [values, stats] = buffers as [Uint32Array, Uint32Array]
    const [rows, cols, slotBase, rowsPerItem] = params as unknown as [number, number, number, number]
    const items = Math.floor(invocationCount(workgroups) / Math.ceil(cols / 4))
    const reachedRows = Math.min(rows, items * rowsPerItem)
    for (let row = 0; row < reachedRows; row++) {
      for (let col = 0; col < cols; col++) {
        addToStatistics(stats, (slotBase + col) * STATISTICS_WORDS, values[row * cols + col]!)
      }
    }
  },
}
