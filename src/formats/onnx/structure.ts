// The structure of an ONNX file without its tensor bytes: read by the skeleton scanner, decoded to ModelProto with every
// unknown and newer field kept, and encoded again. Entry: scanModel, decodeModel, encodeModel. Tensor bytes are payloads,
// found by payloadOf(tensor); placing them is the caller's part (layout.ts).

import { create, type DescField, type DescMessage, fromBinary, toBinary } from '@bufbuild/protobuf'
import { nestedTypes } from '@bufbuild/protobuf/reflect'
import {
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type SparseTensorProto,
  type TensorProto,
  TensorProtoSchema,
} from 'onnx-buf'
import { AppError } from '../../errors.ts'
import type { PartName, TensorData } from '../../tensor/model.ts'
import { ByteSource } from '../wire/byte-source.ts'
import { decodePayloadMarker, encodePayloadMarker, PAYLOAD_FIELD, WIRE_LENGTH } from '../wire/protobuf.ts'
import { type ExpandedPiece, expandSkeleton } from '../wire/protobuf-expand.ts'
import { scanSkeleton } from '../wire/protobuf-scan.ts'
import { TENSOR_FIELD } from './tensor-types.ts'

// A value that is newer than the schema must survive. The runtime (2.17.0) keeps that of a closed enum as an unknown field, and
// loses it when the message has any other unknown field, as our marker is one; that of an open enum is a number like others.
for (const type of nestedTypes(ModelProtoSchema.file)) {
  if (type.kind === 'enum') (type as { open: boolean }).open = true
}

/** Elements of a tensor that stand outside of the structure, and the TensorProto field that they are written as. */
export type Payload =
  | { kind: 'data'; field: number; data: TensorData; lengthBytes: number }
  | { kind: 'part'; field: number; tensor: string; part: PartName; lengthBytes: number }

/** A scanned file: its encoded skeleton and its payloads, by the number in their markers. */
export interface ScannedModel {
  skeleton: Uint8Array<ArrayBuffer>
  payloads: Payload[]
}

function payloadRule(message: DescMessage, field: DescField): 'always' | 'large' | null {
  if (message !== TensorProtoSchema) return null
  switch (field.number) {
    case TENSOR_FIELD.floatData:
    case TENSOR_FIELD.doubleData:
      return 'always'
    case TENSOR_FIELD.rawData:
    case TENSOR_FIELD.int32Data:
    case TENSOR_FIELD.int64Data:
    case TENSOR_FIELD.uint64Data:
      return 'large'
    default:
      return null
  }
}

/** Scans the open main file; payload ranges refer to files[fileIndex]. Throws format_*, limit_exceeded. */
export function scanModel(fd: number, name: string, sizeBytes: number, fileIndex: number): ScannedModel {
  if (sizeBytes === 0) throw new AppError('format_truncated', `"${name}" is empty`, { file: name, sizeBytes })
  const scanned = scanSkeleton(new ByteSource(fd, name, sizeBytes), ModelProtoSchema, payloadRule)
  const payloads = scanned.payloads.map((payload): Payload => {
    const data: TensorData =
      payload.kind === 'range'
        ? {
            kind: 'file',
            file: fileIndex,
            offsetBytes: payload.offsetBytes,
            lengthBytes: payload.lengthBytes,
          }
        : { kind: 'inline', bytes: payload.bytes }
    const lengthBytes = payload.kind === 'range' ? payload.lengthBytes : payload.bytes.length
    return { kind: 'data', field: payload.field, data, lengthBytes }
  })
  return { skeleton: scanned.bytes, payloads }
}

/** A fresh, editable ModelProto of the skeleton. */
export function decodeModel(skeleton: Uint8Array, name: string): ModelProto {
  try {
    return fromBinary(ModelProtoSchema, skeleton)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new AppError('format_invalid', `"${name}" is not a valid ONNX model: ${reason}`, { file: name })
  }
}

/** The encoded skeleton of an edited model, markers included. */
export function encodeSkeleton(model: ModelProto): Uint8Array<ArrayBuffer> {
  return toBinary(ModelProtoSchema, model)
}

/** The pieces of the whole file, and its length. */
export function encodeModel(
  model: ModelProto,
  payloads: readonly Payload[],
): { pieces: ExpandedPiece[]; lengthBytes: number } {
  return expandSkeleton(encodeSkeleton(model), ModelProtoSchema, (index) => payloads[index]!)
}

/** Numbers of the payloads of a tensor (several only in files that give elements twice). */
export function payloadIndices(tensor: TensorProto): number[] {
  return (tensor.$unknown ?? [])
    .filter((field) => field.no === PAYLOAD_FIELD)
    .map((field) => decodePayloadMarker(field.data.subarray(1)))
}

export function clearPayload(tensor: TensorProto): void {
  if (tensor.$unknown) tensor.$unknown = tensor.$unknown.filter((field) => field.no !== PAYLOAD_FIELD)
}

/** Makes payload `index` the elements of the tensor. A marker is at most 5 bytes, so its length prefix is one. */
export function setPayload(tensor: TensorProto, index: number): void {
  clearPayload(tensor)
  const marker = encodePayloadMarker(index)
  const data = Uint8Array.from([marker.length, ...marker])
  tensor.$unknown = [...(tensor.$unknown ?? []), { no: PAYLOAD_FIELD, wireType: WIRE_LENGTH, data }]
}

/** A new tensor whose elements are raw_data payload `index`. */
export function payloadTensor(name: string, dataType: number, shape: readonly number[], index: number): TensorProto {
  const tensor = create(TensorProtoSchema, { dims: shape.map((dim) => BigInt(dim)), dataType })
  if (name !== '') tensor.name = name
  setPayload(tensor, index)
  return tensor
}

/** Calls `visit` for every TensorProto of the model, wherever it is, in file order of its containers. */
export function visitTensors(model: ModelProto, visit: (tensor: TensorProto) => void): void {
  const sparse = (tensor: SparseTensorProto): void => {
    if (tensor.values) visit(tensor.values)
    if (tensor.indices) visit(tensor.indices)
  }
  const attributes = (list: NodeProto['attribute']): void => {
    for (const attribute of list) {
      if (attribute.t) visit(attribute.t)
      for (const tensor of attribute.tensors) visit(tensor)
      if (attribute.sparseTensor) sparse(attribute.sparseTensor)
      for (const tensor of attribute.sparseTensors) sparse(tensor)
      if (attribute.g) graph(attribute.g)
      for (const inner of attribute.graphs) graph(inner)
    }
  }
  const graph = (proto: GraphProto): void => {
    for (const tensor of proto.initializer) visit(tensor)
    for (const tensor of proto.sparseInitializer) sparse(tensor)
    for (const node of proto.node) attributes(node.attribute)
  }
  if (model.graph) graph(model.graph)
  for (const training of model.trainingInfo) {
    if (training.initialization) graph(training.initialization)
    if (training.algorithm) graph(training.algorithm)
  }
  for (const fn of model.functions) {
    for (const node of fn.node) attributes(node.attribute)
    attributes(fn.attributeProto)
  }
}
