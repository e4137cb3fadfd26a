// Mutations of safetensors files: the JSON header by token with a length that fits it (or not), the data by bytes.
// Entries: mutateSafetensors, mutateJsonBytes.

import { EDGE_NUMBERS, mutateBytes } from './mutate-bytes.ts'
import { mutateText } from './mutate-text.ts'
import type { Dice } from './random.ts'

const DTYPES = [
  'F64',
  'F32',
  'F16',
  'BF16',
  'I64',
  'I32',
  'I16',
  'I8',
  'U8',
  'BOOL',
  'U64',
  'U32',
  'U16',
  'F8_E4M3',
  'F8_E5M2',
  'F4',
  'F6_E2M3',
  'C64',
  'X9',
]

export const HEADER_WORDS: readonly string[] = [
  ...DTYPES.map((dtype) => `"${dtype}"`),
  '"__metadata__"',
  '"dtype"',
  '"shape"',
  '"data_offsets"',
  '"quantization_config"',
  '"format"',
  '{"dtype":"F32","shape":[],"data_offsets":[0,4]}',
  '[0,0]',
  '[0]',
  '"weight_map"',
  '"metadata"',
  '"total_size"',
]

/** JSON bytes by token. Text that is no UTF-8 any more is changed as bytes, so that it stays as broken as it was. */
export function mutateJsonBytes(bytes: Uint8Array, other: Uint8Array, dice: Dice, words = HEADER_WORDS): Uint8Array {
  const text = Buffer.from(bytes).toString()
  if (dice.chance(0.1) || !Buffer.from(text).equals(bytes)) return mutateBytes(bytes, other, dice)
  return Buffer.from(mutateText(text, Buffer.from(other).toString(), dice, words))
}

function parts(bytes: Uint8Array): { header: Uint8Array; data: Uint8Array } | null {
  if (bytes.length < 8) return null
  const length = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true)
  if (length > BigInt(bytes.length - 8)) return null
  const end = 8 + Number(length)
  return { header: bytes.subarray(8, end), data: bytes.subarray(end) }
}

export function mutateSafetensors(bytes: Uint8Array, other: Uint8Array, dice: Dice): Uint8Array {
  const own = parts(bytes)
  if (own === null || dice.chance(0.1)) return mutateBytes(bytes, other, dice)
  let { header, data } = own
  if (dice.chance(0.9)) header = mutateJsonBytes(header, parts(other)?.header ?? header, dice)
  else data = mutateBytes(data, parts(other)?.data ?? data, dice)
  const prefix = Buffer.alloc(8)
  const truth = BigInt(header.length)
  prefix.writeBigUInt64LE(dice.chance(0.95) ? truth : dice.chance(0.5) ? dice.pick(EDGE_NUMBERS) : truth + 1n)
  return Buffer.concat([prefix, header, data])
}
