// Dequantizes an 8-bit artifact, (q - zero point) * scale, and compares it with the original. The slot of chunk element i is its
// channel ((firstElement + i) / inner) % channels (channels 1: one scale for all). Slot, 4 words: [scale f32, zero point i32, 0, 0].
// q is signed or unsigned by `signed`. Results as in src/kernels/compare.ts. Invocation g of
// ceil(elements / elementsPerInvocation) takes vec4s g, g + invocations, ... Params: [elements, inner, channels, firstElement,
// signed, statSlot, elementsPerInvocation, 0].

import type { Kernel } from '../compute/compute-device.ts'
import {
  addToCompare,
  COMPARE_STAT_WORDS,
  COMPARE_SUM_WORDS,
  compareInvocations,
  noSums,
  writeSums,
} from './compare.ts'
import { bitsFloat, floatBits } from './float-bits.ts'
import { asBytes, asFloats, chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'

export const COMPARE_INT8_SLOT_WORDS = 4

export function writeCompareInt8Slot(slots: Uint32Array, row: number, scale: number, zeroPoint: number): void {
  const base = row * COMPARE_INT8_SLOT_WORDS
  slots[base] = floatBits(scale)
  slots[base + 1] = zeroPoint
  slots[base + 2] = 0
  slots[base + 3] = 0
}

export const compareInt8: Kernel = {
  name: 'compare-int8',
  bindings: [chunk(), read('artifact'), read('slots'), readWrite('stats'), readWrite('sums')],
  paramWords: 8,
  workgroupSize: WORKGROUP_SIZE,
  library: ['comparison'],
  reference(buffers, params) {
    const [originalWords, artifact, slots, stats, sumWords] = buffers as [
      Uint32Array,
      Uint32Array,
      Uint32Array,
      Uint32Array,
      Uint32Array,
    ]
    const [elements, inner, channels, firstElement] = params as unknown as [number, number, number, number]
    const signed = params[4] !== 0
    const statBase = params[5]! * COMPARE_STAT_WORDS
    const original = asFloats(originalWords)
    const bytes = asBytes(artifact)
    const total = noSums()
    for (let i = 0; i < elements; i++) {
      const slot = (Math.floor((firstElement + i) / inner) % channels) * COMPARE_INT8_SLOT_WORDS
      const code = signed ? (bytes[i]! << 24) >> 24 : bytes[i]!
      const dequantized = Math.fround((code - (slots[slot + 1]! | 0)) * bitsFloat(slots[slot]!))
      addToCompare(stats, statBase, total, original[i]!, dequantized)
    }
    const sums = asFloats(sumWords)
    sums.fill(0, 0, compareInvocations(elements, params[6]!) * COMPARE_SUM_WORDS)
    if (elements > 0) writeSums(sums, 0, total)
  },
}
