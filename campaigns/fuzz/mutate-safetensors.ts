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

interface Entry {
  dtype: string
  shape: number[]
  data_offsets: number[]
}

/** Types of one size: exchanging them keeps a file whole. */
const SAME_SIZE: readonly (readonly string[])[] = [
  ['F64', 'I64', 'U64', 'C64'],
  ['F32', 'I32', 'U32'],
  ['F16', 'BF16', 'I16', 'U16'],
  ['I8', 'U8', 'BOOL', 'F8_E4M3', 'F8_E5M2'],
]

const NAMES = [
  'w',
  '__proto__',
  'a.weight',
  'a.weight.scale',
  'w.weight_packed',
  'w.weight_scale',
  '\ufeffw',
  '\u00e9',
  'a/b',
  '*',
  'toString',
]

/** A change after which the header still fits the data: names, order, shapes of as many elements, types of one size. */
function keepWhole(header: Uint8Array, dice: Dice): Uint8Array | null {
  try {
    return changeMembers(JSON.parse(Buffer.from(header).toString()) as Record<string, Entry>, dice)
  } catch {
    // No JSON any more, no header, or nested beyond what JSON.stringify takes.
    return null
  }
}

function changeMembers(parsed: Record<string, Entry>, dice: Dice): Uint8Array | null {
  let members: [string, Entry | Record<string, string>][] = Object.entries(parsed)
  if (members.length === 0) return null
  const at = dice.below(members.length)
  const [name, value] = members[at]!
  const entry = name === '__metadata__' ? null : (value as Entry)
  const write = () => {
    // Not through an object: __proto__ is a name like any other.
    const text = members.map(([key, item]) => `${JSON.stringify(key)}:${JSON.stringify(item)}`).join(',')
    return Buffer.from(`{${text}}${' '.repeat(dice.below(9))}`)
  }
  switch (dice.below(6)) {
    case 0:
      if (entry) members[at] = [dice.pick(NAMES), entry]
      return write()
    case 1:
      members = [...members.slice(at), ...members.slice(0, at)]
      return write()
    case 2: {
      const types = SAME_SIZE.find((list) => list.includes(entry?.dtype ?? ''))
      if (entry && types) entry.dtype = dice.pick(types)
      return write()
    }
    case 3:
      if (entry && Array.isArray(entry.shape)) {
        const count = entry.shape.reduce((product, dim) => product * dim, 1)
        entry.shape = dice.pick([[count], [1, count], [count, 1], [count / 2, 2], [count / 8, 2, 4]])
      }
      return write()
    case 4: {
      const end = dice.chance(0.8) ? (entry?.data_offsets?.[1] ?? 0) : 0
      members.push([
        dice.pick(NAMES),
        { dtype: 'F32', shape: dice.pick([[0], [4, 0], [0, 2 ** 31]]), data_offsets: [end, end] },
      ])
      return write()
    }
    default:
      members.push(['__metadata__', { format: 'pt', [dice.pick(NAMES)]: dice.pick(['', '{}', '\u0000', 'x']) }])
      return write()
  }
}

export function mutateSafetensors(bytes: Uint8Array, other: Uint8Array, dice: Dice): Uint8Array {
  const own = parts(bytes)
  if (own === null || dice.chance(0.1)) return mutateBytes(bytes, other, dice)
  let { header, data } = own
  const whole = dice.chance(0.45) ? keepWhole(header, dice) : null
  if (whole) header = whole
  else if (dice.chance(0.9)) header = mutateJsonBytes(header, parts(other)?.header ?? header, dice)
  else data = mutateBytes(data, parts(other)?.data ?? data, dice)
  const prefix = Buffer.alloc(8)
  const truth = BigInt(header.length)
  prefix.writeBigUInt64LE(dice.chance(0.95) ? truth : dice.chance(0.5) ? dice.pick(EDGE_NUMBERS) : truth + 1n)
  return Buffer.concat([prefix, header, data])
}
