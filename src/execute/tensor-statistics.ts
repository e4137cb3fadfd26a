// Statistics per channel of whole tensors, in a pass of their own: for tensors larger than a chunk. Entry: findStatistics. A lane's
// slots gather the statistics of all its pieces of a tensor on the device and are read back once: for a matrix of many columns they are
// megabytes.

import { STATISTICS_WORDS } from '../kernels/statistics.ts'
import { type ChannelWindow, channelWindows, mergeWindow, statisticsCommands } from './channel-window.ts'
import { takeStatistics } from './encode.ts'
import { type CountingContext, pieceBytes } from './histogram-pass.ts'
import { asWordView, type Lane, runPieces } from './lane.ts'
import { cutPieces } from './pieces.ts'
import { pruneCommands } from './prune.ts'
import type { TensorWork } from './tensor-work.ts'
import { waitForAll } from './wait-for-all.ts'

/** Statistics per channel of whole tensors, merged over their pieces; sets `scaled` and `nonFinite`. */
export async function findStatistics(
  context: CountingContext,
  works: readonly TensorWork[],
): Promise<Map<TensorWork, Uint32Array>> {
  const merged = new Map(
    works.map((work) => [work, new Uint32Array((work.geometry?.channels ?? 1) * STATISTICS_WORDS)]),
  )
  const [firstLane] = context.lanes
  if (works.length === 0 || firstLane === undefined) return merged
  const pieces = cutPieces(works, firstLane.device.tuning.chunkBytes, 'encode')
  /** What a lane's `stats` buffer has gathered and nobody has read yet. */
  const gathered = new Map<Lane, { windows: ChannelWindow[]; slots: number }>()
  const readGathered = async (lane: Lane): Promise<void> => {
    const found = gathered.get(lane)
    gathered.delete(lane)
    if (found === undefined) return
    const sizeBytes = found.slots * STATISTICS_WORDS * 4
    const consume = (view: Uint8Array) => {
      const words = asWordView(view)
      for (const window of found.windows) {
        const target = merged.get(window.span.work)
        if (target !== undefined) mergeWindow(target, window, words)
      }
    }
    await lane.submit([], [{ buffer: lane.buffer('stats', sizeBytes), offsetBytes: 0, sizeBytes, consume }])
  }
  await runPieces(context, pieces, async (lane, piece) => {
    const { windows, slots } = channelWindows(piece)
    const merge = haveSameSlots(gathered.get(lane)?.windows ?? [], windows)
    if (!merge) await readGathered(lane)
    gathered.set(lane, { windows, slots })
    const { values, commands } = pruneCommands(lane, piece)
    const [, counting] = statisticsCommands(lane, values, windows, slots, merge)
    await lane.submit([...commands, ...counting])
    context.onBytes(pieceBytes(piece), piece.spans[0]?.work.name ?? '')
  })
  await waitForAll(context.lanes.map(readGathered))
  for (const [work, stats] of merged) takeStatistics(work, stats, 0)
  return merged
}

/** Whether slots mean the same channels of the same tensors, so that the statistics of one piece may be added to another's. */
function haveSameSlots(left: readonly ChannelWindow[], right: readonly ChannelWindow[]): boolean {
  return (
    left.length === right.length &&
    left.every(({ span, channelFirst, channels }, index) => {
      const other = right[index]
      return span.work === other?.span.work && channelFirst === other.channelFirst && channels === other.channels
    })
  )
}
