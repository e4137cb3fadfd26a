// Mutations of .npz archives: fields of zip records by their place, the .npy header by token with lengths and checksums that
// hold, and bytes. Entries: mutateNpz, mutateNpy.
// Zip layout: local records PK\3\4 (30 bytes and the name), directory PK\1\2 (46 bytes and the name), end PK\5\6 (22 bytes).

import { npzBytes } from '../../test/support/write-npz.ts'
import { mutateBytes, splice, writeNumber } from './mutate-bytes.ts'
import { mutateText } from './mutate-text.ts'
import type { Dice } from './random.ts'

/** Offset and size of the numbers in each kind of record. */
const RECORDS: Record<string, readonly (readonly [offset: number, size: number])[]> = {
  'PK\x03\x04': [
    [4, 2],
    [6, 2],
    [8, 2],
    [14, 4],
    [18, 4],
    [22, 4],
    [26, 2],
    [28, 2],
  ],
  'PK\x01\x02': [
    [6, 2],
    [8, 2],
    [10, 2],
    [16, 4],
    [20, 4],
    [24, 4],
    [28, 2],
    [30, 2],
    [32, 2],
    [42, 4],
  ],
  'PK\x05\x06': [
    [4, 2],
    [8, 2],
    [10, 2],
    [12, 4],
    [16, 4],
    [20, 2],
  ],
}

const WORDS = [
  "'descr'",
  "'fortran_order'",
  "'shape'",
  "'<f4'",
  "'>f8'",
  "'|u1'",
  "'<i8'",
  "'|O'",
  "'<U3'",
  'True',
  'False',
  '()',
  '(3,)',
  '(2, 2)',
  "[('a', '<f4')]",
]

export function mutateNpy(bytes: Uint8Array, other: Uint8Array, dice: Dice): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const wide = bytes[6] !== 1
  const start = wide ? 12 : 10
  const end =
    bytes.length < 12 ? Number.POSITIVE_INFINITY : start + (wide ? view.getUint32(8, true) : view.getUint16(8, true))
  if (end > bytes.length || dice.chance(0.2)) return mutateBytes(bytes, other, dice)
  const text = Buffer.from(bytes).toString('latin1', start, end)
  const theirs = Buffer.from(other).toString('latin1', 0, 200)
  const header = Buffer.from(mutateText(text, theirs, dice, WORDS), wide ? 'utf8' : 'latin1')
  const changed = splice(bytes, start, end, header)
  if (dice.chance(0.95)) {
    const length = new DataView(changed.buffer, changed.byteOffset, changed.byteLength)
    if (wide) length.setUint32(8, header.length, true)
    else length.setUint16(8, Math.min(header.length, 65_535), true)
  }
  return changed
}

/** Where a record of this kind starts; null when there is none. */
function someRecord(bytes: Uint8Array, dice: Dice): { at: number; fields: (typeof RECORDS)[string] } | null {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const mark = dice.pick(Object.keys(RECORDS))
  const found: number[] = []
  for (let at = text.indexOf(mark, 0, 'latin1'); at >= 0; at = text.indexOf(mark, at + 4, 'latin1')) found.push(at)
  return found.length === 0 ? null : { at: dice.pick(found), fields: RECORDS[mark]! }
}

export function mutateNpz(bytes: Uint8Array, other: Uint8Array, dice: Dice): Uint8Array {
  const record = dice.chance(0.5) ? someRecord(bytes, dice) : null
  if (record) {
    const [offset, size] = dice.pick(record.fields)
    return writeNumber(bytes, record.at + offset, dice, size)
  }
  if (dice.chance(0.5)) return mutateBytes(bytes, other, dice)
  // The first array, with another header or other elements, in an archive whose checksums hold.
  const entry = firstEntry(bytes)
  if (entry === null) return mutateBytes(bytes, other, dice)
  const content = mutateNpy(entry, firstEntry(other) ?? entry, dice)
  const name = dice.chance(0.8)
    ? 'x.npy'
    : dice.pick(['labels.npy', 'y.npy', 'x', '../x.npy', '\u00e9.npy', '__proto__.npy'])
  const more = dice.chance(0.3) ? { 'labels.npy': entry } : {}
  return npzBytes({ [name]: content, ...more }, { deflate: dice.chance(0.4) })
}

/** Bytes of the first stored entry, as its local record gives them. */
function firstEntry(bytes: Uint8Array): Uint8Array | null {
  if (bytes.length < 30 || bytes[0] !== 0x50) return null
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const start = 30 + view.getUint16(26, true) + view.getUint16(28, true)
  const length = view.getUint32(18, true)
  const stored = view.getUint16(8, true) === 0
  return stored && start + length <= bytes.length ? bytes.subarray(start, start + length) : null
}
