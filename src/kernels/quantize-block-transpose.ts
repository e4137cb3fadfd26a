// Block quantization of a [K,N] weight into the [N,K] block order of MatMulNBits: blocks run down the columns, so that
// transposing costs no extra pass. Formulas in src/kernels/block-codes.ts. `values` holds a piece of `rows` rows whose first row
// starts block firstBlock of its columns; only the last piece of a tensor may have a short last block (padded with the code of 0).
// Column c, block b of the piece: local = c * blocksPerColumn + firstBlock + b; packed words from
// packedWordBase + local * blockSize * bits / 32 on, scales[blockBase + local], zero_points[blockBase + local].
// flags: 2 words at `slot`, added to: [non-finite values, reserved]. One invocation takes 4 neighbouring columns of one block.
// Params: [rows, n, firstBlock, blocksPerColumn, bits, blockSize, asymmetric, shrinkCount, valuesStart, packedWordBase,
// blockBase, slot]. Fast when n % 4 == 0 and valuesStart % 4 == 0. `quantize-int4-block32-transpose` is the same contract for
// 4 bits, block 32, symmetric, no clipping, n % 4 == 0, valuesStart % 4 == 0, packedWordBase % 4 == 0;
// `quantize-int4-block32-transpose-subgroup` is that with a team of 8 lanes instead of one invocation. transposeKernel() picks.

import type { ComputeDevice, Kernel, KernelBinding } from '../compute/compute-device.ts'
import { blockQuantizer, blockWords, packCodes } from './block-codes.ts'
import { floatBits } from './float-bits.ts'
import { chunk, readWrite, WORKGROUP_SIZE, type Workgroups, workgroupsFor } from './kernel-support.ts'
import { BLOCK_FLAG_WORDS } from './quantize-block.ts'

export interface TransposeParams {
  rows: number
  n: number
  firstBlock: number
  blocksPerColumn: number
  bits: 4 | 8
  blockSize: number
  asymmetric: boolean
  shrinkCount: number
  valuesStart: number
  packedWordBase: number
  blockBase: number
  slot: number
}

export function transposeParams(p: TransposeParams): Uint32Array {
  return Uint32Array.of(
    p.rows,
    p.n,
    p.firstBlock,
    p.blocksPerColumn,
    p.bits,
    p.blockSize,
    p.asymmetric ? 1 : 0,
    p.shrinkCount,
    p.valuesStart,
    p.packedWordBase,
    p.blockBase,
    p.slot,
  )
}

const TEAM_LANES = 8

export function transposeWorkgroups(kernel: Kernel, rows: number, n: number, blockSize: number): Workgroups {
  return workgroupsFor(Math.ceil(n / 4) * Math.ceil(rows / blockSize) * (kernel.subgroups ? TEAM_LANES : 1))
}

const BINDINGS: KernelBinding[] = [
  chunk(),
  readWrite('packed'),
  readWrite('scales'),
  readWrite('zero_points'),
  readWrite('flags'),
]

const reference: Kernel['reference'] = (buffers, params) => {
  const [values, packed, scales, zeroPoints, flags] = buffers as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ]
  const [rows, n, firstBlock, blocksPerColumn] = params as unknown as [number, number, number, number]
  const [valuesStart, packedWordBase, blockBase, slot] = params.subarray(8) as unknown as [
    number,
    number,
    number,
    number,
  ]
  const bits = params[4] === 4 ? 4 : 8
  const blockSize = params[5]!
  const quantize = blockQuantizer({ bits, blockSize, asymmetric: params[6] !== 0, shrinkCount: params[7]! })
  const words = blockWords(bits, blockSize)
  const column = new Uint32Array(blockSize)
  for (let first = 0, block = firstBlock; first < rows; first += blockSize, block++) {
    const height = Math.min(blockSize, rows - first)
    for (let c = 0; c < n; c++) {
      for (let r = 0; r < height; r++) column[r] = values[valuesStart + (first + r) * n + c]!
      const result = quantize(column.subarray(0, height))
      const local = c * blocksPerColumn + block
      packCodes(packed, packedWordBase + local * words, result.codes, bits)
      scales[blockBase + local] = floatBits(result.scale)
      zeroPoints[blockBase + local] = result.zeroPoint
      flags[slot * BLOCK_FLAG_WORDS]! += result.nonFinite
    }
  }
}

export const quantizeBlockTranspose: Kernel = {
  name: 'quantize-block-transpose',
  bindings: BINDINGS,
  paramWords: 12,
  workgroupSize: WORKGROUP_SIZE,
  library: ['reciprocal-vec4'],
  reference,
}

export const quantizeInt4Block32Transpose: Kernel = {
  name: 'quantize-int4-block32-transpose',
  bindings: BINDINGS,
  paramWords: 12,
  workgroupSize: WORKGROUP_SIZE,
  library: ['reciprocal-vec4'],
  reference,
}

export const quantizeInt4Block32TransposeSubgroup: Kernel = {
  name: 'quantize-int4-block32-transpose-subgroup',
  bindings: BINDINGS,
  paramWords: 12,
  workgroupSize: WORKGROUP_SIZE,
  library: ['team', 'reciprocal'],
  subgroups: true,
  reference,
}

/**
 * Whether transposing is for teams of 8 lanes. A software adapter pays for each shuffle: one invocation that keeps its 32 rows in
 * registers is 1.5 times as fast there on chunks, whose loads are short; pruned weights lie in a buffer, and there it is slower.
 */
export function transposeInTeams({ tuning, info }: Pick<ComputeDevice, 'tuning' | 'info'>, pruned: boolean): boolean {
  return tuning.subgroups && (pruned || !info.software)
}

/** The kernel for these params; all give the same bytes. */
export function transposeKernel(p: TransposeParams, subgroups = false): Kernel {
  const common = p.bits === 4 && p.blockSize === 32 && !p.asymmetric && p.shrinkCount <= 1
  const aligned = p.n % 4 === 0 && p.valuesStart % 4 === 0 && p.packedWordBase % 4 === 0
  if (!common || !aligned) return quantizeBlockTranspose
  return subgroups ? quantizeInt4Block32TransposeSubgroup : quantizeInt4Block32Transpose
}
