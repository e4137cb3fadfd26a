// What a scanner must know of each field of a message: its wire type, its child message, and whether it is a payload that
// stays in the file. Entry: FieldTable, built from descriptors as messages are met.

import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf'
import { WIRE_FIXED32, WIRE_FIXED64, WIRE_LENGTH, WIRE_VARINT } from './protobuf.ts'

/** Payloads up to this size stay in the skeleton: small constants (shapes, scalars) are read during analysis. */
export const INLINE_PAYLOAD_BYTES = 1024

/**
 * Which fields are payloads. 'always': fixed-width numbers, taken out whatever their size and however they are packed, so
 * that their bits never pass through JavaScript numbers. 'large': taken out when longer than INLINE_PAYLOAD_BYTES.
 */
export type PayloadRule = (message: DescMessage, field: DescField) => 'always' | 'large' | null

export interface FieldFacts {
  field: DescField
  rule: 'always' | 'large' | null
  message: DescMessage | null
  /** Wire type of one value. */
  wire: number
  packable: boolean
  repeated: boolean
  isString: boolean
}

function wireTypeOf(scalar: ScalarType): number {
  switch (scalar) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return WIRE_LENGTH
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return WIRE_FIXED64
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return WIRE_FIXED32
    default:
      return WIRE_VARINT
  }
}

function factsOf(message: DescMessage, field: DescField, rule: PayloadRule): FieldFacts {
  const repeated = field.fieldKind === 'list'
  const child = field.message ?? null
  const wire = child ? WIRE_LENGTH : field.scalar === undefined ? WIRE_VARINT : wireTypeOf(field.scalar)
  return {
    field,
    rule: rule(message, field),
    message: child,
    wire,
    packable: repeated && wire !== WIRE_LENGTH,
    repeated,
    isString: field.scalar === ScalarType.STRING,
  }
}

export class FieldTable {
  readonly #rule: PayloadRule
  readonly #byMessage = new Map<DescMessage, Map<number, FieldFacts>>()

  constructor(rule: PayloadRule) {
    this.#rule = rule
  }

  fields(message: DescMessage): Map<number, FieldFacts> {
    let table = this.#byMessage.get(message)
    if (!table) {
      table = new Map(message.fields.map((field) => [field.number, factsOf(message, field, this.#rule)]))
      this.#byMessage.set(message, table)
    }
    return table
  }
}

/** Checks a packed run of numbers; says what is wrong, or null. */
export function checkPacked(bytes: Uint8Array, wire: number): string | null {
  if (wire === WIRE_FIXED32 || wire === WIRE_FIXED64) {
    const size = wire === WIRE_FIXED32 ? 4 : 8
    return bytes.length % size === 0 ? null : `${bytes.length} bytes are not a whole number of elements`
  }
  return checkVarints([bytes])
}

/** The same for varints that come piece by piece. */
export function checkVarints(pieces: Iterable<Uint8Array>): string | null {
  let run = 0
  for (const bytes of pieces) {
    for (const byte of bytes) {
      run = byte < 0x80 ? 0 : run + 1
      if (run >= 10) return 'a varint is longer than 10 bytes'
    }
  }
  return run === 0 ? null : 'the last varint is cut off'
}
