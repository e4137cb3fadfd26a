// Counting passes: magnitudes of many tensors at one histogram level, magnitudes per channel of one tensor, and linear bins of
// one tensor. Entry: countMagnitudes, countChannelMagnitudes, countLinear. Values are pruned first where the work says so.

import type { Command, DeviceBuffer } from '../compute/compute-device.ts'
import { floatBits } from '../kernels/float-bits.ts'
import { HISTOGRAM_BINS, HISTOGRAM_LEVELS, histogram } from '../kernels/histogram.ts'
import { histogramLinear } from '../kernels/histogram-linear.ts'
import { lanesForCounting } from '../kernels/segments.ts'
import { asWordView, clear, type Lane, type PiecePass, run, runPieces } from './lane.ts'
import { cutPieces, type Piece } from './pieces.ts'
import { pruneCommands } from './prune.ts'
import { flatTable } from './segment-tables.ts'
import type { TensorWork } from './tensor-work.ts'

/** Distributions counted in one piece: 2 MiB of counters. */
const MAX_SLOTS = 256

export interface CountingContext extends PiecePass {
  /** Called with the bytes of each piece read. */
  onBytes(bytes: number, tensor: string): void
}

export interface MagnitudeCount {
  works: readonly TensorWork[]
  /** Bin of the level before, where this count looks inside; ignored at level 0. */
  prefix: number
  /** Added to; exact up to 2^53. */
  counts: Float64Array
}

/** Counts |w| at a level for several distributions (each one or more tensors) in one pass over the data. */
export async function countMagnitudes(
  context: CountingContext,
  level: 0 | 1 | 2,
  distributions: readonly MagnitudeCount[],
): Promise<void> {
  const owner = new Map<TensorWork, MagnitudeCount>()
  for (const distribution of distributions) for (const work of distribution.works) owner.set(work, distribution)
  const [firstLane] = context.lanes
  if (owner.size === 0 || firstLane === undefined) return
  const pieces = cutPieces([...owner.keys()], firstLane.device.tuning.chunkBytes, 'flat', MAX_SLOTS)
  await runPieces(context, pieces, async (lane, piece) => {
    const pruned = pruneCommands(lane, piece)
    const slots: MagnitudeCount[] = []
    const slotOf = piece.spans.map(({ work }) => {
      const distribution = owner.get(work) as MagnitudeCount
      const known = slots.indexOf(distribution)
      return known >= 0 ? known : slots.push(distribution) - 1
    })
    const prefixes = Uint32Array.from(slots, (slot) => slot.prefix)
    const table = flatTable(lane, piece, (_span, index) => slotOf[index] ?? 0, undefined, 'segments', lanesForCounting)
    await countInto(lane, piece, table, pruned, level, prefixes, [0, 0, 0, slots.length], (counts) => {
      for (const [index, slot] of slots.entries()) {
        const base = index * HISTOGRAM_BINS
        for (let bin = 0; bin < HISTOGRAM_BINS; bin++) {
          const count = counts[base + bin] ?? 0
          if (count > 0) slot.counts[bin] = (slot.counts[bin] ?? 0) + count
        }
      }
    })
    context.onBytes(pieceBytes(piece), piece.spans[0]?.work.name ?? '')
  })
}

/**
 * Counts |w| at a level for channels [first, first + prefixes.length) of one tensor; `counts` has 2048 words a channel and is
 * added to.
 */
export async function countChannelMagnitudes(
  context: CountingContext,
  work: TensorWork,
  level: 0 | 1 | 2,
  first: number,
  prefixes: Uint32Array,
  counts: Uint32Array,
): Promise<void> {
  const { inner, channels } = work.geometry ?? { inner: work.elements, channels: 1 }
  const [firstLane] = context.lanes
  if (firstLane === undefined) return
  const pieces = cutPieces([work], firstLane.device.tuning.chunkBytes, 'flat')
  const wanted = pieces.filter((piece) => touches(piece, inner, channels, first, prefixes.length))
  const period = inner * channels
  await runPieces(context, wanted, async (lane, piece) => {
    // Pruning is done once; the windows that follow read what it left.
    const { values, ...pruned } = pruneCommands(lane, piece)
    let { commands } = pruned
    for (let at = 0; at < prefixes.length; at += MAX_SLOTS) {
      const slots = Math.min(MAX_SLOTS, prefixes.length - at)
      if (!touches(piece, inner, channels, first + at, slots)) continue
      // The index inside one period says the channel, and stays inside 32 bits where the tensor's own index may not.
      const table = flatTable(lane, piece, undefined, (span) => span.first % period)
      const window = [inner, channels, first + at, slots] as const
      await countInto(
        lane,
        piece,
        table,
        { values, commands },
        level,
        prefixes.subarray(at, at + slots),
        window,
        (found) => {
          const target = counts.subarray(at * HISTOGRAM_BINS, (at + slots) * HISTOGRAM_BINS)
          for (let i = 0; i < target.length; i++) target[i] = (target[i] ?? 0) + (found[i] ?? 0)
        },
      )
      commands = []
    }
    context.onBytes(pieceBytes(piece), work.name)
  })
}

/** False when the channels of a piece are known to lie outside of the window. */
function touches(piece: Piece, inner: number, channels: number, first: number, count: number): boolean {
  const [span] = piece.spans
  if (span === undefined || inner * channels !== span.work.elements) return true
  return span.first < (first + count) * inner && span.first + span.count > first * inner
}

async function countInto(
  lane: Lane,
  piece: Piece,
  table: ReturnType<typeof flatTable>,
  { values, commands }: { values: DeviceBuffer; commands: Command[] },
  level: 0 | 1 | 2,
  prefixes: Uint32Array,
  window: readonly [number, number, number, number],
  consume: (counts: Uint32Array) => void,
): Promise<void> {
  const countBytes = prefixes.length * HISTOGRAM_BINS * 4
  const counts = lane.buffer('counts', countBytes)
  const { shift, prefixShift } = HISTOGRAM_LEVELS[level]
  commands.push(
    clear(counts, countBytes),
    run(
      histogram,
      [values, table.buffer, lane.upload('prefixes', prefixes), counts],
      Uint32Array.of(table.count, table.lanes, shift, prefixShift, ...window),
      table.workgroups,
      piece.elements * 4,
    ),
  )
  await lane.submit(commands, [
    { buffer: counts, offsetBytes: 0, sizeBytes: countBytes, consume: (view) => consume(asWordView(view)) },
  ])
}

/** Counts one tensor into linear bins; `edges` ascending, one more than bins. */
export async function countLinear(
  context: CountingContext,
  work: TensorWork,
  edges: Float32Array,
): Promise<Float64Array> {
  const bins = edges.length - 1
  const total = new Float64Array(bins)
  const [firstLane] = context.lanes
  if (firstLane === undefined) return total
  const range = (edges[bins] ?? 0) - (edges[0] ?? 0)
  const inverseWidth = Number.isFinite(range) && range > 0 ? Math.fround(bins / range) : 0
  const pieces = cutPieces([work], firstLane.device.tuning.chunkBytes, 'flat')
  await runPieces(context, pieces, async (lane, piece) => {
    const { values, commands } = pruneCommands(lane, piece)
    const table = flatTable(lane, piece)
    const counts = lane.buffer('counts', bins * 4)
    const edgeWords = new Uint32Array(edges.buffer, edges.byteOffset, edges.length)
    commands.push(
      clear(counts, bins * 4),
      run(
        histogramLinear,
        [values, table.buffer, lane.upload('edges', edgeWords), counts],
        Uint32Array.of(table.count, table.lanes, bins, floatBits(inverseWidth)),
        table.workgroups,
        piece.elements * 4,
      ),
    )
    await lane.submit(commands, [
      {
        buffer: counts,
        offsetBytes: 0,
        sizeBytes: bins * 4,
        consume(view) {
          const found = asWordView(view)
          for (let bin = 0; bin < bins; bin++) total[bin] = (total[bin] ?? 0) + (found[bin] ?? 0)
        },
      },
    ])
    context.onBytes(pieceBytes(piece), work.name)
  })
  return total
}

export function pieceBytes(piece: Piece): number {
  return piece.spans.reduce((sum, span) => sum + span.count * 4, 0)
}
