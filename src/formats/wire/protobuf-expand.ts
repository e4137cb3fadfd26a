// Puts payloads back into an encoded skeleton and corrects the lengths of all enclosing messages, as a list of pieces: no
// payload byte is held. Entry: expandSkeleton. See protobuf.ts for what a skeleton is.

import type { DescMessage } from '@bufbuild/protobuf'
import {
  decodePayloadMarker,
  encodeVarint,
  PAYLOAD_FIELD,
  WIRE_FIXED32,
  WIRE_FIXED64,
  WIRE_LENGTH,
  WIRE_VARINT,
} from './protobuf.ts'

/** A stretch of an expanded message: bytes as they are, or a payload of `lengthBytes` by its number. */
export type ExpandedPiece = { kind: 'bytes'; bytes: Uint8Array } | { kind: 'payload'; index: number }

interface Expanded {
  pieces: ExpandedPiece[]
  lengthBytes: number
}

/**
 * Puts payloads in the place of their markers and rewrites the lengths of all enclosing messages. `skeleton` is an encoded
 * message of type `root`; `payloadField` tells the field number and length of each payload. Lengths are exact beyond 2^32.
 */
export function expandSkeleton(
  skeleton: Uint8Array,
  root: DescMessage,
  payloadField: (index: number) => { field: number; lengthBytes: number },
): Expanded {
  const childrenOf = new Map<DescMessage, Map<number, DescMessage>>()
  const children = (message: DescMessage): Map<number, DescMessage> => {
    let table = childrenOf.get(message)
    if (!table) {
      table = new Map(
        message.fields.flatMap((field) => (field.message ? [[field.number, field.message] as const] : [])),
      )
      childrenOf.set(message, table)
    }
    return table
  }
  let at = 0
  const varint = (): number => {
    let value = 0
    let scale = 1
    for (;;) {
      const byte = skeleton[at++]!
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
      scale *= 128
    }
  }

  const expand = (message: DescMessage, end: number): Expanded | null => {
    const table = children(message)
    const pieces: ExpandedPiece[] = []
    let lengthBytes = 0
    let plainFrom = at
    const start = at
    const plain = (to: number): void => {
      if (to > plainFrom) pieces.push({ kind: 'bytes', bytes: skeleton.subarray(plainFrom, to) })
      lengthBytes += to - plainFrom
    }
    const literal = (bytes: number[]): void => {
      pieces.push({ kind: 'bytes', bytes: Uint8Array.from(bytes) })
      lengthBytes += bytes.length
    }
    while (at < end) {
      const tagStart = at
      const tag = varint()
      const number = Math.floor(tag / 8)
      const wire = tag % 8
      if (wire === WIRE_VARINT) varint()
      else if (wire === WIRE_FIXED32) at += 4
      else if (wire === WIRE_FIXED64) at += 8
      else {
        const length = varint()
        const valueEnd = at + length
        const child = table.get(number)
        if (number === PAYLOAD_FIELD) {
          const index = decodePayloadMarker(skeleton.subarray(at, valueEnd))
          const payload = payloadField(index)
          plain(tagStart)
          literal([...encodeVarint(payload.field * 8 + WIRE_LENGTH), ...encodeVarint(payload.lengthBytes)])
          if (payload.lengthBytes > 0) pieces.push({ kind: 'payload', index })
          lengthBytes += payload.lengthBytes
          plainFrom = valueEnd
        } else if (child) {
          const inner = expand(child, valueEnd)
          if (inner) {
            plain(tagStart)
            literal([...encodeVarint(tag), ...encodeVarint(inner.lengthBytes)])
            for (const piece of inner.pieces) pieces.push(piece)
            lengthBytes += inner.lengthBytes
            plainFrom = valueEnd
          }
        }
        at = valueEnd
      }
    }
    if (plainFrom === start && pieces.length === 0) return null
    plain(end)
    return { pieces, lengthBytes }
  }
  return (
    expand(root, skeleton.length) ?? {
      pieces: skeleton.length > 0 ? [{ kind: 'bytes', bytes: skeleton }] : [],
      lengthBytes: skeleton.length,
    }
  )
}
