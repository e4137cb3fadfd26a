// Magnitude pruning: a finite x with |x| <= t becomes +0, everything else (NaN and infinities too) keeps its bits. `pruned` gets
// the elements of the segments, up to the end of their last vec4, where they are in `values`.
// t is given per slot as the bits of a finite, non-negative f32. Segment starts are multiples of 4 and no two segments share
// a vec4. Params: [segmentCount, lanes, 0, 0]. Zeros: 2 words a slot, added to: [newly zeroed, zeros afterwards].

import type { Kernel } from '../compute/compute-device.ts'
import { ABS_MASK, INFINITY_BITS } from './float-bits.ts'
import { chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'
import { reachedSegments, readSegment } from './segments.ts'

/** Words of a slot in `zeros`: [newly zeroed, zeros afterwards]. */
export const PRUNE_ZERO_WORDS = 2

export const pruneThreshold: Kernel = {
  name: 'prune-threshold',
  bindings: [chunk(), read('segments'), read('thresholds'), readWrite('pruned'), readWrite('zeros')],
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  reference(buffers, params, workgroups) {
    const [values, segments, thresholds, pruned, zeros] = buffers as [
      Uint32Array,
      Uint32Array,
      Uint32Array,
      Uint32Array,
      Uint32Array,
    ]
    const rows = reachedSegments(params[0]!, params[1]!, workgroups)
    for (let row = 0; row < rows; row++) {
      const { start, length, slot } = readSegment(segments, row)
      const threshold = Math.min(thresholds[slot]!, INFINITY_BITS - 1)
      const end = Math.ceil((start + length) / 4) * 4
      pruned.set(values.subarray(start, end), start)
      let newlyZeroed = 0
      let zerosAfter = 0
      for (let i = start; i < start + length; i++) {
        const magnitude = values[i]! & ABS_MASK
        if (magnitude > threshold) continue
        if (magnitude !== 0) newlyZeroed++
        zerosAfter++
        pruned[i] = 0
      }
      zeros[slot * PRUNE_ZERO_WORDS]! += newlyZeroed
      zeros[slot * PRUNE_ZERO_WORDS + 1]! += zerosAfter
    }
  },
}
