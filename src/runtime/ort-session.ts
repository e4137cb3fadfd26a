// The only importer of onnxruntime-node: one model, loaded from its path and run on the CPU with explicit settings. Entry:
// openSession. Calls block this process and may abort it (native code), so only short-lived children import this file.

import './disable-telemetry.ts'
import { dirname, sep } from 'node:path'
import type { InferenceSession, Tensor } from 'onnxruntime-node'
import { AppError } from '../errors.ts'
import { DTYPES, type DType, elementCount } from '../tensor/dtype.ts'
import { float16ToNumber } from '../tensor/float16.ts'

/** Not by an import declaration: where modules are joined, those of packages run before all of ours. */
const ort = await import('onnxruntime-node')

export interface SessionSettings {
  /** Intra-op threads; inter-op is always 1. */
  threads: number
  /** '1' avoids the saturating u8 x s8 product on x86 without VNNI; null leaves onnxruntime's default. */
  x64QuantPrecision: '1' | null
}

/** Little-endian, C-order bytes of one input. */
export interface InputTensor {
  dtype: DType
  dims: readonly number[]
  data: Uint8Array
}

/** Values of one output as numbers; 64-bit integers beyond 2^53 are rounded. */
export interface OutputTensor {
  dtype: DType
  dims: number[]
  values: Float32Array | Float64Array
}

export interface ValueInfo {
  name: string
  /** null: not a tensor, or of an element type that cannot cross into JavaScript. */
  dtype: DType | null
  shape: (number | string)[]
}

export interface ModelSession {
  inputs: ValueInfo[]
  outputs: ValueInfo[]
  /** Runs once. Blocks. Throws AppError validation_failed with onnxruntime's message. */
  run(feeds: Record<string, InputTensor>): Promise<Map<string, OutputTensor>>
  release(): Promise<void>
}

const DTYPE_OF_ORT: Readonly<Record<string, DType>> = {
  float32: 'f32',
  float64: 'f64',
  float16: 'f16',
  int8: 'i8',
  uint8: 'u8',
  int16: 'i16',
  uint16: 'u16',
  int32: 'i32',
  uint32: 'u32',
  int64: 'i64',
  uint64: 'u64',
  bool: 'bool',
}

const ORT_OF_DTYPE = new Map(Object.entries(DTYPE_OF_ORT).map(([name, dtype]) => [dtype, name as Tensor.Type]))

/** Element types of graph inputs and outputs that cross into JavaScript; others abort or refuse to load. */
export const RUNNABLE_DTYPES: ReadonlySet<DType> = new Set(ORT_OF_DTYPE.keys())

/**
 * Where Float16Array exists (Node 24 on), onnxruntime-common wants it for float16, and the native binding of 1.30 reads such
 * an array as empty ("not enough space: expected 8, got 0"). It looks for the class once, at the first tensor: hidden at
 * that moment, float16 travels as Uint16Array bit patterns in both directions, which the binding does read.
 */
function useBitPatternsForFloat16(): void {
  const float16Array = Object.getOwnPropertyDescriptor(globalThis, 'Float16Array')
  if (float16Array === undefined) return
  Reflect.deleteProperty(globalThis, 'Float16Array')
  new ort.Tensor('uint8', new Uint8Array(1), [1])
  Object.defineProperty(globalThis, 'Float16Array', float16Array)
}

useBitPatternsForFloat16()

export const ORT_VERSION: string = ort.env.versions.node ?? ort.env.versions.common

/** Severity "error": warnings about unused initializers would fill the log of a server. */
const LOG_ERRORS_ONLY = 3

/** Loads the model at `path` (external data beside it). Throws AppError validation_failed. */
export async function openSession(path: string, settings: SessionSettings): Promise<ModelSession> {
  const options: InferenceSession.SessionOptions = {
    executionProviders: ['cpu'],
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    intraOpNumThreads: settings.threads,
    interOpNumThreads: 1,
    logSeverityLevel: LOG_ERRORS_ONLY,
    ...(settings.x64QuantPrecision === null
      ? {}
      : { extra: { session: { x64quantprecision: settings.x64QuantPrecision } } }),
  }
  const folder = dirname(path)
  const session = await attempt('load', folder, () => ort.InferenceSession.create(path, options))
  const outputs = session.outputMetadata.map(describe)
  const fetches = outputs.filter(({ dtype }) => dtype !== null).map(({ name }) => name)
  return {
    inputs: session.inputMetadata.map(describe),
    outputs,
    run: async (feeds) => {
      const tensors: Record<string, Tensor> = {}
      for (const [name, input] of Object.entries(feeds)) tensors[name] = toOrt(input)
      const results = await attempt('run', folder, () => session.run(tensors, fetches))
      return new Map(fetches.map((name) => [name, fromOrt(results[name]!)]))
    },
    release: () => session.release(),
  }
}

/** onnxruntime names files by their whole path; where a server keeps its models is nobody else's business. */
async function attempt<T>(what: 'load' | 'run', folder: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    const message = (error instanceof Error ? error.message : String(error))
      .replaceAll(`${folder}${sep}`, '')
      .replace(/\s+/g, ' ')
      .slice(0, 600)
    throw new AppError(
      'validation_failed',
      `onnxruntime could not ${what} the model: ${message}`,
      { stage: what },
      error,
    )
  }
}

function describe(metadata: InferenceSession.ValueMetadata): ValueInfo {
  if (!metadata.isTensor) return { name: metadata.name, dtype: null, shape: [] }
  return { name: metadata.name, dtype: DTYPE_OF_ORT[metadata.type] ?? null, shape: [...metadata.shape] }
}

function toOrt({ dtype, dims, data }: InputTensor): Tensor {
  const type = ORT_OF_DTYPE.get(dtype)
  if (type === undefined) {
    throw new AppError('dtype_unsupported', `${dtype} cannot be given to onnxruntime from JavaScript`, { dtype })
  }
  const size = DTYPES[dtype].bits / 8
  const elements = elementCount(dims)
  const aligned = data.byteOffset % size === 0 ? data : data.slice()
  const { buffer, byteOffset } = aligned
  // The constructor's overloads tie each type to its array; the pairs below are those, chosen at run time.
  const make = (array: ArrayBufferView) => new ort.Tensor(type as 'float32', array as Float32Array, dims)
  switch (dtype) {
    case 'f32':
      return make(new Float32Array(buffer, byteOffset, elements))
    case 'f64':
      return make(new Float64Array(buffer, byteOffset, elements))
    case 'i8':
      return make(new Int8Array(buffer, byteOffset, elements))
    case 'i16':
      return make(new Int16Array(buffer, byteOffset, elements))
    case 'f16':
    case 'u16':
      return make(new Uint16Array(buffer, byteOffset, elements))
    case 'i32':
      return make(new Int32Array(buffer, byteOffset, elements))
    case 'u32':
      return make(new Uint32Array(buffer, byteOffset, elements))
    case 'i64':
      return make(new BigInt64Array(buffer, byteOffset, elements))
    case 'u64':
      return make(new BigUint64Array(buffer, byteOffset, elements))
    default:
      return make(new Uint8Array(buffer, byteOffset, elements))
  }
}

function fromOrt(tensor: Tensor): OutputTensor {
  const dtype = DTYPE_OF_ORT[tensor.type]
  if (dtype === undefined) {
    throw new AppError('dtype_unsupported', `output of type ${tensor.type} cannot be compared`, { dtype: tensor.type })
  }
  return { dtype, dims: [...tensor.dims], values: toNumbers(dtype, tensor.data) }
}

function toNumbers(dtype: DType, data: Tensor['data']): Float32Array | Float64Array {
  if (data instanceof Float32Array || data instanceof Float64Array) return data
  if (dtype === 'f16' && data instanceof Uint16Array) return Float32Array.from(data, float16ToNumber)
  const values = new Float64Array(data.length)
  for (let i = 0; i < values.length; i++) values[i] = Number(data[i])
  return values
}
