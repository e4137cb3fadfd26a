// Protobuf bytes as a tree that can be changed and written again, right or wrong: MessageNode. Unlike a decoder it keeps
// order, repeats, unknown fields and a broken tail, and writes lengths that lie when told to. What is not looked at is not
// parsed: a mutation touches one path of the tree.

import type { DescField, DescMessage } from '@bufbuild/protobuf'
import type { Dice } from './random.ts'

export interface FieldNode {
  readonly number: number
  readonly wire: number
  /** Wire types 0, 1 and 5. */
  readonly value: bigint
  /** Wire type 2 when it is no message; also the bytes of a broken tail. */
  readonly bytes: Uint8Array
  readonly message: MessageNode | null
  readonly field: DescField | null
  /** Written in place of the true length. */
  readonly lie: bigint | null
  /** How it stood in the input, tag included; null for what was made or changed. */
  readonly raw: Uint8Array | null
}

const NO_BYTES = new Uint8Array()
export const BROKEN_TAIL = -1
/** Beyond it the rest stays bytes: an input of a few KiB may nest a thousand levels. */
const MAX_DEPTH = 150
/** Chance to go on to a message inside, where there is one. */
const GO_DEEPER = 0.8

export function fieldNode(number: number, wire: number, part: Partial<FieldNode> = {}): FieldNode {
  return { number, wire, value: 0n, bytes: NO_BYTES, message: null, field: null, lie: null, raw: null, ...part }
}

export function changed(node: FieldNode, part: Partial<FieldNode>): FieldNode {
  return { ...node, raw: null, ...part }
}

export class MessageNode {
  readonly type: DescMessage
  readonly depth: number
  readonly #bytes: Uint8Array
  #fields: FieldNode[] | null = null

  constructor(type: DescMessage, bytes: Uint8Array, depth = 1) {
    this.type = type
    this.#bytes = bytes
    this.depth = depth
  }

  static of(type: DescMessage, fields: FieldNode[]): MessageNode {
    const node = new MessageNode(type, NO_BYTES)
    node.fields = fields
    return node
  }

  /** In order, to be changed in place. */
  get fields(): FieldNode[] {
    this.#fields ??= parseFields(this.#bytes, this.type, this.depth)
    return this.#fields
  }

  set fields(fields: FieldNode[]) {
    this.#fields = fields
  }

  encode(): Uint8Array {
    return this.#fields === null ? this.#bytes : Buffer.concat(this.#fields.flatMap(encodeField))
  }

  /** For use in another place: a message must not come to lie inside of itself. */
  copy(): MessageNode {
    return new MessageNode(this.type, this.encode(), this.depth)
  }

  /** A message of the tree, by a walk from here. */
  pick(dice: Dice): MessageNode {
    const inside = this.fields.filter(({ message }) => message !== null)
    return inside.length > 0 && dice.chance(GO_DEEPER) ? dice.pick(inside).message!.pick(dice) : this
  }
}

function readVarint(bytes: Uint8Array, at: number): { value: bigint; next: number } | null {
  let low = 0
  for (let i = 0; i < 4 && at + i < bytes.length; i++) {
    const byte = bytes[at + i]!
    low |= (byte & 0x7f) << (7 * i)
    if (byte < 0x80) return { value: BigInt(low), next: at + i + 1 }
  }
  let value = BigInt(low)
  for (let i = 4; i < 10 && at + i < bytes.length; i++) {
    const byte = bytes[at + i]!
    value |= BigInt(byte & 0x7f) << BigInt(7 * i)
    if (byte < 0x80) return { value, next: at + i + 1 }
  }
  return null
}

function parseFields(bytes: Uint8Array, type: DescMessage, depth: number): FieldNode[] {
  const fields: FieldNode[] = []
  let at = 0
  while (at < bytes.length) {
    const parsed = parseField(bytes, at, type, depth)
    if (parsed === null) {
      fields.push(fieldNode(0, BROKEN_TAIL, { bytes: bytes.subarray(at) }))
      break
    }
    fields.push(parsed.node)
    at = parsed.next
  }
  return fields
}

function parseField(
  bytes: Uint8Array,
  at: number,
  type: DescMessage,
  depth: number,
): { node: FieldNode; next: number } | null {
  const tag = readVarint(bytes, at)
  if (tag === null || tag.value >= 2n ** 32n) return null
  const number = Number(tag.value >> 3n)
  const wire = Number(tag.value & 7n)
  const field = type.fields.find((entry) => entry.number === number) ?? null
  const start = tag.next
  const made = (next: number, part: Partial<FieldNode>) => {
    return { node: fieldNode(number, wire, { field, raw: bytes.subarray(at, next), ...part }), next }
  }
  if (wire === 0) {
    const varint = readVarint(bytes, start)
    return varint && made(varint.next, { value: varint.value })
  }
  if (wire === 1 || wire === 5) {
    const size = wire === 1 ? 8 : 4
    if (start + size > bytes.length) return null
    let value = 0n
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[start + i]!)
    return made(start + size, { value })
  }
  const length = wire === 2 ? readVarint(bytes, start) : null
  if (length === null || length.value > BigInt(bytes.length - length.next)) return null
  const next = length.next + Number(length.value)
  const inner = bytes.subarray(length.next, next)
  const innerType = depth < MAX_DEPTH ? (field?.message ?? null) : null
  return made(next, innerType ? { message: new MessageNode(innerType, inner, depth + 1) } : { bytes: inner })
}

function varintBytes(value: bigint): number[] {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, value)
  while (rest > 127n) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  return bytes
}

function encodeField(node: FieldNode): Uint8Array[] {
  if (node.wire === BROKEN_TAIL) return [node.bytes]
  if (node.raw !== null && node.message === null) return [node.raw]
  const tag = varintBytes((BigInt(node.number) << 3n) | BigInt(node.wire))
  if (node.wire === 0) return [Uint8Array.from([...tag, ...varintBytes(node.value)])]
  if (node.wire === 1 || node.wire === 5) {
    const size = node.wire === 1 ? 8 : 4
    const fixed = Array.from({ length: size }, (_, i) => Number((node.value >> BigInt(8 * i)) & 0xffn))
    return [Uint8Array.from([...tag, ...fixed])]
  }
  const inner = node.message?.encode() ?? node.bytes
  return [Uint8Array.from([...tag, ...varintBytes(node.lie ?? BigInt(inner.length))]), inner]
}
