// The encoding pass: each piece is read once, pruned where asked, encoded and written. Entry: encodePiece, one function per
// program; blocks-transpose of large tensors is in encode-transpose.ts. Tensors that fit a chunk get their statistics here,
// between two submits on values that stay on the device; larger ones come with parameters from calibrate.ts.

import type { Command, DeviceBuffer } from '../compute/compute-device.ts'
import { CAST_FLAG_WORDS, castBfloat16, castFloat16 } from '../kernels/cast-float.ts'
import { INT8_SLOT_WORDS, quantizeInt8 } from '../kernels/quantize-int8.ts'
import { channelWorkgroups, quantizeInt8Channel } from '../kernels/quantize-int8-channel.ts'
import { STATISTICS_WORDS } from '../kernels/statistics.ts'
import {
  type ChannelWindow,
  channelWindows,
  countNonFinite,
  mergeWindow,
  statisticsCommands,
} from './channel-window.ts'
import { encodeBlocks } from './encode-blocks.ts'
import type { EncodePass } from './encode-pass.ts'
import { encodeTransposed } from './encode-transpose.ts'
import { asWordView, clear, type Lane, run, wholeWords } from './lane.ts'
import type { OutputFiles } from './output-files.ts'
import type { Piece, Span } from './pieces.ts'
import { type PrunedPiece, pruneCommands } from './prune.ts'
import {
  emptyParameters,
  type ScaledParameters,
  scaledForm,
  scaledParameters,
  setParameters,
} from './scaled-parameters.ts'
import { flatTable } from './segment-tables.ts'
import type { TensorWork } from './tensor-work.ts'
import { waitForAll } from './wait-for-all.ts'
import { bytesOf, packNibbles, writePart } from './write-parts.ts'

export async function encodePiece(pass: EncodePass, lane: Lane, piece: Piece): Promise<void> {
  const program = piece.spans[0]?.work.program
  if (program === undefined) return
  const pruned = pruneCommands(lane, piece)
  switch (program) {
    case 'dense':
      return encodeDense(pass, lane, piece, pruned)
    case 'float16':
    case 'bfloat16':
      return encodeFloat(pass, lane, piece, pruned)
    case 'scaled-tensor':
    case 'scaled-channel':
      return encodeScaled(pass, lane, piece, pruned)
    case 'blocks':
      return encodeBlocks(pass, lane, piece, pruned)
    case 'blocks-transpose':
      return encodeTransposed(pass, lane, piece, pruned)
    default:
      return program satisfies never
  }
}

async function encodeDense(
  pass: EncodePass,
  lane: Lane,
  piece: Piece,
  { values, commands, readbacks }: PrunedPiece,
): Promise<void> {
  readbacks.push({
    buffer: values,
    offsetBytes: 0,
    sizeBytes: piece.elements * 4,
    consume: (view) =>
      writeSpans(piece, (span) =>
        writePart(pass.output, span.work, 'values', span.first * 4, bytesOf(view, span.start * 4, span.count * 4)),
      ),
  })
  await lane.submit(commands, readbacks)
}

async function encodeFloat(
  pass: EncodePass,
  lane: Lane,
  piece: Piece,
  { values, commands, readbacks }: PrunedPiece,
): Promise<void> {
  const table = flatTable(lane, piece)
  const out = lane.buffer('out', piece.elements * 2 + 16)
  const flagBytes = piece.spans.length * CAST_FLAG_WORDS * 4
  const flags = lane.buffer('flags', flagBytes)
  commands.push(
    clear(flags, flagBytes),
    run(
      piece.spans[0]?.work.program === 'bfloat16' ? castBfloat16 : castFloat16,
      [values, table.buffer, out, flags],
      Uint32Array.of(table.count, table.lanes, 0, 0),
      table.workgroups,
      piece.elements * 4,
    ),
  )
  readbacks.push(
    {
      buffer: flags,
      offsetBytes: 0,
      sizeBytes: flagBytes,
      consume(view) {
        const words = asWordView(view)
        for (const [index, { work }] of piece.spans.entries()) {
          work.float16Overflow += words[index * CAST_FLAG_WORDS] ?? 0
          work.nonFinite += words[index * CAST_FLAG_WORDS + 1] ?? 0
        }
      },
    },
    {
      buffer: out,
      offsetBytes: 0,
      sizeBytes: wholeWords(piece.elements * 2),
      consume: (view) =>
        writeSpans(piece, (span) =>
          writePart(pass.output, span.work, 'values', span.first * 2, bytesOf(view, span.start * 2, span.count * 2)),
        ),
    },
  )
  await lane.submit(commands, readbacks)
}

async function encodeScaled(
  pass: EncodePass,
  lane: Lane,
  piece: Piece,
  { values, commands, readbacks }: PrunedPiece,
): Promise<void> {
  const { windows, slots } = channelWindows(piece)
  let quantizing = commands
  let first = readbacks
  const shared = piece.spans[0]?.work.shared ?? null
  if (shared !== null || piece.spans.some(({ work }) => work.scaled === null || work.scaledByPiece)) {
    const [stats, counting] = statisticsCommands(lane, values, windows, slots)
    await lane.submit(
      [...commands, ...counting],
      [
        ...readbacks,
        {
          buffer: stats,
          offsetBytes: 0,
          sizeBytes: slots * STATISTICS_WORDS * 4,
          consume(view) {
            const words = asWordView(view)
            for (const window of windows) {
              const { work } = window.span
              if (shared !== null) mergeWindow(shared.statistics, window, words)
              else if (work.scaledByPiece) takeWindowStatistics(window, words)
              else if (work.scaled === null) takeStatistics(work, words, window.slotBase)
            }
          },
        },
      ],
    )
    quantizing = []
    first = []
    if (shared !== null) await shared.arrive()
    else for (const { work } of piece.spans) if (!work.scaledByPiece) writeScaledParameters(pass.output, work)
  }
  const out = lane.buffer('out', piece.elements + 16)
  quantizing.push(...quantizeCommands(lane, values, piece, windows, slots, out))
  first.push({
    buffer: out,
    offsetBytes: 0,
    sizeBytes: wholeWords(piece.elements),
    consume: (view) => writeSpans(piece, (span) => writeCodes(pass, span, view)),
  })
  await lane.submit(quantizing, first)
}

/** Computes the tensor's scales from statistics slots that cover all of its channels. */
export function takeStatistics(work: TensorWork, stats: Uint32Array, first: number): void {
  const channels = work.geometry?.channels ?? 1
  work.nonFinite = countNonFinite(stats, first, channels)
  work.scaled = scaledParameters(scaledForm(work.plan.encode), stats, first, channels, work.clipBits, deadZoneOf(work))
}

/** The same for the channels of one piece, which it holds whole. */
function takeWindowStatistics({ span, channelFirst, channels, slotBase }: ChannelWindow, stats: Uint32Array): void {
  const { work } = span
  const clipBits = work.clipBits?.subarray(channelFirst, channelFirst + channels) ?? null
  work.nonFinite += countNonFinite(stats, slotBase, channels)
  work.scaled ??= emptyParameters(work.geometry?.channels ?? 1)
  const form = scaledForm(work.plan.encode)
  const own = scaledParameters(form, stats, slotBase, channels, clipBits, deadZoneOf(work))
  setParameters(work.scaled, channelFirst, own)
}

function deadZoneOf(work: TensorWork): { bits: number } | null {
  const { encode } = work.plan
  return encode.kind === 'scaled-int' && encode.deadZone !== null ? { bits: work.deadZoneBits } : null
}

function quantizeCommands(
  lane: Lane,
  values: DeviceBuffer,
  piece: Piece,
  windows: ChannelWindow[],
  slots: number,
  out: DeviceBuffer,
): Command[] {
  const words = lane.scratch('slots', slots * INT8_SLOT_WORDS)
  for (const { span, slotBase, channelFirst, channels } of windows) {
    const { slots: own } = span.work.scaled as ScaledParameters
    words.set(
      own.subarray(channelFirst * INT8_SLOT_WORDS, (channelFirst + channels) * INT8_SLOT_WORDS),
      slotBase * INT8_SLOT_WORDS,
    )
  }
  const table = lane.upload('slots', words.subarray(0, slots * INT8_SLOT_WORDS))
  if (piece.spans[0]?.work.program === 'scaled-tensor') {
    const segments = flatTable(lane, piece, (_span, index) => windows[index]?.slotBase ?? 0)
    return [
      run(
        quantizeInt8,
        [values, segments.buffer, table, out],
        Uint32Array.of(segments.count, segments.lanes, 0, 0),
        segments.workgroups,
        piece.elements * 4,
      ),
    ]
  }
  return windows.map(({ span, inner, channels, firstElement, slotBase }) =>
    run(
      quantizeInt8Channel,
      [
        { buffer: values, offsetBytes: span.start * 4, sizeBytes: span.count * 4 },
        {
          buffer: table,
          offsetBytes: slotBase * INT8_SLOT_WORDS * 4,
          sizeBytes: channels * INT8_SLOT_WORDS * 4,
        },
        { buffer: out, offsetBytes: span.start, sizeBytes: wholeWords(span.count) },
      ],
      Uint32Array.of(span.count, inner, channels, firstElement),
      channelWorkgroups(span.count, inner, channels),
      span.count * 4,
    ),
  )
}

function writeCodes(pass: EncodePass, span: Span, view: Uint8Array): Promise<void> | undefined {
  const codes = bytesOf(view, span.start, span.count)
  const { encode } = span.work.plan
  if (encode.kind !== 'scaled-int' || encode.bits === 8) {
    return writePart(pass.output, span.work, 'values', span.first, codes)
  }
  return writePart(pass.output, span.work, 'values', span.first / 2, packNibbles(codes))
}

/** Scale and zero point of a tensor whose parameters are known. */
export function writeScaledParameters(output: OutputFiles, work: TensorWork): void {
  const { scaled } = work
  if (scaled === null) return
  writeSmallPart(output, work, 'scale', new Uint8Array(scaled.scale.buffer))
  writeSmallPart(output, work, 'zero_point', scaled.zeroPoint)
}

/** A part that the caller owns for good, so nobody has to wait for the write; failures surface in OutputFiles.settle. */
function writeSmallPart(output: OutputFiles, work: TensorWork, part: 'scale' | 'zero_point', bytes: Uint8Array): void {
  const writing = writePart(output, work, part, 0, bytes)
  if (writing !== undefined) output.defer(writing)
}

/** Starts every span's write, then waits for those that are asynchronous. */
async function writeSpans(piece: Piece, write: (span: Span) => Promise<void> | undefined): Promise<void> {
  let pending: Promise<void>[] | undefined
  for (const span of piece.spans) {
    const writing = write(span)
    if (writing !== undefined) {
      pending ??= []
      pending.push(writing)
    }
  }
  if (pending !== undefined) await waitForAll(pending)
}
