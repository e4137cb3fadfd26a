// One compressed tensor on its way through the executor: its plan, where its bytes come from and go to, and what was found
// out about it so far. Entry: createWork. Owned by compress-model.ts; passes read and fill it.

import { elementCount } from '../tensor/dtype.ts'
import type { EncodePlan, FileLayout, PartName, TensorPlan } from '../tensor/model.ts'
import type { ScaledParameters } from './scaled-parameters.ts'
import type { SharedScales } from './shared-scales.ts'

/** Which sequence of kernels encodes the tensor; see src/execute/encode.ts. */
export type Program =
  | 'dense'
  | 'float16'
  | 'bfloat16'
  | 'scaled-tensor'
  | 'scaled-channel'
  | 'blocks'
  | 'blocks-transpose'

/** How flat element indices map to channels: channel = floor(index / inner) % channels. */
export interface ChannelGeometry {
  inner: number
  channels: number
}

/** Where a part lies in the output; a tied tensor may have several places. */
export interface PartPlace {
  file: number
  offsetBytes: number
  lengthBytes: number
}

export type BlockEncode = Extract<EncodePlan, { kind: 'block-packed' }>

export interface TensorWork {
  plan: TensorPlan
  name: string
  elements: number
  program: Program
  /** Channels of the scaled forms; one channel over everything when the scale is per tensor; null for the other forms. */
  geometry: ChannelGeometry | null
  /** Set for block-packed forms. */
  block: BlockEncode | null
  places: Map<PartName, PartPlace[]>
  /** |x| bits at or below which pruning zeroes; null: no pruning, or not known yet. */
  pruneBits: number | null
  /** |x| bits of the dead zone; 0: only zeros. */
  deadZoneBits: number
  /** |x| bits per channel that clipping replaces absmax with; null: no clipping. */
  clipBits: Uint32Array | null
  /** Known before the encoding pass only when a calibration pass made it. */
  scaled: ScaledParameters | null
  /** Every piece holds whole channels, so the encoding pass fills `scaled` piece by piece; see channelsStayWhole. */
  scaledByPiece: boolean
  /** The lanes hold the tensor's pieces together and find `scaled` on the way; see scalesFound. */
  shared: SharedScales | null
  /** Zero points by block (codes), gathered until the tensor is complete; null when symmetric or not block-packed. */
  zeroPoints: Uint8Array | null
  /** Pieces of the encoding pass not yet written. */
  piecesLeft: number
  nonFinite: number
  float16Overflow: number
  zerosAfter: number
  /** What the report shows under `resolved`. */
  resolved: Record<string, unknown>
}

export function createWork(plan: TensorPlan, layout: FileLayout): TensorWork {
  const { tensor, encode } = plan
  return {
    plan,
    name: tensor.name,
    elements: elementCount(tensor.shape),
    program: programOf(encode),
    geometry: channelGeometry(encode, tensor.shape),
    block: encode.kind === 'block-packed' ? encode : null,
    places: placesOf(tensor.name, layout),
    pruneBits: null,
    deadZoneBits: 0,
    clipBits: null,
    scaled: null,
    scaledByPiece: false,
    shared: null,
    zeroPoints: null,
    piecesLeft: 0,
    nonFinite: 0,
    float16Overflow: 0,
    zerosAfter: 0,
    resolved: {},
  }
}

function programOf(encode: EncodePlan): Program {
  switch (encode.kind) {
    case 'dense':
      return 'dense'
    case 'float16':
      return 'float16'
    case 'bfloat16':
      return 'bfloat16'
    case 'scaled-int':
      return encode.granularity === 'tensor' ? 'scaled-tensor' : 'scaled-channel'
    case 'dynamic-int8':
      return 'scaled-channel'
    case 'block-packed':
      return encode.matrix.order === 'nk' ? 'blocks' : 'blocks-transpose'
    default:
      return encode satisfies never
  }
}

function channelGeometry(encode: EncodePlan, shape: readonly number[]): ChannelGeometry | null {
  if (encode.kind === 'dynamic-int8') {
    const { k, n, order } = encode.matrix
    return { inner: order === 'kn' ? 1 : k, channels: n }
  }
  if (encode.kind !== 'scaled-int') return null
  if (encode.axis === null) return { inner: elementCount(shape), channels: 1 }
  return { inner: elementCount(shape.slice(encode.axis + 1)), channels: shape[encode.axis] ?? 1 }
}

/** Indexed once per layout: a model may have a hundred thousand tensors. */
const indexes = new WeakMap<FileLayout, Map<string, Map<PartName, PartPlace[]>>>()

function placesOf(name: string, layout: FileLayout): Map<PartName, PartPlace[]> {
  let index = indexes.get(layout)
  if (index === undefined) {
    index = new Map()
    for (const [file, { runs }] of layout.files.entries()) {
      for (const run of runs) {
        if (run.kind !== 'part') continue
        const parts = index.get(run.tensor) ?? new Map<PartName, PartPlace[]>()
        const places = parts.get(run.part) ?? []
        places.push({ file, offsetBytes: run.offsetBytes, lengthBytes: run.lengthBytes })
        parts.set(run.part, places)
        index.set(run.tensor, parts)
      }
    }
    for (const { tensor, source } of layout.tied ?? []) {
      const parts = index.get(source)
      if (parts !== undefined) index.set(tensor, parts)
    }
    indexes.set(layout, index)
  }
  return index.get(name) ?? new Map<PartName, PartPlace[]>()
}

/** Blocks of one row of K. */
export function blocksPerRow({ matrix, blockSize }: BlockEncode): number {
  return Math.ceil(matrix.k / blockSize)
}
