// Dequantizes the artifact and compares it with the original, tensor by tensor, and takes the original's statistics in the
// same read. Entry: comparePiece; compareTransposed for block-packed weights stored as [K,N]. The artifact's bytes come from
// its files, so what is measured is what was written.

import type { Command, DeviceBuffer, Readback } from '../compute/compute-device.ts'
import { addCompareSums, COMPARE_STAT_WORDS, COMPARE_SUM_WORDS, type CompareSums, noSums } from '../kernels/compare.ts'
import { bitsFloat } from '../kernels/float-bits.ts'
import { MOMENT_WORDS, readStatistics, STATISTICS_WORDS, statistics, sumMoments } from '../kernels/statistics.ts'
import type { ModelReader } from '../tensor/model.ts'
import type { ArtifactParts } from './artifact-parts.ts'
import {
  type Compared,
  compareBlockCommand,
  compareBlocks,
  compareFloats,
  compareScaled,
  sliceOfSums,
  sumLayout,
} from './compare-commands.ts'
import { asWordView, clear, type Lane, run } from './lane.ts'
import type { Piece } from './pieces.ts'
import { flatTable, type SegmentTable } from './segment-tables.ts'
import type { TensorWork } from './tensor-work.ts'

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

export async function comparePiece(pass: ComparePass, lane: Lane, piece: Piece): Promise<void> {
  const program = piece.spans[0]?.work.program
  if (program === undefined) return
  const table = flatTable(lane, piece)
  const statBytes = piece.spans.length * COMPARE_STAT_WORDS * 4
  const stats = lane.buffer('compare stats', statBytes)
  const commands: Command[] = [clear(stats, statBytes)]
  const compared =
    program === 'scaled-tensor' || program === 'scaled-channel'
      ? await compareScaled(pass.parts, lane, piece, stats)
      : program === 'blocks' || program === 'blocks-transpose'
        ? await compareBlocks(pass.parts, lane, piece, stats)
        : await compareFloats(pass.parts, lane, piece, table, stats)
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
  compared: Omit<Compared, 'commands'>,
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
