// Dequantizes the artifact and compares it with the original, tensor by tensor, and takes the original's statistics in the
// same read. Entry: comparePiece; compareTransposed for block-packed weights stored as [K,N]. The artifact's bytes come from
// its files, so what is measured is what was written.

import type { Command, DeviceBuffer, Readback } from '../compute/compute-device.ts'
import { blockWords } from '../kernels/block-codes.ts'
import {
  addCompareSums,
  COMPARE_STAT_WORDS,
  COMPARE_SUM_WORDS,
  type CompareSums,
  compareInvocations,
  noSums,
} from '../kernels/compare.ts'
import { compareBlock } from '../kernels/compare-block.ts'
import { compareFloat } from '../kernels/compare-float.ts'
import { COMPARE_INT8_SLOT_WORDS, compareInt8, writeCompareInt8Slot } from '../kernels/compare-int8.ts'
import { bitsFloat } from '../kernels/float-bits.ts'
import { workgroupsFor } from '../kernels/kernel-support.ts'
import { MOMENT_WORDS, readStatistics, STATISTICS_WORDS, statistics, sumMoments } from '../kernels/statistics.ts'
import type { ModelReader } from '../tensor/model.ts'
import type { ArtifactParts } from './artifact-parts.ts'
import { channelWindows } from './channel-window.ts'
import { spanBlocks } from './encode-blocks.ts'
import { asByteView, asWordView, clear, type Lane, run, wholeWords } from './lane.ts'
import type { Piece, Span } from './pieces.ts'
import { scaledForm } from './scaled-parameters.ts'
import { flatTable, type SegmentTable } from './segment-tables.ts'
import type { TensorWork } from './tensor-work.ts'
import { blockCount } from './transpose-accumulators.ts'
import { unpackNibbles } from './write-parts.ts'

/** Elements that one invocation of a compare kernel sums in f32: few enough that rounding does not show in a report. */
const ELEMENTS_PER_INVOCATION = 1024
/** Invocations whose sums fill a slice that starts on the binding alignment of 256 bytes. */
const SUM_ALIGNMENT = 16
/** Blocks whose codes, scales and zero points all fill whole multiples of 256 bytes. */
const BLOCK_ALIGNMENT = 64

/** What comparing has found about one tensor so far; merged over its pieces. */
export interface Comparison {
  maxAbsError: number
  zerosBefore: number
  zerosAfter: number
  compared: number
  sums: CompareSums
  min: number
  max: number
  absMax: number
  zeros: number
  nonFinite: number
  sum: number
  sumSquares: number
}

export function newComparison(): Comparison {
  return {
    maxAbsError: 0,
    zerosBefore: 0,
    zerosAfter: 0,
    compared: 0,
    sums: noSums(),
    min: Number.POSITIVE_INFINITY,
    max: Number.NEGATIVE_INFINITY,
    absMax: 0,
    zeros: 0,
    nonFinite: 0,
    sum: 0,
    sumSquares: 0,
  }
}

export interface ComparePass {
  reader: ModelReader
  parts: ArtifactParts
  results: Map<TensorWork, Comparison>
}

/** Where each span's invocations write their sums. */
interface SumRange {
  first: number
  count: number
}

export async function comparePiece(pass: ComparePass, lane: Lane, piece: Piece): Promise<void> {
  const program = piece.spans[0]?.work.program
  if (program === undefined) return
  await lane.load(pass.reader, piece)
  const table = flatTable(lane, piece)
  const statBytes = piece.spans.length * COMPARE_STAT_WORDS * 4
  const stats = lane.buffer('compare stats', statBytes)
  const commands: Command[] = [clear(stats, statBytes)]
  const compared =
    program === 'scaled-tensor' || program === 'scaled-channel'
      ? await compareScaled(pass, lane, piece, stats)
      : program === 'blocks' || program === 'blocks-transpose'
        ? await compareBlocks(pass, lane, piece, stats)
        : await compareFloats(pass, lane, piece, table, stats)
  commands.push(...compared.commands)
  await submitComparison(pass, lane, piece, table, stats, commands, compared)
}

/** A piece of a [K,N] weight whose whole packed form is already on the device. */
export async function compareTransposed(
  pass: ComparePass,
  lane: Lane,
  piece: Piece,
  packed: { codes: DeviceBuffer; scales: DeviceBuffer; zeroPoints: DeviceBuffer },
): Promise<void> {
  const [span] = piece.spans
  if (span === undefined) return
  await lane.load(pass.reader, piece)
  const table = flatTable(lane, piece)
  const statBytes = COMPARE_STAT_WORDS * 4
  const stats = lane.buffer('compare stats', statBytes)
  const layout = sumLayout(piece)
  const sums = lane.buffer('sums', layout.invocations * COMPARE_SUM_WORDS * 4)
  const buffers = [packed.codes, packed.scales, packed.zeroPoints] as const
  const command = compareBlockCommand(lane, span, 0, buffers, 0, stats, sliceOfSums(sums, layout.ranges[0]))
  await submitComparison(pass, lane, piece, table, stats, [clear(stats, statBytes), command], { sums, ...layout })
}

async function submitComparison(
  pass: ComparePass,
  lane: Lane,
  piece: Piece,
  table: SegmentTable,
  stats: DeviceBuffer,
  commands: Command[],
  compared: { sums: DeviceBuffer; ranges: SumRange[]; invocations: number },
): Promise<void> {
  const originalBytes = piece.spans.length * STATISTICS_WORDS * 4
  const original = lane.buffer('stats', originalBytes)
  const moments = lane.buffer('moments', table.count * table.lanes * MOMENT_WORDS * 4)
  commands.push(
    clear(original, originalBytes),
    run(
      statistics,
      [lane.values, table.buffer, original, moments],
      Uint32Array.of(table.count, table.lanes, 0, 0),
      table.workgroups,
      piece.elements * 4,
    ),
  )
  const read = (buffer: DeviceBuffer, sizeBytes: number, consume: (words: Uint32Array) => void): Readback => ({
    buffer,
    offsetBytes: 0,
    sizeBytes,
    consume: (view) => consume(asWordView(view)),
  })
  const result = (index: number) => pass.results.get(piece.spans[index]?.work as TensorWork) as Comparison
  await lane.submit(commands, [
    read(stats, piece.spans.length * COMPARE_STAT_WORDS * 4, (words) => {
      for (const index of piece.spans.keys()) takeCompareStats(result(index), words, index * COMPARE_STAT_WORDS)
    }),
    read(compared.sums, compared.invocations * COMPARE_SUM_WORDS * 4, (words) => {
      const floats = new Float32Array(words.buffer, words.byteOffset, words.length)
      for (const [index, { first, count }] of compared.ranges.entries()) {
        addSums(result(index).sums, addCompareSums(floats, first, count))
      }
    }),
    read(original, originalBytes, (words) => {
      for (const index of piece.spans.keys()) takeOriginalStats(result(index), words, index)
    }),
    read(moments, table.count * table.lanes * MOMENT_WORDS * 4, (words) => {
      const floats = new Float32Array(words.buffer, words.byteOffset, words.length)
      for (const index of piece.spans.keys()) {
        const first = (table.rowOfSpan[index] ?? 0) * table.lanes
        const { sum, sumSquares } = sumMoments(floats, first, (table.rowOfSpan[index + 1] ?? 0) * table.lanes - first)
        const own = result(index)
        own.sum += sum
        own.sumSquares += sumSquares
      }
    }),
  ])
}

function takeCompareStats(own: Comparison, words: Uint32Array, base: number): void {
  own.maxAbsError = Math.max(own.maxAbsError, bitsFloat(words[base] ?? 0))
  own.zerosBefore += words[base + 1] ?? 0
  own.zerosAfter += words[base + 2] ?? 0
  own.compared += words[base + 3] ?? 0
}

function takeOriginalStats(own: Comparison, words: Uint32Array, slot: number): void {
  const found = readStatistics(words, slot)
  own.absMax = Math.max(own.absMax, found.absMax)
  own.zeros += found.zeros
  own.nonFinite += found.nonFinite
  // A slot without finite values has no minimum.
  if ((words[slot * STATISTICS_WORDS + 1] ?? 0) === 0) return
  own.min = Math.min(own.min, found.min)
  own.max = Math.max(own.max, found.max)
}

function addSums(target: CompareSums, added: CompareSums): void {
  target.squaredError += added.squaredError
  target.squaredOriginal += added.squaredOriginal
  target.squaredArtifact += added.squaredArtifact
  target.dot += added.dot
}

interface Compared {
  commands: Command[]
  sums: DeviceBuffer
  ranges: SumRange[]
  invocations: number
}

function sumLayout(piece: Piece): { ranges: SumRange[]; invocations: number } {
  let invocations = 0
  const ranges = piece.spans.map(({ count: elements }) => {
    const count = compareInvocations(elements, ELEMENTS_PER_INVOCATION)
    const range = { first: invocations, count }
    invocations += Math.ceil(count / SUM_ALIGNMENT) * SUM_ALIGNMENT
    return range
  })
  return { ranges, invocations }
}

function sliceOfSums(buffer: DeviceBuffer, range: SumRange | undefined) {
  const { first, count } = range ?? { first: 0, count: 1 }
  return { buffer, offsetBytes: first * COMPARE_SUM_WORDS * 4, sizeBytes: count * COMPARE_SUM_WORDS * 4 }
}

async function compareFloats(
  pass: ComparePass,
  lane: Lane,
  piece: Piece,
  table: SegmentTable,
  stats: DeviceBuffer,
): Promise<Compared> {
  const program = piece.spans[0]?.work.program
  const width = program === 'dense' ? 4 : 2
  const words = lane.scratch('artifact', Math.ceil((piece.elements * width) / 4) + 4)
  const bytes = asByteView(words)
  await Promise.all(
    piece.spans.map((span) =>
      pass.parts.read(
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

async function compareScaled(pass: ComparePass, lane: Lane, piece: Piece, stats: DeviceBuffer): Promise<Compared> {
  const { windows, slots } = channelWindows(piece)
  const words = lane.scratch('artifact', Math.ceil(piece.elements / 4) + 4)
  const bytes = asByteView(words)
  const table = lane.scratch('compare slots', slots * COMPARE_INT8_SLOT_WORDS)
  await Promise.all(
    windows.map(async ({ span, channelFirst, channels, slotBase }) => {
      await readCodes(pass, span, bytes.subarray(span.start, span.start + span.count))
      const { scale, zeroPoint } = await pass.parts.scales(span.work)
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

async function readCodes(pass: ComparePass, span: Span, into: Uint8Array): Promise<void> {
  const { bits, symmetric } = scaledForm(span.work.plan.encode)
  if (bits === 8) return pass.parts.read(span.work, 'values', span.first, into)
  const packed = new Uint8Array(Math.ceil(span.count / 2))
  await pass.parts.read(span.work, 'values', span.first / 2, packed)
  into.set(unpackNibbles(packed, span.count, symmetric))
}

async function compareBlocks(pass: ComparePass, lane: Lane, piece: Piece, stats: DeviceBuffer): Promise<Compared> {
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
  await Promise.all(
    spans.map(async ({ span, blocks, base }) => {
      const { first, count } = blocks
      const codeBytes = asByteView(codes.subarray(base * words, (base + count) * words))
      await pass.parts.read(span.work, 'values', first * words * 4, codeBytes)
      await pass.parts.read(span.work, 'scale', first * 4, asByteView(scales.subarray(base, base + count)))
      const points = await pass.parts.blockZeroPoints(span.work)
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

function compareBlockCommand(
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
