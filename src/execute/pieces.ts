// How tensors are cut into chunk-sized pieces of work, and small tensors packed together. Entry: cutPieces. Pure.
// A piece is what one lane reads, runs kernels on and writes at a time: either whole tensors, each starting on an aligned
// element, or one part of a tensor that is larger than a chunk. Results never depend on where the cuts are.

import { blocksPerRow, type TensorWork } from './tensor-work.ts'

/** Rows [row, row + rows) and columns [col, col + cols) of a row-major [K,N] weight. */
export interface Tile {
  row: number
  rows: number
  col: number
  cols: number
}

/** Part of a tensor inside a chunk. */
export interface Span {
  work: TensorWork
  /** First element, counted in the tensor; for a tile its first row's first element. */
  first: number
  count: number
  /** First element, counted in the chunk. */
  start: number
  whole: boolean
  /** Set when the tensor is cut as a matrix whose rows are not contiguous blocks (transposing forms). */
  tile: Tile | null
}

export interface Piece {
  /** Spans of one piece share kernels and settings. */
  group: string
  spans: Span[]
  /** Elements of the chunk in use, gaps included. */
  elements: number
}

/**
 * Where a tensor may start in a chunk: 256 elements are 1024 bytes of f32, 512 of f16 and 256 of int8, so that a slice of any
 * of these buffers starts on WebGPU's binding alignment of 256 bytes.
 */
export const START_ALIGNMENT = 256

/** Segment table rows, channel slots and tensors of one piece; bounds the small tables beside the chunk. */
export const MAX_TABLE_ROWS = 65536
export const MAX_SPANS = 4096

/** Padding of ragged block rows may blow a piece up to this many chunks of codes. */
const MAX_PADDING_FACTOR = 2

type Cut = Omit<Span, 'start'>

export type CutPurpose = 'encode' | 'flat'

/**
 * Cuts and packs `works` in order. Purpose 'flat' ignores the storage form (counting passes see a tensor as a run of
 * elements); `maxSpans` bounds the tensors of a piece.
 */
export function cutPieces(
  works: readonly TensorWork[],
  chunkBytes: number,
  purpose: CutPurpose,
  maxSpans = MAX_SPANS,
): Piece[] {
  const chunkElements = alignedElements(chunkBytes)
  const pieces: Piece[] = []
  const open = new Map<string, { piece: Piece; rows: number }>()
  for (const work of works) {
    const cuts = purpose === 'flat' ? cutFlat(work, chunkElements) : cutForEncoding(work, chunkElements)
    const group = purpose === 'flat' ? (work.pruneBits === null ? 'flat' : 'pruned flat') : groupOf(work)
    const [only] = cuts
    if (cuts.length !== 1 || only === undefined) {
      for (const cut of cuts) pieces.push({ group, spans: [{ ...cut, start: 0 }], elements: cut.count })
      continue
    }
    const rows = tableRows(work)
    let current = open.get(group)
    if (
      current === undefined ||
      current.piece.elements + only.count > chunkElements ||
      current.piece.spans.length >= maxSpans ||
      current.rows + rows > MAX_TABLE_ROWS
    ) {
      current = { piece: { group, spans: [], elements: 0 }, rows: 0 }
      open.set(group, current)
      pieces.push(current.piece)
    }
    current.piece.spans.push({ ...only, start: current.piece.elements })
    current.piece.elements += Math.ceil(only.count / START_ALIGNMENT) * START_ALIGNMENT
    current.rows += rows
  }
  // The last tensor needs no room behind it, and the device takes no more than a chunk.
  for (const piece of pieces) {
    const last = piece.spans.at(-1)
    if (last !== undefined) piece.elements = last.start + last.count
  }
  return pieces
}

/** Tensors of one group can share dispatches. */
function groupOf(work: TensorWork): string {
  const { block } = work
  const program = work.pruneBits === null ? work.program : `pruned ${work.program}`
  if (block === null) return program
  return [program, block.bits, block.blockSize, block.symmetric, block.clip.kind].join(' ')
}

/** Rows of the largest table that this tensor needs when it is whole in a piece. */
function tableRows(work: TensorWork): number {
  if (work.block !== null) {
    return work.block.matrix.k % work.block.blockSize === 0 ? 1 : work.block.matrix.n
  }
  const { geometry } = work
  if (geometry === null || geometry.inner === 1) return geometry?.channels ?? 1
  return Math.max(geometry.channels, Math.ceil(work.elements / geometry.inner))
}

function cutRuns(work: TensorWork, granule: number, maxElements: number): Cut[] {
  const step = Math.max(granule, Math.floor(maxElements / granule) * granule)
  const cuts: Cut[] = []
  for (let first = 0; first < work.elements; first += step) {
    const count = Math.min(step, work.elements - first)
    cuts.push({ work, first, count, whole: count === work.elements, tile: null })
  }
  return cuts
}

/** Runs inside rows of `rowElements`, none of which crosses a row; for rows larger than a chunk. */
function cutWithinRows(work: TensorWork, rowElements: number, granule: number, chunkElements: number): Cut[] {
  const step = Math.floor(chunkElements / granule) * granule
  const cuts: Cut[] = []
  for (let row = 0; row < work.elements; row += rowElements) {
    for (let within = 0; within < rowElements; within += step) {
      const count = Math.min(step, rowElements - within)
      cuts.push({ work, first: row + within, count, whole: false, tile: null })
    }
  }
  return cuts
}

function cutFlat(work: TensorWork, chunkElements: number): Cut[] {
  return cutRuns(work, START_ALIGNMENT, chunkElements)
}

function cutForEncoding(work: TensorWork, chunkElements: number): Cut[] {
  switch (work.program) {
    case 'scaled-channel':
      return cutChannels(work, chunkElements)
    case 'blocks':
      return cutBlockRows(work, chunkElements)
    case 'blocks-transpose':
      return cutTiles(work, chunkElements)
    default:
      return cutFlat(work, chunkElements)
  }
}

/** Elements that cuts of such a tensor keep together: a channel, or two where a channel of 4-bit codes ends inside a byte. */
function channelGranule(work: TensorWork, inner: number): number {
  const { encode } = work.plan
  return encode.kind === 'scaled-int' && encode.bits === 4 && inner % 2 === 1 ? 2 * inner : inner
}

/**
 * True when channels lie one after the other and fit a chunk: cutForEncoding then cuts between channels, and every piece can
 * find the scales of its own channels.
 */
export function channelsStayWhole(work: TensorWork, chunkBytes: number): boolean {
  const { geometry } = work
  if (work.program !== 'scaled-channel' || geometry === null || geometry.inner === 1) return false
  if (geometry.inner * geometry.channels !== work.elements) return false
  return channelGranule(work, geometry.inner) <= alignedElements(chunkBytes)
}

function alignedElements(chunkBytes: number): number {
  return Math.floor(chunkBytes / 4 / START_ALIGNMENT) * START_ALIGNMENT
}

function cutChannels(work: TensorWork, chunkElements: number): Cut[] {
  const { inner, channels } = work.geometry ?? { inner: work.elements, channels: 1 }
  if (channelsStayWhole(work, chunkElements * 4)) {
    return cutRuns(work, channelGranule(work, inner), Math.min(chunkElements, MAX_TABLE_ROWS * inner))
  }
  if (inner === 1) {
    // Whole rows; two at a time where a row of 4-bit codes would end inside a byte.
    const { encode } = work.plan
    const oddNibbles = encode.kind === 'scaled-int' && encode.bits === 4 && channels % 2 === 1
    const rows = oddNibbles ? 2 * channels : channels
    return rows <= chunkElements
      ? cutRuns(work, rows, chunkElements)
      : cutWithinRows(work, channels, START_ALIGNMENT, chunkElements)
  }
  // One table row for each run of a channel, so short runs bound the piece before the chunk does.
  return cutRuns(
    work,
    START_ALIGNMENT,
    Math.min(chunkElements, Math.max(START_ALIGNMENT, (MAX_TABLE_ROWS - 2) * inner)),
  )
}

function cutBlockRows(work: TensorWork, chunkElements: number): Cut[] {
  const { block } = work
  if (block === null) return cutFlat(work, chunkElements)
  const { k } = block.matrix
  if (k > chunkElements) return cutWithinRows(work, k, block.blockSize, chunkElements)
  if (k % block.blockSize === 0) return cutRuns(work, k, chunkElements)
  const paddedRow = blocksPerRow(block) * block.blockSize
  const rows = Math.min(Math.floor(chunkElements / k), Math.floor((MAX_PADDING_FACTOR * chunkElements) / paddedRow))
  return cutRuns(work, k, k * Math.max(1, Math.min(rows, MAX_TABLE_ROWS)))
}

function cutTiles(work: TensorWork, chunkElements: number): Cut[] {
  const { block } = work
  if (block === null) return cutFlat(work, chunkElements)
  const { k, n } = block.matrix
  const { blockSize } = block
  const rowsThatFit = Math.floor(chunkElements / n / blockSize) * blockSize
  const rows = rowsThatFit > 0 ? Math.min(k, rowsThatFit) : Math.min(k, blockSize)
  const cols = rowsThatFit > 0 ? n : Math.max(4, Math.floor(chunkElements / rows / 4) * 4)
  const cuts: Cut[] = []
  for (let row = 0; row < k; row += rows) {
    for (let col = 0; col < n; col += cols) {
      const tile = { row, rows: Math.min(rows, k - row), col, cols: Math.min(cols, n - col) }
      const count = tile.rows * tile.cols
      cuts.push({ work, first: row * n + col, count, whole: count === work.elements, tile })
    }
  }
  return cuts
}
