// The nouns that formats, methods, planner and executor share. A format reader fills TensorInfo (metadata only: no tensor
// bytes are read), the planner turns each into a TensorPlan, a format writer lays the output files out, the executor fills
// them. Nothing here knows ONNX, safetensors, GPUs or methods by name beyond the unions written out below.

import type { DType } from './dtype.ts'

/** A file of the uploaded model. `name` is the client's name (a bare or relative path inside the model), `path` where it lies. */
export interface SourceFile {
  name: string
  path: string
  sizeBytes: number
}

/** Where the little-endian, C-order bytes of a tensor are. `file` indexes ModelReader.files. Inline bytes are small or decoded ones. */
export type TensorData =
  | { kind: 'file'; file: number; offsetBytes: number; lengthBytes: number }
  /** `lengthBytes` is there where `bytes` is decoded anew on each access, so that asking for the length costs nothing. */
  | { kind: 'inline'; bytes: Uint8Array; lengthBytes?: number }

/** Bytes of the tensor, without decoding any. */
export function dataLength(data: TensorData): number {
  return data.kind === 'file' ? data.lengthBytes : (data.lengthBytes ?? data.bytes.length)
}

/** Where a weight is used, in terms that decide how it may be compressed. `matrix`: a rank-2 tensor of a graph-less format. */
export type WeightRole =
  | 'matmul'
  | 'gemm'
  | 'conv'
  | 'conv-transpose'
  | 'lstm'
  | 'gru'
  | 'gather'
  | 'matrix'
  | 'bias'
  | 'norm'
  | 'other'

/** Why a tensor is left as it is. Stable: they appear in plans, reports and metrics. docs/recipes.md lists them. */
export const SKIP_REASONS = {
  not_selected: 'no step of the recipe selects it',
  not_a_weight: 'its use is not one that compresses (shape, index, constant operand)',
  bias: 'a bias',
  norm: 'a scale or offset of a normalisation',
  scalar: 'a scalar or an empty tensor',
  too_small: 'fewer elements than the minimum',
  not_float: 'not a floating point tensor',
  already_compressed: 'already stored in a reduced form (fp16, int8, Q/DQ)',
  dtype_unsupported: 'a float dtype that no kernel takes (f64, complex)',
  non_finite: 'holds NaN or Inf',
  fp16_overflow: 'a value overflows the 16-bit float',
  opset_too_old: 'no encoding is legal at the opset of the model',
  encoding_unsupported: 'no encoding of this method exists for its use or layout',
  shared_with_other_op: 'shared with an operator that cannot take the encoding',
  inside_function: 'inside a model-local function',
  inside_scan: 'inside a Scan or Loop body where it may not be replaced',
  block_size_mismatch: 'its rows do not divide into blocks and the format has no ragged block',
  sparse: 'stored as a sparse tensor',
  no_gain: 'its compressed form would not be smaller',
  too_large_for_device: 'its packed form is larger than one device binding',
} as const
export type SkipReason = keyof typeof SKIP_REASONS

/**
 * Storage forms that an artifact can use; each format writer knows how to write the ones it reports as legal:
 * - dense: same dtype and shape (pruning)
 * - float16, bfloat16: a 16-bit float tensor (ONNX: Cast back to f32)
 * - scaled-int8: integer values + f32 scale (+ zero point), per tensor or channel (ONNX: Cast [Sub] Mul; safetensors: `<name>.scale`)
 * - scaled-int4: the same with 4-bit values (ONNX opset >= 21)
 * - block-packed: blocks along K of the [N,K] matrix, packed low bits first (ONNX: MatMulNBits; safetensors: pack-quantized)
 * - dynamic-int8: u8 [K,N] values with zero point 128 and per-column scale for DynamicQuantizeMatMul
 */
export type EncodingKind =
  | 'dense'
  | 'float16'
  | 'bfloat16'
  | 'scaled-int8'
  | 'scaled-int4'
  | 'block-packed'
  | 'dynamic-int8'

/** A weight seen as the [K,N] operand of a matrix product. order 'kn': stored row-major [K,N]; 'nk': stored row-major [N,K]. */
export interface MatrixView {
  k: number
  n: number
  order: 'kn' | 'nk'
}

/**
 * What a block-packed form asks of rows and zero points.
 * - raggedBlocks false: K must be a multiple of the block size (else skip reason block_size_mismatch).
 * - zeroPoints 'row-bytes': always written; each row's codes start on a byte, [N, ceil(blocks * bits / 8)] u8 (MatMulNBits).
 * - zeroPoints 'column-words': written only when asymmetric; codes of 32/bits consecutive rows share a little-endian word,
 *   [ceil(N * bits / 32), blocks] i32, low bits first, bits beyond N zero (compressed-tensors, packed along dim 0).
 */
export interface BlockLayout {
  raggedBlocks: boolean
  zeroPoints: 'row-bytes' | 'column-words'
}

/** The layout of MatMulNBits, and what is meant where `blocks` is absent. */
export const MATMUL_NBITS_BLOCKS: BlockLayout = { raggedBlocks: true, zeroPoints: 'row-bytes' }

/** Whether the format can store this tensor in that form, and the axis/matrix that form works on. */
export type EncodingSupport =
  | { ok: true; channelAxis: number | null; matrix: MatrixView | null; blocks?: BlockLayout }
  | { ok: false; reason: SkipReason; detail: string }

export interface TensorUse {
  /** ONNX op type of the consumer after constant Reshape/Transpose/Identity/Cast chains; 'Tensor' for graph-less formats. */
  op: string
  node: string
  inputIndex: number
}

export interface TensorInfo {
  /** Unique inside the model: initializer name, or the output name of a Constant node; subgraph names are prefixed by the reader. */
  name: string
  dtype: DType
  shape: number[]
  data: TensorData
  /** Roles over all uses (tied tensors have several). Empty: never used. */
  roles: WeightRole[]
  uses: TensorUse[]
  /** Set when the reader already knows that this tensor cannot be touched. */
  locked: { reason: SkipReason; detail: string } | null
  encodings: Record<EncodingKind, EncodingSupport>
  /** Channel axis of the dominant use (Conv 0, MatMul last, Gather 0, ...); null: none. In the tensor's own stored shape. */
  channelAxis: number | null
}

export interface ModelSummary {
  format: 'onnx' | 'safetensors'
  /** ONNX only. */
  irVersion: number | null
  opset: number | null
  producer: string | null
  inputs: { name: string; dtype: DType; shape: (number | string)[] }[]
  outputs: { name: string; dtype: DType; shape: (number | string)[] }[]
  metadata: Record<string, string>
  /** Compressed forms found in the input, such as 'fp16', 'int8 QDQ', 'MatMulNBits 4-bit'. Empty: plain float. */
  alreadyCompressed: string[]
  notes: string[]
}

/** How scale and zero point are shared. Block: along K, `blockSize` elements each. */
export type Granularity = 'tensor' | 'channel' | 'block'

export type ClipPlan = { kind: 'none' } | { kind: 'percentile'; percentile: number } | { kind: 'mse' }

export type PrunePlan =
  | { kind: 'threshold'; threshold: number }
  | { kind: 'sparsity'; sparsity: number }
  /** One threshold for every tensor of the plan that names the same group. */
  | { kind: 'global-sparsity'; sparsity: number; group: string }

/** t from one of three sources; q = 0 if |w| <= t. */
export type DeadZonePlan =
  | { kind: 'threshold'; threshold: number }
  | { kind: 'sparsity'; sparsity: number }
  | { kind: 'min-sqnr'; minSqnrDb: number }

export type EncodePlan =
  | { kind: 'dense' }
  | { kind: 'float16' }
  | { kind: 'bfloat16' }
  | {
      kind: 'scaled-int'
      bits: 8 | 4
      granularity: 'tensor' | 'channel'
      /** Axis of the stored shape that carries the channels; null per tensor. */
      axis: number | null
      symmetric: boolean
      clip: ClipPlan
      deadZone: DeadZonePlan | null
    }
  | {
      kind: 'block-packed'
      bits: 8 | 4
      blockSize: number
      symmetric: boolean
      clip: ClipPlan
      matrix: MatrixView
      /** From the EncodingSupport of the tensor; absent: MATMUL_NBITS_BLOCKS. */
      blocks?: BlockLayout
    }
  | { kind: 'dynamic-int8'; clip: ClipPlan; matrix: MatrixView }

export type PartName = 'values' | 'scale' | 'zero_point' | 'shape'

/** One output tensor of a compressed weight. Shapes and bytes are known before any data is read. */
export interface OutputPart {
  part: PartName
  dtype: DType
  shape: number[]
  lengthBytes: number
}

/** What happens to one tensor and why. The whole table is the JobPlan: dry run, layout, progress and report read it. */
export interface TensorPlan {
  tensor: TensorInfo
  /** keep: bytes are copied unchanged. */
  action: 'keep' | 'compress'
  reason: SkipReason | null
  /** One human sentence: what is done, or why it is not. */
  detail: string
  /** Recipe step ids in order, such as ['prune-magnitude', 'quantize']. */
  steps: string[]
  prune: PrunePlan | null
  encode: EncodePlan
  outputs: OutputPart[]
  bytesBefore: number
  bytesAfter: number
}

export interface OutputOptions {
  /** ONNX: auto = only when the file would pass 2 GB or the input used external data. */
  externalData: 'auto' | true | false
  /** safetensors: start a new shard beyond this many bytes; null: one file (or as the input was sharded). */
  shardBytes: number | null
  /** Output file name (without folder) of the main file. */
  fileName: string
}

/** A run of bytes in an output file. The runs of a file are ascending, do not overlap, and cover it exactly. */
export type OutputRun =
  | { kind: 'literal'; offsetBytes: number; bytes: Uint8Array }
  | { kind: 'copy'; offsetBytes: number; from: TensorData }
  | { kind: 'part'; offsetBytes: number; lengthBytes: number; tensor: string; part: PartName }

export interface OutputFile {
  name: string
  sizeBytes: number
  runs: OutputRun[]
}

/** The output files, laid out: every tensor at a known offset, so that the executor may write out of order. */
export interface FileLayout {
  files: OutputFile[]
  /** Things a user must know: 'W lost its graph input entry', 'ir_version raised 3 -> 4', ... */
  notes: { tensor: string | null; note: string }[]
  /** Tied tensors that are compressed alike: the parts of `tensor` lie where those of `source` do, and are the same bytes. */
  tied?: { tensor: string; source: string }[]
}

/** An opened model. Holds open file handles and metadata, never tensor bytes. `close` must be called. */
export interface ModelReader {
  files: SourceFile[]
  summary: ModelSummary
  tensors: TensorInfo[]
  /** Lays out the artifact for these plans (one per tensor, same order as `tensors`). Pure: writes nothing. */
  layout(plans: TensorPlan[], options: OutputOptions): FileLayout
  /** Reads tensor bytes [offset, offset + into.length) of `data` into `into`. */
  read(data: TensorData, offsetBytes: number, into: Uint8Array): Promise<void>
  close(): Promise<void>
}

/** One model file format; `formats/index.ts` lists them, one line each. */
export interface ModelFormat {
  id: 'onnx' | 'safetensors'
  extensions: string[]
  /** Signature first. `head`: up to 4 KiB from the start of the main file. Higher wins; 0: not mine. */
  match(head: Uint8Array, name: string, sizeBytes: number): number
  /**
   * Names of the further files that a main file refers to, relative to its folder (external data, shards, config.json), so
   * that a client who has only the main file can gather them. Absent: never any. Checks nothing beyond what it must read.
   */
  companions?(main: SourceFile): Promise<string[]>
  /** Opens the model that these files form. Throws AppError (format_*, external_data_invalid, limit_exceeded). */
  open(files: SourceFile[]): Promise<ModelReader>
}
