// Block quantization of weights stored as [N,K]: blocks are runs of consecutive elements. Entry: encodeBlocks.
// Packed codes, scales and zero points come out in the order of the artifact; zero points are packed on the host when the
// tensor is complete, because their layouts mix rows.

import type { Readback } from '../compute/compute-device.ts'
import { blockWords } from '../kernels/block-codes.ts'
import { BLOCK_FLAG_WORDS, blockKernel } from '../kernels/quantize-block.ts'
import { MATMUL_NBITS_BLOCKS } from '../tensor/model.ts'
import type { EncodePass } from './encode-pass.ts'
import { asWordView, clear, type Lane, run } from './lane.ts'
import type { OutputFiles } from './output-files.ts'
import type { Piece, Span } from './pieces.ts'
import type { PrunedPiece } from './prune.ts'
import { blockTable } from './segment-tables.ts'
import { type BlockEncode, blocksPerRow, type TensorWork } from './tensor-work.ts'
import { waitForAll } from './wait-for-all.ts'
import { bytesOf, packZeroPointColumns, packZeroPointRows, writePart } from './write-parts.ts'

/** Shrink factors 1, 0.95, ... 0.6 that `clip: mse` tries for a block; below 0.6 clipping never won on real weights. */
export const BLOCK_SHRINK_COUNT = 9

export function shrinkCount(block: BlockEncode): number {
  return block.clip.kind === 'mse' ? BLOCK_SHRINK_COUNT : 1
}

/** The blocks of a span: how many, and the tensor's index of the first. */
export function spanBlocks(span: Span, block: BlockEncode): { first: number; count: number } {
  const { k } = block.matrix
  const perRow = blocksPerRow(block)
  const row = Math.floor(span.first / k)
  const within = (span.first - row * k) / block.blockSize
  const rows = span.count / k
  const count = Number.isInteger(rows) ? rows * perRow : Math.ceil(span.count / block.blockSize)
  return { first: row * perRow + within, count }
}

export async function encodeBlocks(
  pass: EncodePass,
  lane: Lane,
  piece: Piece,
  { values, commands, readbacks }: PrunedPiece,
): Promise<void> {
  const block = piece.spans[0]?.work.block
  if (block === null || block === undefined) return
  let total = 0
  const spans = piece.spans.map((span) => {
    // Settings are the group's, the matrix is each tensor's own.
    const blocks = spanBlocks(span, span.work.block ?? block)
    const entry = { span, blocks, blockBase: total }
    total += blocks.count
    return entry
  })
  const { subgroups } = lane.device.tuning
  const shrinks = shrinkCount(block)
  const kernel = (aligned: boolean) =>
    blockKernel(block.bits, block.blockSize, !block.symmetric, shrinks, { aligned, subgroups })
  const leastLanes = kernel(true).subgroups ? 8 : 1
  const table = blockTable(lane, spans, (span) => span.work.block?.matrix.k ?? span.count, block.blockSize, leastLanes)
  const words = blockWords(block.bits, block.blockSize)
  const packed = lane.buffer('out', total * words * 4)
  const scales = lane.buffer('scales', total * 4)
  const zeroPoints = lane.buffer('zero points', total * 4)
  const flagBytes = spans.length * BLOCK_FLAG_WORDS * 4
  const flags = lane.buffer('flags', flagBytes)
  commands.push(
    clear(flags, flagBytes),
    run(
      kernel(table.aligned),
      [values, table.buffer, packed, scales, zeroPoints, flags],
      Uint32Array.of(table.count, table.lanes, block.bits, block.blockSize, block.symmetric ? 0 : 1, shrinks, 0, 0),
      table.workgroups,
      piece.elements * 4,
    ),
  )
  readbacks.push(
    flagReadback(
      flags,
      spans.map(({ span }) => span.work),
    ),
    {
      buffer: packed,
      offsetBytes: 0,
      sizeBytes: total * words * 4,
      consume: (view) => writeEach(pass.output, spans, 'values', words * 4, view),
    },
    {
      buffer: scales,
      offsetBytes: 0,
      sizeBytes: total * 4,
      consume: (view) => writeEach(pass.output, spans, 'scale', 4, view),
    },
  )
  if (!block.symmetric) {
    readbacks.push({
      buffer: zeroPoints,
      offsetBytes: 0,
      sizeBytes: total * 4,
      consume(view) {
        const codes = asWordView(view)
        for (const { span, blocks, blockBase } of spans) {
          takeZeroPoints(span.work, blocks.first, codes.subarray(blockBase, blockBase + blocks.count))
        }
      },
    })
  }
  await lane.submit(commands, readbacks)
  for (const { span } of spans) {
    span.work.piecesLeft--
    if (span.work.piecesLeft === 0) writeZeroPoints(pass.output, span.work)
  }
}

async function writeEach(
  output: OutputFiles,
  spans: { span: Span; blocks: { first: number; count: number }; blockBase: number }[],
  part: 'values' | 'scale',
  blockBytes: number,
  view: Uint8Array,
): Promise<void> {
  const pending: Promise<void>[] = []
  for (const { span, blocks, blockBase } of spans) {
    const bytes = bytesOf(view, blockBase * blockBytes, blocks.count * blockBytes)
    const writing = writePart(output, span.work, part, blocks.first * blockBytes, bytes)
    if (writing !== undefined) pending.push(writing)
  }
  if (pending.length > 0) await waitForAll(pending)
}

/** Adds non-finite counts, two words a work in order. */
export function flagReadback(flags: Readback['buffer'], works: TensorWork[]): Readback {
  return {
    buffer: flags,
    offsetBytes: 0,
    sizeBytes: works.length * BLOCK_FLAG_WORDS * 4,
    consume(view) {
      const words = asWordView(view)
      for (const [index, work] of works.entries()) work.nonFinite += words[index * BLOCK_FLAG_WORDS] ?? 0
    },
  }
}

/** Keeps the codes of blocks [first, first + codes.length) until the tensor is complete. */
export function takeZeroPoints(work: TensorWork, first: number, codes: Uint32Array): void {
  const { block } = work
  if (block === null) return
  work.zeroPoints ??= new Uint8Array(block.matrix.n * blocksPerRow(block))
  work.zeroPoints.set(codes, first)
}

/** Packs and writes the zero points of a complete tensor; symmetric ones are all the middle code. */
export function writeZeroPoints(output: OutputFiles, work: TensorWork): void {
  const { block } = work
  if (block === null || !work.places.has('zero_point')) return
  const { n } = block.matrix
  const perRow = blocksPerRow(block)
  const codes = work.zeroPoints ?? new Uint8Array(n * perRow).fill(2 ** (block.bits - 1))
  work.zeroPoints = null
  const layout = block.blocks ?? MATMUL_NBITS_BLOCKS
  const bytes =
    layout.zeroPoints === 'row-bytes'
      ? packZeroPointRows(codes, n, perRow, block.bits)
      : packZeroPointColumns(codes, n, perRow, block.bits)
  const writing = writePart(output, work, 'zero_point', 0, bytes)
  if (writing !== undefined) output.defer(writing)
}
