// Small ONNX models for tests, built as protobuf messages. Entry: onnxModel, onnxBytes; one helper a message.

import { create, toBinary } from '@bufbuild/protobuf'
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type FunctionProto,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type SparseTensorProto,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf'
import { seededRandom } from './seeded-random.ts'

/** TensorProto.DataType numbers that tests use. */
export const ONNX = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7, f16: 10, f64: 11, bf16: 16, i4: 22 } as const

/** Roughly normal values in a fixed order, as f32. */
export function weightValues(count: number, seed: number, spread = 0.5): Float32Array<ArrayBuffer> {
  const random = seededRandom(seed)
  return Float32Array.from({ length: count }, () => (random() + random() + random() - 1.5) * 2 * spread)
}

function rawBytes(values: ArrayBufferView<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** A tensor with raw_data. */
export function rawTensor(
  name: string,
  dataType: number,
  dims: readonly number[],
  values: ArrayBufferView<ArrayBuffer>,
): TensorProto {
  return create(TensorProtoSchema, { name, dataType, dims: dims.map(BigInt), rawData: rawBytes(values) })
}

export function floatTensor(name: string, dims: readonly number[], seed: number): TensorProto {
  const count = dims.reduce((product, dim) => product * dim, 1)
  return rawTensor(name, ONNX.f32, dims, weightValues(count, seed))
}

export function intTensor(name: string, values: readonly number[]): TensorProto {
  return rawTensor(name, ONNX.i64, [values.length], BigInt64Array.from(values.map(BigInt)))
}

export function externalTensor(name: string, dims: readonly number[], entries: Record<string, string>): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dataType: ONNX.f32,
    dims: dims.map(BigInt),
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: Object.entries(entries).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value })),
  })
}

export type AttributeValue =
  | string
  | number
  | number[]
  | { float: number }
  | { floats: number[] }
  | TensorProto
  | GraphProto

function isTensor(value: object): value is TensorProto {
  return '$typeName' in value && value.$typeName === 'onnx.TensorProto'
}

function isGraph(value: object): value is GraphProto {
  return '$typeName' in value && value.$typeName === 'onnx.GraphProto'
}

export function attributeOf(name: string, value: AttributeValue): AttributeProto {
  const type = AttributeProto_AttributeType
  if (typeof value === 'number') return create(AttributeProtoSchema, { name, type: type.INT, i: BigInt(value) })
  if (typeof value === 'string') {
    return create(AttributeProtoSchema, { name, type: type.STRING, s: new TextEncoder().encode(value) })
  }
  if (Array.isArray(value)) return create(AttributeProtoSchema, { name, type: type.INTS, ints: value.map(BigInt) })
  if (isTensor(value)) return create(AttributeProtoSchema, { name, type: type.TENSOR, t: value })
  if (isGraph(value)) return create(AttributeProtoSchema, { name, type: type.GRAPH, g: value })
  if ('floats' in value) return create(AttributeProtoSchema, { name, type: type.FLOATS, floats: value.floats })
  return create(AttributeProtoSchema, { name, type: type.FLOAT, f: value.float })
}

export function sparseAttribute(name: string, sparseTensor: SparseTensorProto): AttributeProto {
  return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.SPARSE_TENSOR, sparseTensor })
}

export function node(
  opType: string,
  input: string[],
  output: string[],
  attributes: Record<string, AttributeValue> = {},
  more: { name?: string; domain?: string; extra?: AttributeProto[] } = {},
): NodeProto {
  return create(NodeProtoSchema, {
    opType,
    input,
    output,
    name: more.name ?? `${opType.toLowerCase()}_${output[0] ?? ''}`,
    domain: more.domain ?? '',
    attribute: [...Object.entries(attributes).map(([name, value]) => attributeOf(name, value)), ...(more.extra ?? [])],
  })
}

export function value(name: string, dims: readonly (number | string)[], elemType: number = ONNX.f32): ValueInfoProto {
  const dim = dims.map((size) =>
    create(TensorShapeProto_DimensionSchema, {
      value: typeof size === 'number' ? { case: 'dimValue', value: BigInt(size) } : { case: 'dimParam', value: size },
    }),
  )
  const tensor = create(TypeProto_TensorSchema, { elemType, shape: create(TensorShapeProtoSchema, { dim }) })
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensor } }),
  })
}

export interface GraphParts {
  nodes: NodeProto[]
  inputs?: ValueInfoProto[]
  outputs: ValueInfoProto[]
  initializers?: TensorProto[]
  sparse?: SparseTensorProto[]
  valueInfo?: ValueInfoProto[]
}

export function graph(parts: GraphParts, name = 'g'): GraphProto {
  return create(GraphProtoSchema, {
    name,
    node: parts.nodes,
    input: parts.inputs ?? [],
    output: parts.outputs,
    initializer: parts.initializers ?? [],
    sparseInitializer: parts.sparse ?? [],
    valueInfo: parts.valueInfo ?? [],
  })
}

export interface ModelOptions {
  opset?: number
  ir?: number
  functions?: FunctionProto[]
  domains?: string[]
}

export function onnxModel(parts: GraphParts, options: ModelOptions = {}): ModelProto {
  const opsets = [{ domain: '', version: BigInt(options.opset ?? 17) }]
  for (const domain of options.domains ?? []) opsets.push({ domain, version: 1n })
  return create(ModelProtoSchema, {
    irVersion: BigInt(options.ir ?? 8),
    producerName: 'test',
    opsetImport: opsets.map((entry) => create(OperatorSetIdProtoSchema, entry)),
    graph: graph(parts),
    functions: options.functions ?? [],
    metadataProps: [create(StringStringEntryProtoSchema, { key: 'author', value: 'nobody' })],
  })
}

export function onnxBytes(model: ModelProto): Uint8Array<ArrayBuffer> {
  return toBinary(ModelProtoSchema, model)
}
