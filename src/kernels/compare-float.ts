// Compares a tensor with its artifact stored as f32 (pruned), float16 or bfloat16: element i of `original` against element i of
// `artifact` (16-bit: halfword i). Results as in src/kernels/compare.ts; the slot comes from the segment. Segment starts are
// multiples of 4 and no two segments share a vec4. Params: [segmentCount, lanes, artifactBits 32 | 16, bfloat 0 | 1].

import type { Kernel } from '../compute/compute-device.ts'
import { float16ToNumber } from '../tensor/float16.ts'
import { addToCompare, COMPARE_STAT_WORDS, COMPARE_SUM_WORDS, noSums, writeSums } from './compare.ts'
import { bitsFloat } from './float-bits.ts'
import { asFloats, chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'
import { reachedSegments, readSegment } from './segments.ts'

export const compareFloat: Kernel = {
  name: 'compare-float',
  bindings: [chunk(), read('artifact'), read('segments'), readWrite('stats'), readWrite('sums')],
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  library: ['comparison'],
  reference(buffers, params, workgroups) {
    const [originalWords, artifactWords, segments, stats, sumWords] = buffers as [
      Uint32Array,
      Uint32Array,
      Uint32Array,
      Uint32Array,
      Uint32Array,
    ]
    const original = asFloats(originalWords)
    const artifact = asFloats(artifactWords)
    const halves = new Uint16Array(artifactWords.buffer, artifactWords.byteOffset, artifactWords.length * 2)
    const sums = asFloats(sumWords)
    const lanes = params[1]!
    const wide = params[2] === 32
    const bfloat = params[3] === 1
    const artifactAt = (i: number): number => {
      if (wide) return artifact[i]!
      return bfloat ? bitsFloat((halves[i]! << 16) >>> 0) : float16ToNumber(halves[i]!)
    }
    const rows = reachedSegments(params[0]!, lanes, workgroups)
    for (let row = 0; row < rows; row++) {
      const { start, length, slot } = readSegment(segments, row)
      const total = noSums()
      for (let i = start; i < start + length; i++) {
        addToCompare(stats, slot * COMPARE_STAT_WORDS, total, original[i]!, artifactAt(i))
      }
      sums.fill(0, row * lanes * COMPARE_SUM_WORDS, (row + 1) * lanes * COMPARE_SUM_WORDS)
      writeSums(sums, row * lanes, total)
    }
  },
}
