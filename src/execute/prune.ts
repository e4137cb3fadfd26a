// Pruning inside a piece, before any other kernel sees the values. Entry: pruneCommands.

import type { Command, DeviceBuffer, Readback } from '../compute/compute-device.ts'
import { PRUNE_ZERO_WORDS, pruneThreshold } from '../kernels/prune-threshold.ts'
import { asWordView, clear, type Lane, run } from './lane.ts'
import type { Piece } from './pieces.ts'
import { flatTable } from './segment-tables.ts'

export interface PrunedPiece {
  /** What the kernels that follow read: the lane's chunk where nothing is pruned, a buffer in the same order otherwise. */
  values: DeviceBuffer
  commands: Command[]
  /** Adds the zeros of each tensor to its work; for the pass that writes (a calibration pass would count them twice). */
  readbacks: Readback[]
}

export function pruneCommands(lane: Lane, piece: Piece): PrunedPiece {
  if (!piece.spans.some((span) => span.work.pruneBits !== null)) {
    return { values: lane.values, commands: [], readbacks: [] }
  }
  const table = flatTable(lane, piece, undefined, undefined, 'prune segments')
  const { spans } = piece
  const thresholds = lane.scratch('thresholds', spans.length)
  // Pruned tensors and others never share a piece (see groupOf in pieces.ts), so every span has a threshold.
  for (const [index, span] of spans.entries()) thresholds[index] = span.work.pruneBits ?? 0
  const zeroBytes = spans.length * PRUNE_ZERO_WORDS * 4
  const zeros = lane.buffer('zeros', zeroBytes)
  const values = lane.buffer('pruned', wholeVec4s(piece.elements))
  return {
    values,
    commands: [
      clear(zeros, zeroBytes),
      run(
        pruneThreshold,
        [lane.values, table.buffer, lane.upload('thresholds', thresholds.subarray(0, spans.length)), values, zeros],
        Uint32Array.of(table.count, table.lanes, 0, 0),
        table.workgroups,
        piece.elements * 4,
      ),
    ],
    readbacks: [
      {
        buffer: zeros,
        offsetBytes: 0,
        sizeBytes: zeroBytes,
        consume(view) {
          const counts = asWordView(view)
          for (const [index, span] of spans.entries()) {
            span.work.zerosAfter += counts[index * PRUNE_ZERO_WORDS + 1] ?? 0
          }
        },
      },
    ],
  }
}

/** Bytes of f32 elements, rounded up to what kernels load and store at a time. */
function wholeVec4s(elements: number): number {
  return Math.ceil(elements / 4) * 16
}
