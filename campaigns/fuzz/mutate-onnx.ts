// Mutations of ONNX files that know the schema: fields removed, repeated, moved between messages of one kind, numbers at their
// edges, element types and operators exchanged, names made to meet, lengths that lie, subgraphs inside of subgraphs, elements
// moved to other fields. Entry: mutateOnnx.

import { type DescMessage, ScalarType } from '@bufbuild/protobuf'
import {
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  StringStringEntryProtoSchema,
  TensorProtoSchema,
} from 'onnx-buf'
import { EDGE_NUMBERS, mutateBytes } from './mutate-bytes.ts'
import { BROKEN_TAIL, changed, type FieldNode, fieldNode, MessageNode } from './protobuf-tree.ts'
import type { Dice } from './random.ts'

const OPERATORS = [
  'MatMul',
  'Gemm',
  'Conv',
  'ConvTranspose',
  'LSTM',
  'GRU',
  'Gather',
  'Reshape',
  'Transpose',
  'Identity',
  'Cast',
  'Constant',
  'Squeeze',
  'Unsqueeze',
  'If',
  'Loop',
  'Scan',
  'QuantizeLinear',
  'DequantizeLinear',
  'DynamicQuantizeLinear',
  'MatMulNBits',
  'BatchNormalization',
  'LayerNormalization',
  'Add',
  'Flatten',
  'Concat',
  'ConstantOfShape',
]

const ATTRIBUTES = [
  'value',
  'sparse_value',
  'value_floats',
  'value_ints',
  'then_branch',
  'body',
  'perm',
  'axis',
  'transB',
  'to',
  'K',
  'N',
  'bits',
  'block_size',
]

const KNOWN_TEXTS = [
  '',
  'location',
  'offset',
  'length',
  'checksum',
  'weights.bin',
  '../weights.bin',
  'ai.onnx',
  'com.microsoft',
  'x',
  '\ufffd',
  '\u00e9'.repeat(40),
]

export function mutateOnnx(bytes: Uint8Array, other: Uint8Array, dice: Dice): Uint8Array {
  if (dice.chance(0.1)) return mutateBytes(bytes, other, dice)
  const root = new MessageNode(ModelProtoSchema, bytes)
  const message = root.pick(dice)
  if (message.fields.length === 0) return mutateBytes(bytes, other, dice)
  change(message, root, new MessageNode(ModelProtoSchema, other), dice)
  return root.encode()
}

/** A message of that type from one of the two models; null when a few walks meet none. */
function another(type: DescMessage, root: MessageNode, other: MessageNode, dice: Dice): MessageNode | null {
  const from = dice.chance(0.5) ? root : other
  for (let walk = 0; walk < 6; walk++) {
    const found = from.pick(dice)
    if (found.type === type) return found.copy()
  }
  return null
}

function change(message: MessageNode, root: MessageNode, other: MessageNode, dice: Dice): void {
  const { fields } = message
  const at = dice.below(fields.length)
  const node = fields[at]!
  switch (dice.below(16)) {
    case 0:
      fields.splice(at, dice.few(4))
      return
    case 1:
      fields.splice(dice.below(fields.length), 0, ...fields.slice(at, at + dice.few(3)).map(copyOf))
      return
    case 2: {
      const second = dice.below(fields.length)
      fields[at] = fields[second]!
      fields[second] = node
      return
    }
    case 3: {
      const source = another(message.type, root, other, dice) ?? message.copy()
      const from = dice.below(source.fields.length + 1)
      fields.splice(at, dice.below(2), ...source.fields.slice(from, from + dice.few(4)))
      return
    }
    case 4:
      fields[at] = changed(node, { lie: dice.pick(EDGE_NUMBERS) })
      return
    case 5:
      fields[at] = changed(node, { wire: dice.below(8), message: null })
      return
    case 6:
      fields[at] = changed(node, {
        number: dice.chance(0.7) ? 1 + dice.below(27) : dice.pick([0, 19_000, 2 ** 28, 2 ** 29 - 1]),
      })
      return
    case 7:
      nest(message, dice)
      return
    case 8:
      if (message.type === TensorProtoSchema) changeTensor(message, dice)
      else changeValue(message, at, root, other, dice)
      return
    default:
      changeValue(message, at, root, other, dice)
  }
}

function copyOf(node: FieldNode): FieldNode {
  return node.message ? { ...node, message: node.message.copy() } : node
}

function changeValue(message: MessageNode, at: number, root: MessageNode, other: MessageNode, dice: Dice): void {
  const node = message.fields[at]!
  if (node.message) {
    const instead = another(node.message.type, root, other, dice)
    if (instead) message.fields[at] = changed(node, { message: instead })
    return
  }
  if (node.wire === 2 || node.wire === BROKEN_TAIL) {
    message.fields[at] = changed(node, { bytes: changeText(node, message, root, dice) })
    return
  }
  const isType = node.field?.name === 'data_type' || node.field?.name === 'elem_type'
  let value = dice.chance(0.5) ? dice.pick(EDGE_NUMBERS) : node.value + BigInt(dice.below(9) - 4)
  if (isType && dice.chance(0.9)) value = BigInt(dice.below(30))
  message.fields[at] = changed(node, { value: BigInt.asUintN(64, dice.chance(0.1) ? -value : value) })
}

/** Strings of the model, from a few walks: a name that is used elsewhere makes ties, cycles and doubles. */
function someText(root: MessageNode, dice: Dice): Uint8Array | null {
  for (let walk = 0; walk < 4; walk++) {
    const texts = root.pick(dice).fields.filter(({ field, bytes }) => isString(field) && bytes.length < 100)
    if (texts.length > 0) return dice.pick(texts).bytes
  }
  return null
}

function isString(field: FieldNode['field']): boolean {
  return field !== null && field.scalar === ScalarType.STRING
}

function changeText(node: FieldNode, message: MessageNode, root: MessageNode, dice: Dice): Uint8Array {
  const name = node.field?.name
  if (name === 'op_type' && dice.chance(0.7)) return Buffer.from(dice.pick(OPERATORS))
  if (name === 'name' && message.type === AttributeProtoSchema && dice.chance(0.6)) {
    return Buffer.from(dice.pick(ATTRIBUTES))
  }
  if (!isString(node.field)) return mutateBytes(node.bytes, node.bytes, dice)
  if (dice.chance(0.5)) {
    const text = someText(root, dice)
    if (text) return text
  }
  if (dice.chance(0.3)) return Buffer.from(dice.chance(0.1) ? 'n'.repeat(5000) : dice.pick(KNOWN_TEXTS))
  if (dice.chance(0.05)) return mutateBytes(node.bytes, Uint8Array.of(0xc3, 0x28, 0x80, 0xff, 0, 7), dice)
  const text = Buffer.from(node.bytes).toString()
  const at = dice.below(text.length + 1)
  return Buffer.from(
    text.slice(0, at) + dice.pick(['', 'x', '/', '\0', '"', '\u00e9']) + text.slice(at + dice.below(2)),
  )
}

/** Elements in another field, twice, of another length; dims added and removed. */
function changeTensor(message: MessageNode, dice: Dice): void {
  const { fields } = message
  const dims = fields.filter(({ number }) => number === 1)
  switch (dice.below(5)) {
    case 0:
      fields.push(fieldNode(1, 0, { value: dice.pick([0n, 1n, 2n, 3n, 2n ** 31n, 2n ** 60n, 2n ** 64n - 1n]) }))
      return
    case 1: {
      const dim = dims.length > 0 ? dice.pick(dims) : undefined
      if (dim) fields.splice(fields.indexOf(dim), 1)
      return
    }
    case 2: {
      const data = fields.find(({ number }) => number === 9)
      const number = dice.pick([4, 5, 6, 7, 9, 10, 11])
      if (data) fields[fields.indexOf(data)] = changed(data, { number, field: null })
      return
    }
    case 3: {
      const data = fields.find(({ number }) => number === 9 || number === 4)
      const half = (data?.bytes.length ?? 0) >> 1
      if (data) fields.push(changed(data, { bytes: data.bytes.subarray(half) }))
      return
    }
    default: {
      const entry = (key: string, value: string) => {
        const inner = [fieldNode(1, 2, { bytes: Buffer.from(key) }), fieldNode(2, 2, { bytes: Buffer.from(value) })]
        fields.push(fieldNode(13, 2, { message: MessageNode.of(StringStringEntryProtoSchema, inner) }))
      }
      fields.push(fieldNode(14, 0, { value: 1n }))
      entry('location', dice.pick(['weights.bin', 'more.bin', '/etc/passwd', '..', 'model.onnx', '']))
      entry(
        dice.pick(['offset', 'length', 'location']),
        dice.pick(['0', '4', '64', '-1', '1e3', '9007199254740993', '']),
      )
    }
  }
}

/** The graph inside of an attribute of a node of a graph of its own, some times over. */
function nest(message: MessageNode, dice: Dice): void {
  if (message.type !== GraphProtoSchema) {
    message.fields.push(...message.fields.slice(0, 2).map(copyOf))
    return
  }
  const depth = dice.chance(0.3) ? 20 + dice.below(60) : 1 + dice.below(3)
  let inner = message.copy()
  for (let i = 0; i < depth; i++) {
    const attribute = MessageNode.of(AttributeProtoSchema, [
      fieldNode(1, 2, { bytes: Buffer.from('body') }),
      fieldNode(20, 0, { value: 5n }),
      fieldNode(6, 2, { message: inner }),
    ])
    const node = MessageNode.of(NodeProtoSchema, [
      fieldNode(4, 2, { bytes: Buffer.from(dice.pick(['Loop', 'If', 'Scan'])) }),
      fieldNode(5, 2, { message: attribute }),
    ])
    inner = MessageNode.of(GraphProtoSchema, [fieldNode(1, 2, { message: node })])
  }
  message.fields = inner.fields
}
