// int4/int8 quantization in blocks of consecutive elements, symmetric or asymmetric, with optional least-squares clipping;
// formulas in src/kernels/block-codes.ts. A segment is cut into blocks of blockSize; its last block may be short and is padded
// with the code of 0. aux of a segment is the output index of its first block, its slot indexes flags.
// Block j of a segment: packed words from (aux + j) * blockSize * bits / 32 on (low bits first), scales[aux + j] f32,
// zero_points[aux + j] u32. flags: 2 words a slot, added to: [non-finite values, reserved].
// Lane l of a segment takes blocks l, l + lanes, ... Params: [segmentCount, lanes, bits, blockSize, asymmetric, shrinkCount, 0, 0].
// `quantize-int4-block32` is the same contract for the common case only: 4 bits, block 32, symmetric, no clipping, every
// segment start a multiple of 4; one block lives in registers. `quantize-int4-block32-subgroup` is that with teams of 8 lanes,
// and takes 8 or 64 lanes a segment. blockKernel() picks.

import type { Kernel, KernelBinding } from '../compute/compute-device.ts'
import { blockQuantizer, blockWords, packCodes } from './block-codes.ts'
import { floatBits } from './float-bits.ts'
import { chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'
import { reachedSegments, readSegment } from './segments.ts'

/** Words of a slot in `flags`: [non-finite values, reserved]. */
export const BLOCK_FLAG_WORDS = 2

const BINDINGS: KernelBinding[] = [
  chunk(),
  read('segments'),
  readWrite('packed'),
  readWrite('scales'),
  readWrite('zero_points'),
  readWrite('flags'),
]

const reference: Kernel['reference'] = (buffers, params, workgroups) => {
  const [values, segments, packed, scales, zeroPoints, flags] = buffers as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ]
  const bits = params[2] === 4 ? 4 : 8
  const blockSize = params[3]!
  const quantize = blockQuantizer({ bits, blockSize, asymmetric: params[4] !== 0, shrinkCount: params[5]! })
  const words = blockWords(bits, blockSize)
  const rows = reachedSegments(params[0]!, params[1]!, workgroups)
  for (let row = 0; row < rows; row++) {
    const { start, length, slot, aux } = readSegment(segments, row)
    for (let first = 0, block = aux; first < length; first += blockSize, block++) {
      const result = quantize(values.subarray(start + first, start + Math.min(first + blockSize, length)))
      packCodes(packed, block * words, result.codes, bits)
      scales[block] = floatBits(result.scale)
      zeroPoints[block] = result.zeroPoint
      flags[slot * BLOCK_FLAG_WORDS]! += result.nonFinite
    }
  }
}

export const quantizeBlock: Kernel = {
  name: 'quantize-block',
  bindings: BINDINGS,
  paramWords: 8,
  workgroupSize: WORKGROUP_SIZE,
  library: ['reciprocal'],
  reference,
}

export const quantizeInt4Block32: Kernel = {
  name: 'quantize-int4-block32',
  bindings: BINDINGS,
  paramWords: 8,
  workgroupSize: WORKGROUP_SIZE,
  library: ['reciprocal'],
  reference,
}

export const quantizeInt4Block32Subgroup: Kernel = {
  name: 'quantize-int4-block32-subgroup',
  bindings: BINDINGS,
  paramWords: 8,
  workgroupSize: WORKGROUP_SIZE,
  library: ['team', 'reciprocal'],
  subgroups: true,
  reference,
}

/** The kernel for these settings. Segment starts must be multiples of 4 (`aligned`) for the fast ones. */
export function blockKernel(
  bits: number,
  blockSize: number,
  asymmetric: boolean,
  shrinkCount: number,
  { aligned = true, subgroups = false } = {},
): Kernel {
  const common = aligned && bits === 4 && blockSize === 32 && !asymmetric && shrinkCount <= 1
  if (!common) return quantizeBlock
  return subgroups ? quantizeInt4Block32Subgroup : quantizeInt4Block32
}
