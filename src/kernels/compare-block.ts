// Dequantizes a block-packed artifact, (code - zero point of its block) * scale of its block, and compares it with the original
// in its stored order: 'nk' row-major [N,K] or 'kn' row-major [K,N]. Element e = firstElement + i of the tensor has
// (row, k) = (e / k, e % k) or, for kn, (e % n, e / n); its block is row * ceil(k / blockSize) + k / blockSize, less blockBase,
// so packed, scales and zero_points may be whole or begin at block blockBase. Results as in src/kernels/compare.ts; invocation g
// of ceil(elements / elementsPerInvocation) takes vec4s g, g + invocations, ... Params: [elements, firstElement, k, n,
// order (0 nk, 1 kn), bits, blockSize, statSlot, elementsPerInvocation, blockBase, 0, 0].

import type { Kernel } from '../compute/compute-device.ts'
import { blockWords } from './block-codes.ts'
import {
  addToCompare,
  COMPARE_STAT_WORDS,
  COMPARE_SUM_WORDS,
  compareInvocations,
  noSums,
  writeSums,
} from './compare.ts'
import { bitsFloat } from './float-bits.ts'
import { asFloats, chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'

export const compareBlock: Kernel = {
  name: 'compare-block',
  bindings: [chunk(), read('packed'), read('scales'), read('zero_points'), readWrite('stats'), readWrite('sums')],
  paramWords: 12,
  workgroupSize: WORKGROUP_SIZE,
  library: ['comparison'],
  reference(buffers, params) {
    const [originalWords, packed, scales, zeroPoints, stats, sumWords] = buffers as [
      Uint32Array,
      Uint32Array,
      Uint32Array,
      Uint32Array,
      Uint32Array,
      Uint32Array,
    ]
    const [elements, firstElement, k, n] = params as unknown as [number, number, number, number]
    const transposed = params[4] === 1
    const bits = params[5]!
    const blockSize = params[6]!
    const statBase = params[7]! * COMPARE_STAT_WORDS
    const blockBase = params[9]!
    const blocksPerRow = Math.ceil(k / blockSize)
    const words = blockWords(bits, blockSize)
    const original = asFloats(originalWords)
    const total = noSums()
    for (let i = 0; i < elements; i++) {
      const element = firstElement + i
      const row = transposed ? element % n : Math.floor(element / k)
      const along = transposed ? Math.floor(element / n) : element % k
      const block = row * blocksPerRow + Math.floor(along / blockSize) - blockBase
      const bit = (along % blockSize) * bits
      const code = (packed[block * words + (bit >>> 5)]! >>> (bit & 31)) & (2 ** bits - 1)
      const dequantized = Math.fround((code - zeroPoints[block]!) * bitsFloat(scales[block]!))
      addToCompare(stats, statBase, total, original[i]!, dequantized)
    }
    const sums = asFloats(sumWords)
    sums.fill(0, 0, compareInvocations(elements, params[8]!) * COMPARE_SUM_WORDS)
    if (elements > 0) writeSums(sums, 0, total)
  },
}
