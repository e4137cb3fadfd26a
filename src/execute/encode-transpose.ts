// Block quantization of weights stored as [K,N] into the [N,K] order of the artifact. Entry: encodeTransposed.
// Small tensors: one dispatch a tensor into the lane's buffers. Larger ones: the whole packed tensor is gathered in device
// buffers that its pieces share (transpose-accumulators.ts), then read back and written in parts.

import type { DeviceBuffer } from '../compute/compute-device.ts'
import { blockWords } from '../kernels/block-codes.ts'
import { BLOCK_FLAG_WORDS } from '../kernels/quantize-block.ts'
import {
  transposeInTeams,
  transposeKernel,
  transposeParams,
  transposeWorkgroups,
} from '../kernels/quantize-block-transpose.ts'
import { flagReadback, shrinkCount, takeZeroPoints, writeZeroPoints } from './encode-blocks.ts'
import type { EncodePass } from './encode-pass.ts'
import { asWordView, clear, type Lane, run } from './lane.ts'
import type { Piece } from './pieces.ts'
import type { PrunedPiece } from './prune.ts'
import { type BlockEncode, blocksPerRow, type TensorWork } from './tensor-work.ts'
import { type BlockTarget, blockCount } from './transpose-accumulators.ts'
import { waitForAll } from './wait-for-all.ts'
import { bytesOf, writePart } from './write-parts.ts'

export async function encodeTransposed(pass: EncodePass, lane: Lane, piece: Piece, pruned: PrunedPiece): Promise<void> {
  const { commands, readbacks } = pruned
  const [span] = piece.spans
  const block = span?.work.block
  if (span === undefined || block === null || block === undefined) return
  const flagBytes = piece.spans.length * BLOCK_FLAG_WORDS * 4
  const flags = lane.buffer('flags', flagBytes)
  commands.push(clear(flags, flagBytes))
  readbacks.push(
    flagReadback(
      flags,
      piece.spans.map(({ work }) => work),
    ),
  )
  if (span.whole) return encodeWhole(pass, lane, piece, flags, pruned)
  const target = await pass.accumulators.target(span.work, block)
  addDispatch(lane, piece, 0, target, flags, pruned)
  await lane.submit(commands, readbacks)
  span.work.piecesLeft--
  if (span.work.piecesLeft > 0) return
  await writeTarget(pass, lane, span.work, block, target)
  pass.accumulators.release(span.work, block)
}

async function encodeWhole(
  pass: EncodePass,
  lane: Lane,
  piece: Piece,
  flags: DeviceBuffer,
  pruned: PrunedPiece,
): Promise<void> {
  const { commands, readbacks } = pruned
  let blocks = 0
  const bases = piece.spans.map(({ work }) => {
    const base = blocks
    if (work.block !== null) blocks += Math.ceil(blockCount(work.block) / 4) * 4
    return base
  })
  const block = piece.spans[0]?.work.block as BlockEncode
  const words = blockWords(block.bits, block.blockSize)
  const target: BlockTarget = {
    packed: lane.buffer('out', blocks * words * 4),
    scales: lane.buffer('scales', blocks * 4),
    zeroPoints: lane.buffer('zero points', blocks * 4),
    blockBase: 0,
  }
  for (const index of piece.spans.keys()) {
    addDispatch(lane, piece, index, { ...target, blockBase: bases[index] ?? 0 }, flags, pruned)
  }
  const write = (part: 'values' | 'scale', blockBytes: number, view: Uint8Array): Promise<void> =>
    waitForAll(
      piece.spans.map(({ work }, index) => {
        const own = work.block === null ? 0 : blockCount(work.block)
        return writePart(pass.output, work, part, 0, bytesOf(view, (bases[index] ?? 0) * blockBytes, own * blockBytes))
      }),
    )
  readbacks.push(
    {
      buffer: target.packed,
      offsetBytes: 0,
      sizeBytes: blocks * words * 4,
      consume: (view) => write('values', words * 4, view),
    },
    {
      buffer: target.scales,
      offsetBytes: 0,
      sizeBytes: blocks * 4,
      consume: (view) => write('scale', 4, view),
    },
  )
  if (!block.symmetric) {
    readbacks.push({
      buffer: target.zeroPoints,
      offsetBytes: 0,
      sizeBytes: blocks * 4,
      consume(view) {
        const codes = asWordView(view)
        for (const [index, { work }] of piece.spans.entries()) {
          const base = bases[index] ?? 0
          if (work.block !== null) takeZeroPoints(work, 0, codes.subarray(base, base + blockCount(work.block)))
        }
      },
    })
  }
  await lane.submit(commands, readbacks)
  for (const { work } of piece.spans) {
    work.piecesLeft--
    writeZeroPoints(pass.output, work)
  }
}

function addDispatch(
  lane: Lane,
  piece: Piece,
  index: number,
  target: BlockTarget,
  flags: DeviceBuffer,
  { values, commands }: PrunedPiece,
): void {
  const span = piece.spans[index]
  const block = span?.work.block
  if (span === undefined || block === null || block === undefined || span.tile === null) return
  const { tile } = span
  const perColumn = blocksPerRow(block)
  // A tile of columns writes where its first column's blocks begin.
  const blockBase = target.blockBase + tile.col * perColumn
  const params = {
    rows: tile.rows,
    n: tile.cols,
    firstBlock: tile.row / block.blockSize,
    blocksPerColumn: perColumn,
    bits: block.bits,
    blockSize: block.blockSize,
    asymmetric: !block.symmetric,
    shrinkCount: shrinkCount(block),
    valuesStart: span.start,
    packedWordBase: blockBase * blockWords(block.bits, block.blockSize),
    blockBase,
    slot: index,
  }
  const kernel = transposeKernel(params, transposeInTeams(lane.device, span.work.plan.prune !== null))
  commands.push(
    run(
      kernel,
      [values, target.packed, target.scales, target.zeroPoints, flags],
      transposeParams(params),
      transposeWorkgroups(kernel, tile.rows, tile.cols, block.blockSize),
      span.count * 4,
    ),
  )
}

/** Bytes of a packed tensor read back at a time: small beside a chunk, so that staging stays small, and written synchronously. */
const READ_BACK_BYTES = 1024 * 1024
/** Parts on their way at a time: one is written, the device copies the others. With one alone each waited for the next turn. */
const PARTS_AT_A_TIME = 3

/** Reads a complete packed tensor back, in parts, and writes it. */
async function writeTarget(
  pass: EncodePass,
  lane: Lane,
  work: TensorWork,
  block: BlockEncode,
  target: BlockTarget,
): Promise<void> {
  const blocks = blockCount(block)
  const step = READ_BACK_BYTES
  const copy = async (
    buffer: DeviceBuffer,
    totalBytes: number,
    consume: (view: Uint8Array, offsetBytes: number) => Promise<void> | undefined,
  ): Promise<void> => {
    const started: Promise<void>[] = []
    try {
      for (let at = 0; at < totalBytes; at += step) {
        const sizeBytes = Math.min(step, totalBytes - at)
        const part = lane.submit([], [{ buffer, offsetBytes: at, sizeBytes, consume: (view) => consume(view, at) }])
        // awaited later, or never when one before it fails
        part.catch(() => undefined)
        started.push(part)
        if (started.length === PARTS_AT_A_TIME) await started.shift()
      }
    } finally {
      await waitForAll(started)
    }
  }
  await copy(target.packed, blocks * blockWords(block.bits, block.blockSize) * 4, (view, at) =>
    writePart(pass.output, work, 'values', at, view),
  )
  await copy(target.scales, blocks * 4, (view, at) => writePart(pass.output, work, 'scale', at, view))
  if (!block.symmetric) {
    await copy(target.zeroPoints, blocks * 4, (view, at) => {
      takeZeroPoints(work, at / 4, asWordView(view))
      return undefined
    })
  }
  writeZeroPoints(pass.output, work)
}
