// Node attributes by name, with ONNX defaults, and the making of new ones and of nodes.

import { create } from '@bufbuild/protobuf'
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
} from 'onnx-buf'

export function attribute(node: NodeProto, name: string): AttributeProto | undefined {
  return node.attribute.find((candidate) => candidate.name === name)
}

/** An INT attribute as a number; `fallback` when absent. Values beyond 2^53 lose digits, which no caller compares. */
export function intAttribute(node: NodeProto, name: string, fallback: number): number {
  const found = attribute(node, name)
  return found ? Number(found.i) : fallback
}

export function floatAttribute(node: NodeProto, name: string, fallback: number): number {
  const found = attribute(node, name)
  return found ? found.f : fallback
}

/** An INTS attribute, or null when absent. */
export function intsAttribute(node: NodeProto, name: string): number[] | null {
  const found = attribute(node, name)
  return found ? found.ints.map(Number) : null
}

/** True for operators of the default domain, under both of its names. */
export function isStandard(node: NodeProto): boolean {
  return node.domain === '' || node.domain === 'ai.onnx'
}

export function makeInt(name: string, value: number): AttributeProto {
  return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INT, i: BigInt(value) })
}

export function makeInts(name: string, values: readonly number[]): AttributeProto {
  return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INTS, ints: values.map(BigInt) })
}

export function makeTensorAttribute(name: string, tensor: TensorProto): AttributeProto {
  return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.TENSOR, t: tensor })
}

export function makeNode(
  opType: string,
  name: string,
  input: string[],
  output: string[],
  attributes: AttributeProto[] = [],
): NodeProto {
  return create(NodeProtoSchema, { opType, name, input, output, attribute: attributes })
}
