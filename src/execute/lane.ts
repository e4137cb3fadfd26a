// A lane: one set of reused buffers that carries one piece at a time through read -> upload -> kernels -> read back -> write.
// Two or three lanes overlap disk, host and GPU. Entry: withLanes, runPieces. Buffers grow to what the work needs and are
// freed together; a lane's device buffers are idle whenever no submit of that lane is in flight.

import type { ChunkBuffer, Command, ComputeDevice, DeviceBuffer, Kernel, Readback } from '../compute/compute-device.ts'
import type { Workgroups } from '../kernels/kernel-support.ts'
import type { ModelReader } from '../tensor/model.ts'
import type { Piece, Span } from './pieces.ts'
import { waitForAll } from './wait-for-all.ts'

export interface Lane {
  readonly device: ComputeDevice
  /** The chunk. */
  readonly values: ChunkBuffer
  /** A device buffer of at least this size; its contents survive only until it grows. */
  buffer(name: string, sizeBytes: number): DeviceBuffer
  /** The device buffer `name` holding these words. */
  upload(name: string, words: Uint32Array): DeviceBuffer
  /** Host words to build a table in; contents are whatever was there. */
  scratch(name: string, words: number): Uint32Array
  /** Reads the spans of a piece into the host memory of `values`; waits while the device still copies from there. */
  read(reader: ModelReader, piece: Piece): Promise<void>
  /** Hands what was read to the device. */
  uploadValues(piece: Piece): void
  submit(commands: Command[], readbacks?: Readback[]): Promise<void>
  destroy(): void
}

/** Runs `use` with the device's lanes and frees them however it ends. */
export async function withLanes<T>(device: ComputeDevice, use: (lanes: readonly Lane[]) => Promise<T>): Promise<T> {
  const lanes: Lane[] = []
  const free = async (): Promise<void> => {
    for (const lane of lanes) lane.destroy()
    // destroy() returns memory only with a later submit, which also brings what the device refused since the last one
    await device.submit([])
  }
  let result: T
  try {
    for (let index = 0; index < device.tuning.lanes; index++) lanes.push(createLane(device, index))
    result = await use(lanes)
  } catch (error) {
    await free().catch(() => undefined)
    throw error
  }
  await free()
  return result
}

/** Growing by powers of two keeps the number of re-creations small. */
function roomFor(size: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(size, 1024)))
}

function createLane(device: ComputeDevice, index: number): Lane {
  const { chunkBytes } = device.tuning
  const buffers = new Map<string, DeviceBuffer>()
  const scratch = new Map<string, Uint32Array>()
  const values = device.createChunk(`lane ${index} values`, chunkBytes)

  const lane: Lane = {
    device,
    values,
    buffer(name, sizeBytes) {
      const existing = buffers.get(name)
      if (existing !== undefined && existing.sizeBytes >= sizeBytes) return existing
      existing?.destroy()
      const created = device.createBuffer(`lane ${index} ${name}`, roomFor(sizeBytes))
      buffers.set(name, created)
      return created
    },
    upload(name, words) {
      const buffer = lane.buffer(name, words.byteLength)
      if (words.byteLength > 0) device.write(buffer, 0, asByteView(words))
      return buffer
    },
    scratch(name, words) {
      const existing = scratch.get(name)
      if (existing !== undefined && existing.length >= words) return existing
      const created = new Uint32Array(roomFor(words))
      scratch.set(name, created)
      return created
    },
    async read(reader, piece) {
      const target = await values.host()
      if (piece.spans.length === 1 && piece.spans[0] !== undefined) await readSpan(reader, piece.spans[0], target)
      else await waitForAll(piece.spans.map((span) => readSpan(reader, span, target)))
    },
    uploadValues(piece) {
      values.upload(piece.elements * 4)
    },
    submit: (commands, readbacks) => device.submit(commands, readbacks),
    destroy() {
      values.destroy()
      for (const buffer of buffers.values()) buffer.destroy()
      buffers.clear()
    },
  }
  return lane
}

function readSpan(reader: ModelReader, span: Span, host: Uint8Array): Promise<void> {
  const { data } = span.work.plan.tensor
  const { tile } = span
  const n = span.work.block?.matrix.n ?? 0
  if (tile === null || tile.cols === n) {
    return reader.read(data, span.first * 4, host.subarray(span.start * 4, (span.start + span.count) * 4))
  }
  return readTile(reader, span, host, n)
}

async function readTile(reader: ModelReader, span: Span, host: Uint8Array, n: number): Promise<void> {
  const { tile, start } = span
  if (tile === null) return
  const rowBytes = tile.cols * 4
  const { data } = span.work.plan.tensor
  const reads: Promise<void>[] = []
  for (let row = 0; row < tile.rows; row++) {
    const into = host.subarray(start * 4 + row * rowBytes, start * 4 + (row + 1) * rowBytes)
    reads.push(reader.read(data, ((tile.row + row) * n + tile.col) * 4, into))
  }
  await waitForAll(reads)
}

export function asByteView(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
}

/** The words of a read-back view, which may start at any byte. */
export function asWordView(view: Uint8Array): Uint32Array {
  return view.byteOffset % 4 === 0
    ? new Uint32Array(view.buffer, view.byteOffset, view.byteLength >>> 2)
    : new Uint32Array(view.slice().buffer)
}

export function run(
  kernel: Kernel,
  buffers: (DeviceBuffer | { buffer: DeviceBuffer; offsetBytes: number; sizeBytes: number })[],
  params: Uint32Array,
  workgroups: Workgroups,
  bytes: number,
): Command {
  return { op: 'run', kernel, buffers, params, workgroups, bytes }
}

export function clear(buffer: DeviceBuffer, sizeBytes: number): Command {
  return { op: 'clear', buffer, offsetBytes: 0, sizeBytes }
}

/** Rounds a byte count up to what copies on the device need. */
export function wholeWords(bytes: number): number {
  return Math.ceil(bytes / 4) * 4
}

/** What a pass over pieces reads from and stops for. */
export interface PiecePass {
  reader: ModelReader
  lanes: readonly Lane[]
  signal: AbortSignal
}

/**
 * Runs `work` over the pieces, each lane taking the next one as it comes free; the values of a piece are on the device when
 * `work` begins. While the device works on a piece, the lane already reads its next one into host memory. The first failure
 * stops the others after their current piece and is thrown once all lanes are quiet.
 */
export async function runPieces(
  { reader, lanes, signal }: PiecePass,
  pieces: readonly Piece[],
  work: (lane: Lane, piece: Piece) => Promise<void>,
  onFailure: (error: unknown) => void = () => undefined,
): Promise<void> {
  let next = 0
  let failure: { error: unknown } | null = null

  const begin = (lane: Lane): Reading | null => {
    const piece = failure === null ? pieces[next] : undefined
    if (piece === undefined) return null
    next += 1
    const done = lane.read(reader, piece)
    // Awaited later, or never when another lane fails first.
    done.catch(() => undefined)
    return { piece, done }
  }

  /** Where lanes wait for one another's pieces of a tensor, none may keep a second one waiting behind its own. */
  const beginAhead = (lane: Lane, current: Piece): Reading | null => {
    const shared = current.spans[0]?.work.shared ?? null
    return shared !== null && shared === pieces[next]?.spans[0]?.work.shared ? null : begin(lane)
  }

  async function runLane(lane: Lane): Promise<void> {
    let reading = begin(lane)
    try {
      while (reading !== null && failure === null) {
        signal.throwIfAborted()
        const { piece, done }: Reading = reading
        await done
        lane.uploadValues(piece)
        reading = beginAhead(lane, piece)
        await work(lane, piece)
        reading ??= begin(lane)
      }
    } catch (error) {
      failure ??= { error }
      onFailure(error)
    }
    // The next pass reads into the same host memory, or it is unmapped: nothing may still be read into it.
    await reading?.done.catch(() => undefined)
  }

  await Promise.all(lanes.map(runLane))
  // Assigned in the lanes' closures, which narrowing does not see.
  const failed = failure as { error: unknown } | null
  if (failed !== null) throw failed.error
}

interface Reading {
  piece: Piece
  done: Promise<void>
}
