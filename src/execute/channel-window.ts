// Which channels a span of a scaled tensor touches, and its statistics per channel. Entry: channelWindow, statisticsCommands.
// Statistics slots of a piece: each span gets a run of slots, one a channel of its window (src/kernels/statistics.ts).

import type { Command, DeviceBuffer } from '../compute/compute-device.ts'
import { MOMENT_WORDS, STATISTICS_WORDS, statistics } from '../kernels/statistics.ts'
import { rowsPerItem, statisticsColumns, statisticsColumnsWorkgroups } from '../kernels/statistics-columns.ts'
import { clear, type Lane, run } from './lane.ts'
import type { Piece, Span } from './pieces.ts'
import { channelTable } from './segment-tables.ts'

export interface ChannelWindow {
  span: Span
  inner: number
  /** Channels of the window; element i of the span belongs to window channel ((firstElement + i) / inner) % channels. */
  channels: number
  firstElement: number
  /** Channel of the tensor that window channel 0 is. */
  channelFirst: number
  /** First slot of the window in the piece's slot tables; a multiple of 16, so that slices of them are aligned. */
  slotBase: number
}

/** The smallest slot is 16 bytes (compare-int8), slices start on multiples of 256. */
const SLOT_ALIGNMENT = 16

/** The windows of a piece's spans, and how many slots they take together. */
export function channelWindows(piece: Piece): { windows: ChannelWindow[]; slots: number } {
  let slots = 0
  const windows = piece.spans.map((span) => {
    const window = channelWindow(span, slots)
    slots += Math.ceil(window.channels / SLOT_ALIGNMENT) * SLOT_ALIGNMENT
    return window
  })
  return { windows, slots }
}

function channelWindow(span: Span, slotBase: number): ChannelWindow {
  const { inner, channels } = span.work.geometry ?? { inner: span.work.elements, channels: 1 }
  const period = inner * channels
  if (period === span.work.elements) {
    // Channels lie one after the other, so a part of the tensor touches only some of them.
    const channelFirst = Math.floor(span.first / inner)
    const channelEnd = Math.ceil((span.first + span.count) / inner)
    return {
      span,
      inner,
      channels: channelEnd - channelFirst,
      firstElement: span.first - channelFirst * inner,
      channelFirst,
      slotBase,
    }
  }
  return { span, inner, channels, firstElement: span.first % period, channelFirst: 0, slotBase }
}

/**
 * Commands that fill `stats` with the statistics of every window; `merge` adds them to what is there. inner 1 uses the column kernel;
 * a span is then whole rows or a part of one row, see cutPieces.
 */
export function statisticsCommands(
  lane: Lane,
  values: DeviceBuffer,
  windows: ChannelWindow[],
  slots: number,
  merge = false,
): [DeviceBuffer, Command[]] {
  const stats = lane.buffer('stats', Math.max(1, slots) * STATISTICS_WORDS * 4)
  const commands: Command[] = merge ? [] : [clear(stats, Math.max(1, slots) * STATISTICS_WORDS * 4)]
  const rowWise = windows.filter((window) => window.inner > 1)
  if (rowWise.length > 0) {
    const table = channelTable(lane, rowWise)
    const elements = rowWise.reduce((sum, window) => sum + window.span.count, 0)
    commands.push(
      run(
        statistics,
        [values, table.buffer, stats, lane.buffer('moments', table.count * table.lanes * MOMENT_WORDS * 4)],
        Uint32Array.of(table.count, table.lanes, 0, 0),
        table.workgroups,
        elements * 4,
      ),
    )
  }
  for (const { span, inner, channels, firstElement, slotBase } of windows) {
    if (inner > 1) continue
    const rows = span.count >= channels ? Math.floor(span.count / channels) : 1
    const cols = rows === 1 ? span.count : channels
    const rowsEach = rowsPerItem(rows, cols)
    commands.push(
      run(
        statisticsColumns,
        [{ buffer: values, offsetBytes: span.start * 4, sizeBytes: span.count * 4 }, stats],
        Uint32Array.of(rows, cols, slotBase + (rows === 1 ? firstElement % channels : 0), rowsEach),
        statisticsColumnsWorkgroups(rows, cols, rowsEach),
        span.count * 4,
      ),
    )
  }
  return [stats, commands]
}

/** Merges what a piece's slots `found` of a window into `target`, the slots of the whole tensor. */
export function mergeWindow(
  target: Uint32Array,
  { channelFirst, channels, slotBase }: ChannelWindow,
  found: Uint32Array,
): void {
  mergeStatistics(target, channelFirst, found, slotBase, channels)
}

/** Merges `count` slots of `source` into `target`: maxima and sums, as the kernel's atomics do. */
export function mergeStatistics(
  target: Uint32Array,
  targetSlot: number,
  source: Uint32Array,
  sourceSlot: number,
  count: number,
): void {
  let from = sourceSlot * STATISTICS_WORDS
  const end = (targetSlot + count) * STATISTICS_WORDS
  // Written out: a chunk of a wide matrix has tens of thousands of these words.
  for (let at = targetSlot * STATISTICS_WORDS; at < end; at += STATISTICS_WORDS, from += STATISTICS_WORDS) {
    if (source[from]! > target[at]!) target[at] = source[from]!
    if (source[from + 1]! > target[at + 1]!) target[at + 1] = source[from + 1]!
    if (source[from + 2]! > target[at + 2]!) target[at + 2] = source[from + 2]!
    target[at + 3]! += source[from + 3]!
    target[at + 4]! += source[from + 4]!
  }
}

/** Non-finite values in slots [first, first + count). */
export function countNonFinite(stats: Uint32Array, first: number, count: number): number {
  let total = 0
  for (let slot = first; slot < first + count; slot++) total += stats[slot * STATISTICS_WORDS + 4] ?? 0
  return total
}
