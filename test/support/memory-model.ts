// A model in memory for planner and executor tests: tensors given as arrays, every encoding legal unless said otherwise, and a
// layout that writes all parts one after the other into one file. It parses nothing.

import { byteLength, type DType, elementCount } from '../../src/tensor/dtype.ts'
import type {
  EncodingKind,
  EncodingSupport,
  FileLayout,
  MatrixView,
  ModelReader,
  OutputRun,
  TensorInfo,
  WeightRole,
} from '../../src/tensor/model.ts'

export interface MemoryTensor {
  name: string
  shape: number[]
  values: Float32Array | Uint8Array
  dtype?: DType
  roles?: WeightRole[]
  /** Channel axis of the scaled forms; default 0. */
  axis?: number | null
  /** Default: rank 2 is [N,K] when the axis is 0, [K,N] when it is 1. */
  matrix?: MatrixView | null
  /** Replaces single encodings. */
  encodings?: Partial<Record<EncodingKind, EncodingSupport>>
  locked?: TensorInfo['locked']
}

const KINDS: EncodingKind[] = [
  'dense',
  'float16',
  'bfloat16',
  'scaled-int8',
  'scaled-int4',
  'block-packed',
  'dynamic-int8',
]

function tensorInfo(tensor: MemoryTensor): TensorInfo {
  const axis = tensor.axis === undefined ? 0 : tensor.axis
  const [rows = 1, cols = 1] = tensor.shape
  const natural: MatrixView = axis === 1 ? { k: rows, n: cols, order: 'kn' } : { k: cols, n: rows, order: 'nk' }
  const matrix = tensor.matrix === undefined ? (tensor.shape.length === 2 ? natural : null) : tensor.matrix
  const support = (kind: EncodingKind): EncodingSupport => {
    const needsMatrix = kind === 'block-packed' || kind === 'dynamic-int8'
    if (needsMatrix && matrix === null) return { ok: false, reason: 'encoding_unsupported', detail: 'not a matrix' }
    return { ok: true, channelAxis: axis, matrix: needsMatrix ? matrix : null }
  }
  return {
    name: tensor.name,
    dtype: tensor.dtype ?? 'f32',
    shape: tensor.shape,
    data: {
      kind: 'inline',
      bytes: new Uint8Array(tensor.values.buffer, tensor.values.byteOffset, tensor.values.byteLength),
    },
    roles: tensor.roles ?? ['matmul'],
    uses: [],
    locked: tensor.locked ?? null,
    encodings: {
      ...(Object.fromEntries(KINDS.map((kind) => [kind, support(kind)])) as TensorInfo['encodings']),
      ...tensor.encodings,
    },
    channelAxis: axis,
  }
}

export function memoryModel(tensors: MemoryTensor[], format: 'onnx' | 'safetensors' = 'onnx'): ModelReader {
  const infos = tensors.map(tensorInfo)
  return {
    files: [],
    summary: {
      format,
      irVersion: null,
      opset: null,
      producer: null,
      inputs: [],
      outputs: [],
      metadata: {},
      alreadyCompressed: [],
      notes: [],
    },
    tensors: infos,
    layout(plans, options): FileLayout {
      const runs: OutputRun[] = []
      let at = 0
      for (const plan of plans) {
        if (plan.action === 'keep') {
          runs.push({ kind: 'copy', offsetBytes: at, from: plan.tensor.data })
          at += plan.bytesBefore
          continue
        }
        for (const part of plan.outputs) {
          runs.push({
            kind: 'part',
            offsetBytes: at,
            lengthBytes: part.lengthBytes,
            tensor: plan.tensor.name,
            part: part.part,
          })
          at += part.lengthBytes
        }
      }
      return { files: [{ name: options.fileName, sizeBytes: at, runs }], notes: [] }
    },
    async read(data, offsetBytes, into) {
      if (data.kind !== 'inline') throw new Error('this model is in memory')
      if (offsetBytes + into.length > data.bytes.length) throw new RangeError('read past the end of a tensor')
      into.set(data.bytes.subarray(offsetBytes, offsetBytes + into.length))
    },
    async close() {},
  }
}

export function checkMemoryTensor(tensor: MemoryTensor): void {
  const expected = byteLength(tensor.dtype ?? 'f32', elementCount(tensor.shape))
  if (tensor.values.byteLength !== expected) throw new RangeError(`${tensor.name} should have ${expected} bytes`)
}
