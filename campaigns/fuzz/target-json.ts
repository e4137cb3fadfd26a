// The strict JSON parser against JSON.parse: what it accepts is JSON and means the same; what it refuses although it is JSON
// it refuses for a reason that it has (repeated keys, encoding, limits).

import assert from 'node:assert/strict'
import { AppError } from '../../src/errors.ts'
import { type JsonValue, parseJson } from '../../src/formats/wire/json-header.ts'
import { mutateJsonBytes } from './mutate-safetensors.ts'
import { type FuzzInput, type FuzzTarget, withBytes } from './target.ts'

const LIMITS = { file: 'x.json', baseOffset: 0, maxDepth: 40, maxMembers: 500 }

/** Why a text that JSON.parse takes may be refused. */
const OWN_REASONS = / twice \(| not UTF-8 \(|half of a surrogate pair \(|exceeds the limit/

const SEEDS = [
  '{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"__metadata__":{"format":"pt"}}',
  '[1, -0.5e+3, 18446744073709551616, true, false, null, "\\u00e9\\ud83d\\ude00\\n"]',
  '{"nested":{"a":{"b":{"c":[[[[]]]]}}}}',
  ' "text" ',
]

function plain(value: JsonValue): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]))
  return typeof value === 'bigint' ? Number(value) : value
}

function jsonParse(bytes: Uint8Array): { value: unknown } | null {
  try {
    return { value: JSON.parse(Buffer.from(bytes).toString()) }
  } catch {
    return null
  }
}

export const target: FuzzTarget = {
  name: 'json',
  guided: true,
  maxBytes: 32 * 1024,
  seeds: (): FuzzInput[] => SEEDS.map((text) => [{ name: 'x.json', bytes: Uint8Array.from(Buffer.from(text)) }]),
  mutate(input, other, dice) {
    return withBytes(input, 0, mutateJsonBytes(input[0]!.bytes, other[0]!.bytes, dice))
  },
  async run(input) {
    const bytes = input[0]!.bytes
    const theirs = jsonParse(bytes)
    let ours: JsonValue
    try {
      ours = parseJson(bytes, LIMITS)
    } catch (error) {
      if (theirs !== null && error instanceof AppError) assert.match(error.detail, OWN_REASONS)
      throw error
    }
    assert.ok(theirs !== null, 'parseJson accepts what JSON.parse refuses')
    assert.deepEqual(plain(ours), theirs.value)
    return 'parsed'
  },
}
