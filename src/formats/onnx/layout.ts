// Lays out the artifact: edits a fresh copy of the model for the plans, decides between inline and external tensor bytes,
// and lists what lies where in each output file. Entry: layoutModel. Writes nothing and reads no tensor bytes.

import type { ModelProto, TensorProto } from 'onnx-buf'
import { AppError } from '../../errors.ts'
import type { FileLayout, OutputFile, OutputOptions, OutputRun, TensorPlan } from '../../tensor/model.ts'
import type { ExpandedPiece } from '../wire/protobuf-expand.ts'
import { makeExternal } from './external-data.ts'
import { GraphEdits } from './graph-edits.ts'
import { rewriteWeight } from './rewrite-weight.ts'
import { clearPayload, decodeModel, encodeModel, type Payload, payloadIndices, visitTensors } from './structure.ts'
import type { ReadPayload } from './tensor-content.ts'
import { TENSOR_FIELD } from './tensor-types.ts'
import type { Weight } from './weight.ts'
import { collectWeights, defaultOpset } from './weights.ts'

/** Protobuf readers refuse messages of 2 GiB and more. */
export const MAX_INLINE_MODEL_BYTES = 2 ** 31 - 1

/** Smaller tensors stay in the model file: the threshold of the ONNX and onnxruntime exporters. */
const MIN_EXTERNAL_BYTES = 1024

/** Large tensors start on a page so that they can be mapped; small ones on a cache line. */
const PAGE_BYTES = 4096
const CACHE_LINE_BYTES = 64
const PAGE_ALIGNED_FROM_BYTES = 1024 * 1024

/** What the reader keeps of an opened model. */
export interface ModelStructure {
  fileName: string
  /** Encoded skeleton with external data already resolved to payloads. */
  skeleton: Uint8Array
  payloads: readonly Payload[]
  usesExternalData: boolean
}

/** Plans must be those of the model's tensors, in order. Throws limit_exceeded when the options forbid a file that large. */
export function layoutModel(
  structure: ModelStructure,
  plans: readonly TensorPlan[],
  options: OutputOptions,
  read: ReadPayload,
): FileLayout {
  const model = decodeModel(structure.skeleton, structure.fileName)
  const payloads: Payload[] = [...structure.payloads]
  const { notes, tied } = applyPlans(model, payloads, plans, structure.fileName, read)
  const files: OutputFile[] = []
  let encoded = encodeModel(model, payloads)
  const isExternal =
    options.externalData === true ||
    (options.externalData === 'auto' && (structure.usesExternalData || encoded.lengthBytes > MAX_INLINE_MODEL_BYTES))
  if (isExternal) {
    const data = moveToDataFile(model, payloads, `${options.fileName}.data`)
    if (data) {
      files.push(data)
      if (!structure.usesExternalData) notes.push({ tensor: null, note: `tensor bytes are in "${data.name}"` })
    }
    encoded = encodeModel(model, payloads)
  }
  if (encoded.lengthBytes > MAX_INLINE_MODEL_BYTES) {
    throw new AppError(
      'limit_exceeded',
      `the model file would have ${encoded.lengthBytes} bytes; protobuf allows ${MAX_INLINE_MODEL_BYTES}. ` +
        'Set externalData to auto or true',
      { limit: 'MAX_INLINE_MODEL_BYTES', allowed: MAX_INLINE_MODEL_BYTES, requested: encoded.lengthBytes },
    )
  }
  const runs = toRuns(encoded.pieces, payloads)
  files.unshift({ name: options.fileName, sizeBytes: encoded.lengthBytes, runs })
  return { files, notes, tied }
}

function applyPlans(
  model: ModelProto,
  payloads: Payload[],
  plans: readonly TensorPlan[],
  fileName: string,
  read: ReadPayload,
): { notes: FileLayout['notes']; tied: { tensor: string; source: string }[] } {
  const { scopes, weights } = collectWeights(model, payloads, read, fileName)
  const edits = new GraphEdits(model, scopes)
  const context = { edits, payloads, opset: defaultOpset(model) ?? 0, irVersion: model.irVersion }
  const sources = new Map<string, string>()
  const tied: { tensor: string; source: string }[] = []
  weights.forEach((weight, index) => {
    const plan = plans[index]
    if (plan?.tensor.name !== weight.info.name) {
      throw new AppError('internal', `plan ${index} is of "${plan?.tensor.name}", the tensor is "${weight.info.name}"`)
    }
    if (plan.action !== 'compress') return
    const source = tiedSource(weight, plan, sources)
    if (source !== weight.info.name) tied.push({ tensor: weight.info.name, source })
    rewriteWeight(context, weight, plan, source)
  })
  return { notes: edits.apply(), tied }
}

/** Tensors that share one byte range and one plan share the parts of the first of them. */
function tiedSource(weight: Weight, plan: TensorPlan, sources: Map<string, string>): string {
  const { data, name, dtype, shape } = weight.info
  if (data.kind !== 'file') return name
  const key = JSON.stringify([data.file, data.offsetBytes, data.lengthBytes, dtype, shape, plan.encode, plan.prune])
  const source = sources.get(key) ?? name
  sources.set(key, source)
  return source
}

/** Moves elements out of the model into a data file; null when no tensor is large enough. Equal ranges stay shared. */
function moveToDataFile(model: ModelProto, payloads: readonly Payload[], name: string): OutputFile | null {
  const runs: OutputRun[] = []
  const placed = new Map<string, number>()
  let end = 0
  const move = (tensor: TensorProto): void => {
    const payload = payloads[payloadIndices(tensor)[0] ?? -1]
    if (!payload || payload.lengthBytes < MIN_EXTERNAL_BYTES || !isRawBytes(payload)) return
    const key = identityOf(payload)
    let offsetBytes = key === null ? undefined : placed.get(key)
    if (offsetBytes === undefined) {
      const alignment = payload.lengthBytes >= PAGE_ALIGNED_FROM_BYTES ? PAGE_BYTES : CACHE_LINE_BYTES
      offsetBytes = Math.ceil(end / alignment) * alignment
      if (offsetBytes > end) {
        runs.push({ kind: 'literal', offsetBytes: end, bytes: new Uint8Array(offsetBytes - end) })
      }
      runs.push(payloadRun(payload, offsetBytes))
      end = offsetBytes + payload.lengthBytes
      if (key !== null) placed.set(key, offsetBytes)
    }
    clearPayload(tensor)
    makeExternal(tensor, name, offsetBytes, payload.lengthBytes)
  }
  visitTensors(model, move)
  return runs.length === 0 ? null : { name, sizeBytes: end, runs }
}

/** float_data and double_data are little-endian elements as raw_data is; varint fields are not. */
function isRawBytes(payload: Payload): boolean {
  return (
    payload.field === TENSOR_FIELD.rawData ||
    payload.field === TENSOR_FIELD.floatData ||
    payload.field === TENSOR_FIELD.doubleData
  )
}

function identityOf(payload: Payload): string | null {
  if (payload.kind === 'part') return JSON.stringify(['part', payload.tensor, payload.part])
  if (payload.data.kind === 'inline') return null
  return JSON.stringify(['file', payload.data.file, payload.data.offsetBytes, payload.data.lengthBytes])
}

function payloadRun(payload: Payload, offsetBytes: number): OutputRun {
  if (payload.kind === 'data') return { kind: 'copy', offsetBytes, from: payload.data }
  const { tensor, part, lengthBytes } = payload
  return { kind: 'part', offsetBytes, lengthBytes, tensor, part }
}

/** Pieces in file order as runs; neighbouring byte pieces become one literal. */
function toRuns(pieces: readonly ExpandedPiece[], payloads: readonly Payload[]): OutputRun[] {
  const runs: OutputRun[] = []
  let offsetBytes = 0
  let pending: Uint8Array[] = []
  const flush = (): void => {
    const bytes = pending.length === 1 ? pending[0]! : Buffer.concat(pending)
    if (bytes.length > 0) runs.push({ kind: 'literal', offsetBytes: offsetBytes - bytes.length, bytes })
    pending = []
  }
  for (const piece of pieces) {
    if (piece.kind === 'bytes') {
      pending.push(piece.bytes)
      offsetBytes += piece.bytes.length
      continue
    }
    if (pending.length > 0) flush()
    const payload = payloads[piece.index]!
    runs.push(payloadRun(payload, offsetBytes))
    offsetBytes += payload.lengthBytes
  }
  if (pending.length > 0) flush()
  return runs
}
