// Walks a protobuf file with its message descriptors and copies all of it but the long fields ("payloads"), which it only
// locates. Entry: scanSkeleton. See protobuf.ts for what a skeleton is. Everything that a decoder would trust is checked
// here: wire types, lengths, UTF-8, nesting, repeated singular messages.

import { isUtf8 } from 'node:buffer'
import type { DescMessage } from '@bufbuild/protobuf'
import { AppError } from '../../errors.ts'
import { type ByteSource, WINDOW_BYTES } from './byte-source.ts'
import { encodePayloadMarker, PAYLOAD_FIELD, WIRE_FIXED32, WIRE_FIXED64, WIRE_LENGTH, WIRE_VARINT } from './protobuf.ts'
import {
  checkPacked,
  checkVarints,
  type FieldFacts,
  FieldTable,
  INLINE_PAYLOAD_BYTES,
  type PayloadRule,
} from './protobuf-fields.ts'
import { WireReader } from './protobuf-reader.ts'
import { StructureBuffer } from './structure-buffer.ts'

/** Nesting of messages, the root being 1. Equal to the default limit of the protobuf runtimes that will read the artifact. */
export const MAX_MESSAGE_DEPTH = 100

/** Fields and packed elements outside of payloads: numbers and strings of the decoded model, some tens of bytes each. */
export const MAX_STRUCTURE_FIELDS = 6_000_000

/**
 * Messages: objects of the decoded model, about 450 bytes each as measured with nodes, three times that where every node
 * holds a subgraph. 80,000 nodes with attributes and shapes are about 1,000,000; large language models have up to 30,000.
 */
export const MAX_STRUCTURE_MESSAGES = 1_000_000

/** A long field: a range of the file, or gathered bytes when it was written in pieces. `field` is its number. */
export type ScannedPayload =
  | { kind: 'range'; field: number; offsetBytes: number; lengthBytes: number }
  | { kind: 'bytes'; field: number; bytes: Uint8Array }

export interface Skeleton {
  bytes: Uint8Array<ArrayBuffer>
  payloads: ScannedPayload[]
}

/** Payload fields seen so far in one message, by field number. */
interface Collected {
  range: { offsetBytes: number; lengthBytes: number } | null
  /** Elements of a field that was written in pieces, in order. */
  gathered: StructureBuffer | null
  /** Set when a part of the field went into the skeleton, so that order would be lost if another part were taken out. */
  inStructure: boolean
}

class Scanner {
  readonly #source: ByteSource
  readonly #reader: WireReader
  readonly #table: FieldTable
  readonly out: StructureBuffer
  readonly payloads: ScannedPayload[] = []
  #fieldCount = 0
  #messageCount = 0

  constructor(source: ByteSource, rule: PayloadRule) {
    this.#source = source
    this.#reader = new WireReader(source)
    this.#table = new FieldTable(rule)
    this.out = new StructureBuffer(source.name)
  }

  #count(fields: number): void {
    this.#fieldCount += fields
    this.#refuseBeyond('MAX_STRUCTURE_FIELDS', 'fields', MAX_STRUCTURE_FIELDS, this.#fieldCount)
  }

  #refuseBeyond(limit: string, what: string, allowed: number, requested: number): void {
    if (requested <= allowed) return
    throw new AppError(
      'limit_exceeded',
      `"${this.#source.name}" holds more than ${allowed} ${what} outside of its tensor bytes`,
      { file: this.#source.name, limit, allowed, requested },
    )
  }

  #copy(lengthBytes: number): void {
    this.out.reserve(lengthBytes)
    this.#source.bytes(this.out.bytes.subarray(this.out.length, this.out.length + lengthBytes))
    this.out.length += lengthBytes
  }

  scanMessage(message: DescMessage, end: number, depth: number): void {
    if (depth > MAX_MESSAGE_DEPTH) {
      throw new AppError(
        'limit_exceeded',
        `"${this.#source.name}", byte ${this.#source.position}: messages are nested deeper than ${MAX_MESSAGE_DEPTH}`,
        { file: this.#source.name, limit: 'MAX_MESSAGE_DEPTH', allowed: MAX_MESSAGE_DEPTH, requested: depth },
      )
    }
    this.#refuseBeyond('MAX_STRUCTURE_MESSAGES', 'messages', MAX_STRUCTURE_MESSAGES, ++this.#messageCount)
    const fields = this.#table.fields(message)
    const singular = new Set<number>()
    const collected = new Map<number, Collected>()
    while (this.#source.position < end) {
      const tagStart = this.#source.position
      const tag = this.#reader.varint(end)
      const number = Math.floor(tag / 8)
      const wire = tag % 8
      if (number === 0 || number > PAYLOAD_FIELD)
        throw this.#reader.invalid(`field number ${number} is not legal`, tagStart)
      if (number === PAYLOAD_FIELD) throw this.#reader.invalid(`field number ${number} is reserved`, tagStart)
      this.#count(1)
      const facts = fields.get(number)
      if (!facts) {
        this.out.varint(tag)
        this.#scanUnknown(wire, tagStart, end)
        continue
      }
      if (wire !== facts.wire && !(facts.packable && wire === WIRE_LENGTH)) {
        throw this.#reader.invalid(
          `${message.name}.${facts.field.name} has wire type ${wire}, not ${facts.wire}`,
          tagStart,
        )
      }
      if (facts.message) {
        const length = this.#reader.length(`${message.name}.${facts.field.name}`, end)
        if (!facts.repeated) {
          if (singular.has(number))
            throw this.#reader.invalid(`${message.name}.${facts.field.name} is given twice`, tagStart)
          singular.add(number)
        }
        this.out.varint(tag)
        const at = this.out.reserveLength()
        this.scanMessage(facts.message, this.#source.position + length, depth + 1)
        this.out.patchLength(at)
      } else if (facts.rule) {
        this.#scanPayload(facts, message, wire, tag, tagStart, end, collected)
      } else {
        this.out.varint(tag)
        this.#scanValue(facts, message, wire, end)
      }
    }
    for (const [number, parts] of collected) this.#emitPayload(number, parts)
  }

  /** One value, or a packed run of them, copied into the skeleton and checked. */
  #scanValue(facts: FieldFacts, message: DescMessage, wire: number, end: number): void {
    const what = `${message.name}.${facts.field.name}`
    if (wire !== WIRE_LENGTH) {
      this.#copyNumber(what, wire, end)
      return
    }
    const length = this.#reader.length(what, end)
    const start = this.#source.position
    this.out.varint(length)
    const at = this.out.length
    this.#copy(length)
    const bytes = this.out.bytes.subarray(at, at + length)
    if (facts.isString && !isUtf8(bytes)) throw this.#reader.invalid(`${what} is not valid UTF-8`, start)
    if (facts.packable) {
      const problem = checkPacked(bytes, facts.wire)
      if (problem) throw this.#reader.invalid(`${what}: ${problem}`, start)
      this.#count(facts.wire === WIRE_VARINT ? length : length / 4)
    }
  }

  #copyNumber(what: string, wire: number, end: number): void {
    const start = this.#source.position
    if (wire !== WIRE_VARINT) {
      const length = wire === WIRE_FIXED32 ? 4 : 8
      if (length > end - start) throw this.#reader.cut(what, start, end, length)
      this.#copy(length)
      return
    }
    for (let i = 0; i < 10; i++) {
      if (this.#source.position >= end) throw this.#reader.cut(what, start, end)
      const byte = this.#source.byte()
      this.out.byte(byte)
      if (byte < 0x80) return
    }
    throw this.#reader.invalid(`${what} is a varint longer than 10 bytes`, start)
  }

  #scanUnknown(wire: number, tagStart: number, end: number): void {
    if (wire === WIRE_VARINT || wire === WIRE_FIXED32 || wire === WIRE_FIXED64) {
      this.#copyNumber('an unknown field', wire, end)
      return
    }
    if (wire !== WIRE_LENGTH) throw this.#reader.invalid(`wire type ${wire} is not used by this format`, tagStart)
    const length = this.#reader.length('an unknown field', end)
    this.out.varint(length)
    this.#copy(length)
  }

  #scanPayload(
    facts: FieldFacts,
    message: DescMessage,
    wire: number,
    tag: number,
    tagStart: number,
    end: number,
    collected: Map<number, Collected>,
  ): void {
    const what = `${message.name}.${facts.field.name}`
    const number = facts.field.number
    let parts = collected.get(number)
    if (!parts) {
      parts = { range: null, gathered: null, inStructure: false }
      collected.set(number, parts)
    } else if (!facts.repeated) {
      throw this.#reader.invalid(`${what} is given twice`, tagStart)
    }
    if (wire !== WIRE_LENGTH) {
      if (facts.rule === 'always') {
        const size = wire === WIRE_FIXED32 ? 4 : 8
        if (size > end - this.#source.position) throw this.#reader.cut(what, this.#source.position, end, size)
        this.#gather(parts, size)
        return
      }
      if (parts.range) throw this.#inPieces(what, tagStart)
      parts.inStructure = true
      this.out.varint(tag)
      this.#copyNumber(what, wire, end)
      return
    }
    const lengthStart = this.#source.position
    const length = this.#reader.length(what, end)
    const offsetBytes = this.#source.position
    if (facts.packable && facts.wire !== WIRE_VARINT && length % (facts.wire === WIRE_FIXED32 ? 4 : 8) !== 0) {
      throw this.#reader.invalid(`${what} holds ${length} bytes, not a whole number of elements`, lengthStart)
    }
    if (facts.rule === 'large' && length <= INLINE_PAYLOAD_BYTES) {
      if (parts.range) throw this.#inPieces(what, tagStart)
      parts.inStructure = true
      this.out.varint(tag)
      this.out.varint(length)
      const at = this.out.length
      this.#copy(length)
      if (facts.packable) {
        const problem = checkPacked(this.out.bytes.subarray(at, at + length), facts.wire)
        if (problem) throw this.#reader.invalid(`${what}: ${problem}`, offsetBytes)
        this.#count(length)
      }
      return
    }
    if (facts.rule === 'large' && (parts.inStructure || parts.range)) throw this.#inPieces(what, tagStart)
    if (parts.range || parts.gathered) {
      this.#gather(parts, length)
      return
    }
    if (facts.packable && facts.wire === WIRE_VARINT) {
      // Others decode it whatever we do: a model with numbers that nobody can read is not a model.
      const problem = checkVarints(this.#pieces(length))
      if (problem) throw this.#reader.invalid(`${what}: ${problem}`, offsetBytes)
    } else this.#source.skip(length)
    parts.range = { offsetBytes, lengthBytes: length }
  }

  /** The next bytes of the source, some at a time. */
  *#pieces(lengthBytes: number): Generator<Uint8Array> {
    const buffer = new Uint8Array(Math.min(WINDOW_BYTES, lengthBytes))
    const end = this.#source.position + lengthBytes
    while (this.#source.position < end) {
      const piece = buffer.subarray(0, Math.min(buffer.length, end - this.#source.position))
      this.#source.bytes(piece)
      yield piece
    }
  }

  #inPieces(what: string, offsetBytes: number): AppError {
    return new AppError(
      'feature_unsupported',
      `"${this.#source.name}", byte ${offsetBytes}: ${what} is written in several pieces of more than ` +
        `${INLINE_PAYLOAD_BYTES} bytes; write it as one packed field or as raw_data`,
      { file: this.#source.name, offsetBytes },
    )
  }

  /** Appends the next bytes of the source to the elements of a field that is written in pieces; fetches its first piece. */
  #gather(parts: Collected, lengthBytes: number): void {
    parts.gathered ??= new StructureBuffer(this.#source.name)
    const next = this.#source.position
    if (parts.range) {
      this.#source.position = parts.range.offsetBytes
      this.#append(parts.gathered, parts.range.lengthBytes)
      this.#source.position = next
      parts.range = null
    }
    this.#append(parts.gathered, lengthBytes)
  }

  #append(to: StructureBuffer, lengthBytes: number): void {
    this.#count(lengthBytes / 4)
    to.reserve(lengthBytes)
    this.#source.bytes(to.bytes.subarray(to.length, to.length + lengthBytes))
    to.length += lengthBytes
  }

  #emitPayload(field: number, parts: Collected): void {
    if (parts.range) this.payloads.push({ kind: 'range', field, ...parts.range })
    else if (parts.gathered) {
      this.payloads.push({ kind: 'bytes', field, bytes: parts.gathered.bytes.slice(0, parts.gathered.length) })
    } else return
    const marker = encodePayloadMarker(this.payloads.length - 1)
    this.out.varint(PAYLOAD_FIELD * 8 + WIRE_LENGTH)
    this.out.varint(marker.length)
    for (const byte of marker) this.out.byte(byte)
  }
}

/**
 * Walks the whole source as one message of type `root`. Throws format_truncated, format_invalid (wire type, lengths, UTF-8,
 * repeated singular messages), limit_exceeded (depth, structure bytes, fields) or feature_unsupported.
 */
export function scanSkeleton(source: ByteSource, root: DescMessage, rule: PayloadRule): Skeleton {
  const scanner = new Scanner(source, rule)
  scanner.scanMessage(root, source.sizeBytes, 1)
  return { bytes: scanner.out.bytes.slice(0, scanner.out.length), payloads: scanner.payloads }
}
