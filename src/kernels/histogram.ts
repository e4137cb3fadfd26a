// Exact counts of |x| over bit-pattern bins, the distribution from which sparsity thresholds and percentiles are found.
// Three levels narrow one bin at a time down to a single f32: level 0 counts the top 11 bits of |x| (8 exponent, 3 mantissa),
// levels 1 and 2 count, inside the bin that `prefixes` names per slot, the next 11 and the last 9 bits.
// Only finite values count. Counts merge over segments, chunks and devices by addition.
// Params: [segmentCount, lanes, shift, prefixShift, channelInner, channelCount, slotBase, slotCount]. With channelCount > 0
// the slot of an element is its channel ((aux + i) / channelInner) % channelCount, i its index in the segment and aux the
// tensor index of the segment's first element; else it is the segment's slot. Rows of counts and prefixes: slot - slotBase;
// slots outside [slotBase, slotBase + slotCount) are not counted.

import type { Kernel } from '../compute/compute-device.ts'
import { ABS_MASK, INFINITY_BITS } from './float-bits.ts'
import { chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'
import { reachedSegments, readSegment } from './segments.ts'

/** Counters of a slot. */
export const HISTOGRAM_BINS = 2048

/** bin = (|x| bits >> shift) & (bins - 1), for values with |x| bits >> prefixShift == prefix; prefixShift 32: all values. */
export const HISTOGRAM_LEVELS = [
  { shift: 20, prefixShift: 32, bins: 2048 },
  { shift: 9, prefixShift: 20, bins: 2048 },
  { shift: 0, prefixShift: 9, bins: 512 },
] as const

/** |x| bits range [from, to] that a bin of a level covers; `prefix` is ignored at level 0. */
export function histogramBinRange(level: 0 | 1 | 2, prefix: number, bin: number): { from: number; to: number } {
  const { shift, prefixShift } = HISTOGRAM_LEVELS[level]
  const from = (prefixShift === 32 ? 0 : prefix * 2 ** prefixShift) + bin * 2 ** shift
  return { from, to: from + 2 ** shift - 1 }
}

export const histogram: Kernel = {
  name: 'histogram',
  bindings: [chunk(), read('segments'), read('prefixes'), readWrite('counts')],
  paramWords: 8,
  workgroupSize: WORKGROUP_SIZE,
  reference(buffers, params, workgroups) {
    const [values, segments, prefixes, counts] = buffers as [Uint32Array, Uint32Array, Uint32Array, Uint32Array]
    const [segmentCount, lanes, shift, prefixShift] = params as unknown as [number, number, number, number]
    const [channelInner, channelCount, slotBase, slotCount] = params.subarray(4) as unknown as [
      number,
      number,
      number,
      number,
    ]
    const binMask = prefixShift >= 32 ? HISTOGRAM_BINS - 1 : Math.min(HISTOGRAM_BINS, 2 ** (prefixShift - shift)) - 1
    const rows = reachedSegments(segmentCount, lanes, workgroups)
    for (let row = 0; row < rows; row++) {
      const { start, length, slot, aux } = readSegment(segments, row)
      for (let i = 0; i < length; i++) {
        const magnitude = values[start + i]! & ABS_MASK
        if (magnitude >= INFINITY_BITS) continue
        const channel = channelCount > 0 ? Math.floor((aux + i) / channelInner) % channelCount : slot
        const countRow = channel - slotBase
        if (countRow < 0 || countRow >= slotCount) continue
        if (prefixShift < 32 && magnitude >>> prefixShift !== prefixes[countRow]!) continue
        counts[countRow * HISTOGRAM_BINS + ((magnitude >>> shift) & binMask)]! += 1
      }
    }
  },
}
