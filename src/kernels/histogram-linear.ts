// Exact counts of x over bins of equal width, for charts: bin b holds edges[b] <= x < edges[b + 1], the last bin also its right
// edge. Only finite values inside [edges[0], edges[bins]] count. The bin is guessed from (x - edges[0]) * invWidth and then
// corrected by comparing order keys with the edges, so the counts do not depend on how an adapter rounds the guess.
// Params: [segmentCount, lanes, bins, invWidth as f32 bits]. Edges: bins + 1 ascending f32. Counts: one word a bin.

import type { Kernel } from '../compute/compute-device.ts'
import { ABS_MASK, bitsFloat, clamp, INFINITY_BITS, orderKey } from './float-bits.ts'
import { asFloats, chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'
import { reachedSegments, readSegment } from './segments.ts'

/** orderKey with -0 taken as +0. */
function valueKey(bits: number): number {
  return orderKey(bits === 0x80000000 ? 0 : bits)
}

export const histogramLinear: Kernel = {
  name: 'histogram-linear',
  bindings: [chunk(), read('segments'), read('edges'), readWrite('counts')],
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  reference(buffers, params, workgroups) {
    const [values, segments, edges, counts] = buffers as [Uint32Array, Uint32Array, Uint32Array, Uint32Array]
    const floats = asFloats(values)
    const bins = params[2]!
    const inverseWidth = bitsFloat(params[3]!)
    const first = asFloats(edges)[0]!
    const keys = edges.subarray(0, bins + 1).map(valueKey)
    const rows = reachedSegments(params[0]!, params[1]!, workgroups)
    for (let row = 0; row < rows; row++) {
      const { start, length } = readSegment(segments, row)
      for (let i = start; i < start + length; i++) {
        if ((values[i]! & ABS_MASK) >= INFINITY_BITS) continue
        const key = valueKey(values[i]!)
        if (key < keys[0]! || key > keys[bins]!) continue
        let bin = Math.trunc(clamp((floats[i]! - first) * inverseWidth, 0, bins - 1)) || 0
        while (bin > 0 && key < keys[bin]!) bin--
        while (bin < bins - 1 && key >= keys[bin + 1]!) bin++
        counts[bin]! += 1
      }
    }
  },
}
