// The commands that compare one piece with its artifact, by storage form: the artifact's bytes are read back, uploaded beside the
// original chunk and dequantized by a compare kernel. Entry: compareFloats, compareScaled, compareBlocks.

import type { Command, DeviceBuffer } from '../compute/compute-device.ts'
import { blockWords } from '../kernels/block-codes.ts'
import { COMPARE_SUM_WORDS, compareInvocations } from '../kernels/compare.ts'
import { compareBlock } from '../kernels/compare-block.ts'
import { compareFloat } from '../kernels/compare-float.ts'
import { COMPARE_INT8_SLOT_WORDS, compareInt8, writeCompareInt8Slot } from '../kernels/compare-int8.ts'
import { workgroupsFor } from '../kernels/kernel-support.ts'
import type { ArtifactParts } from './artifact-parts.ts'
import { channelWindows } from './channel-window.ts'
import { spanBlocks } from './encode-blocks.ts'
import { asByteView, type Lane, run, wholeWords } from './lane.ts'
import type { Piece, Span } from './pieces.ts'
import { scaledForm } from './scaled-parameters.ts'
import type { SegmentTable } from './segment-tables.ts'
import { blockCount } from './transpose-accumulators.ts'
import { waitForAll } from './wait-for-all.ts'
import { unpackNibbles } from './write-parts.ts'

/** Elements that one invocation of a compare kernel sums in f32: few enough that rounding does not show in a report. */
const ELEMENTS_PER_INVOCATION = 1024
/** Invocations whose sums fill a slice that starts on the binding alignment of 256 bytes. */
const SUM_ALIGNMENT = 16
/** Blocks whose codes, scales and zero points all fill whole multiples of 256 bytes. */
const BLOCK_ALIGNMENT = 64

/** Where each span's invocations write their sums. */
export interface SumRange {
  first: number
  count: number
}

/** Commands that compare a piece, and where their sums are. */
export interface Compared {
  commands: Command[]
  sums: DeviceBuffer
  ranges: SumRange[]
  invocations: number
}

export function sumLayout(piece: Piece): { ranges: SumRange[]; invocations: number } {
  let invocations = 0
  const ranges = piece.spans.map(({ count: elements }) => {
    const count = compareInvocations(elements, ELEMENTS_PER_INVOCATION)
    const range = { first: invocations, count }
    invocations += Math.ceil(count / SUM_ALIGNMENT) * SUM_ALIGNMENT
    return range
  })
  return { ranges, invocations }
}

export function sliceOfSums(buffer: DeviceBuffer, range: SumRange | undefined) {
  const { first, count } = range ?? { first: 0, count: 1 }
  return { buffer, offsetBytes: first * COMPARE_SUM_WORDS * 4, sizeBytes: count * COMPARE_SUM_WORDS * 4 }
}

export async function compareFloats(
  parts: ArtifactParts,
  lane: Lane,
  piece: Piece,
  table: SegmentTable,
  stats: DeviceBuffer,
): Promise<Compared> {
  const program = piece.spans[0]?.work.program
  const width = program === 'dense' ? 4 : 2
  const words = lane.scratch('artifact', Math.ceil((piece.elements * width) / 4) + 4)
  const bytes = asByteView(words)
  await waitForAll(
    piece.spans.map((span) =>
      parts.read(
        span.work,
        'values',
        span.first * width,
        bytes.subarray(span.start * width, (span.start + span.count) * width),
      ),
    ),
  )
  const artifact = lane.upload('artifact', words.subarray(0, Math.ceil((piece.elements * width) / 4)))
  const invocations = table.count * table.lanes
  const sums = lane.buffer('sums', invocations * COMPARE_SUM_WORDS * 4)
  const ranges = piece.spans.map((_span, index) => {
    const first = (table.rowOfSpan[index] ?? 0) * table.lanes
    return { first, count: (table.rowOfSpan[index + 1] ?? 0) * table.lanes - first }
  })
  const command = run(
    compareFloat,
    [lane.values, artifact, table.buffer, stats, sums],
    Uint32Array.of(table.count, table.lanes, width * 8, program === 'bfloat16' ? 1 : 0),
    table.workgroups,
    piece.elements * (4 + width),
  )
  return { commands: [command], sums, ranges, invocations }
}

export async function compareScaled(
  parts: ArtifactParts,
  lane: Lane,
  piece: Piece,
  stats: DeviceBuffer,
): Promise<Compared> {
  const { windows, slots } = channelWindows(piece)
  const words = lane.scratch('artifact', Math.ceil(piece.elements / 4) + 4)
  const bytes = asByteView(words)
  const table = lane.scratch('compare slots', slots * COMPARE_INT8_SLOT_WORDS)
  await waitForAll(
    windows.map(async ({ span, channelFirst, channels, slotBase }) => {
      await readCodes(parts, span, bytes.subarray(span.start, span.start + span.count))
      const { scale, zeroPoint } = await parts.scales(span.work)
      for (let channel = 0; channel < channels; channel++) {
        const from = channelFirst + channel
        writeCompareInt8Slot(table, slotBase + channel, scale[from] ?? 0, zeroPoint[from] ?? 0)
      }
    }),
  )
  const artifact = lane.upload('artifact', words.subarray(0, Math.ceil(piece.elements / 4)))
  const slotBuffer = lane.upload('compare slots', table.subarray(0, slots * COMPARE_INT8_SLOT_WORDS))
  const { ranges, invocations } = sumLayout(piece)
  const sums = lane.buffer('sums', invocations * COMPARE_SUM_WORDS * 4)
  const commands = windows.map(({ span, inner, channels, firstElement, slotBase }, index) => {
    const { encode } = span.work.plan
    const signed = encode.kind === 'scaled-int' && encode.symmetric ? 1 : 0
    return run(
      compareInt8,
      [
        { buffer: lane.values, offsetBytes: span.start * 4, sizeBytes: span.count * 4 },
        { buffer: artifact, offsetBytes: span.start, sizeBytes: wholeWords(span.count) },
        {
          buffer: slotBuffer,
          offsetBytes: slotBase * COMPARE_INT8_SLOT_WORDS * 4,
          sizeBytes: channels * COMPARE_INT8_SLOT_WORDS * 4,
        },
        stats,
        sliceOfSums(sums, ranges[index]),
      ],
      Uint32Array.of(span.count, inner, channels, firstElement, signed, index, ELEMENTS_PER_INVOCATION, 0),
      workgroupsFor(ranges[index]?.count ?? 1),
      span.count * 5,
    )
  })
  return { commands, sums, ranges, invocations }
}

async function readCodes(parts: ArtifactParts, span: Span, into: Uint8Array): Promise<void> {
  const { bits, symmetric } = scaledForm(span.work.plan.encode)
  if (bits === 8) return parts.read(span.work, 'values', span.first, into)
  const packed = new Uint8Array(Math.ceil(span.count / 2))
  await parts.read(span.work, 'values', span.first / 2, packed)
  into.set(unpackNibbles(packed, span.count, symmetric))
}

export async function compareBlocks(
  parts: ArtifactParts,
  lane: Lane,
  piece: Piece,
  stats: DeviceBuffer,
): Promise<Compared> {
  let total = 0
  const spans = piece.spans.flatMap((span, index) => {
    const { block } = span.work
    if (block === null) return []
    const blocks = span.whole ? { first: 0, count: blockCount(block) } : spanBlocks(span, block)
    const entry = { span, block, blocks, base: total, index }
    total += Math.ceil(blocks.count / BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT
    return [entry]
  })
  const [head] = spans
  if (head === undefined) throw new TypeError('a block piece without blocks')
  const words = blockWords(head.block.bits, head.block.blockSize)
  const codes = lane.scratch('artifact', total * words)
  const scales = lane.scratch('artifact scales', total)
  const zeroPoints = lane.scratch('artifact zero points', total)
  await waitForAll(
    spans.map(async ({ span, blocks, base }) => {
      const { first, count } = blocks
      const codeBytes = asByteView(codes.subarray(base * words, (base + count) * words))
      await parts.read(span.work, 'values', first * words * 4, codeBytes)
      await parts.read(span.work, 'scale', first * 4, asByteView(scales.subarray(base, base + count)))
      const points = await parts.blockZeroPoints(span.work)
      zeroPoints.set(points.subarray(first, first + count), base)
    }),
  )
  const buffers = [
    lane.upload('artifact', codes.subarray(0, total * words)),
    lane.upload('artifact scales', scales.subarray(0, total)),
    lane.upload('artifact zero points', zeroPoints.subarray(0, total)),
  ] as const
  const { ranges, invocations } = sumLayout(piece)
  const sums = lane.buffer('sums', invocations * COMPARE_SUM_WORDS * 4)
  const commands = spans.map(({ span, blocks, base, index }) => {
    const slice = (buffer: DeviceBuffer, wordsPerBlock: number) => ({
      buffer,
      offsetBytes: base * wordsPerBlock * 4,
      sizeBytes: blocks.count * wordsPerBlock * 4,
    })
    const slices = [slice(buffers[0], words), slice(buffers[1], 1), slice(buffers[2], 1)] as const
    return compareBlockCommand(lane, span, index, slices, blocks.first, stats, sliceOfSums(sums, ranges[index]))
  })
  return { commands, sums, ranges, invocations }
}

type Slice = DeviceBuffer | { buffer: DeviceBuffer; offsetBytes: number; sizeBytes: number }

export function compareBlockCommand(
  lane: Lane,
  span: Span,
  slot: number,
  packed: readonly [Slice, Slice, Slice],
  firstBlock: number,
  stats: DeviceBuffer,
  sums: Slice,
): Command {
  const { block } = span.work
  if (block === null) throw new TypeError(`"${span.work.name}" is not block-packed`)
  const { k, n, order } = block.matrix
  return run(
    compareBlock,
    [
      { buffer: lane.values, offsetBytes: span.start * 4, sizeBytes: span.count * 4 },
      packed[0],
      packed[1],
      packed[2],
      stats,
      sums,
    ],
    Uint32Array.of(
      span.count,
      span.first,
      k,
      n,
      order === 'kn' ? 1 : 0,
      block.bits,
      block.blockSize,
      slot,
      ELEMENTS_PER_INVOCATION,
      firstBlock,
      0,
      0,
    ),
    workgroupsFor(compareInvocations(span.count, ELEMENTS_PER_INVOCATION)),
    span.count * 5,
  )
}
