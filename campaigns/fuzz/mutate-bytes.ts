// Mutations that know nothing of a format: bits, runs of bytes, numbers at the edges of their range, pieces of another input.
// Entry: mutateBytes. Nothing is changed in place (`slice` of a Buffer would be: it is a view).

import type { Dice } from './random.ts'

/** Values at which lengths, counts and offsets go wrong. */
export const EDGE_NUMBERS: readonly bigint[] = [
  0n,
  1n,
  2n,
  7n,
  8n,
  127n,
  128n,
  255n,
  256n,
  4095n,
  65_535n,
  65_536n,
  2n ** 24n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 40n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 60n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
]

const EDGE_BYTES = [0, 1, 0x20, 0x7f, 0x80, 0xff]

export function splice(bytes: Uint8Array, start: number, end: number, middle: Uint8Array): Uint8Array {
  const result = new Uint8Array(start + middle.length + bytes.length - end)
  result.set(bytes.subarray(0, start))
  result.set(middle, start)
  result.set(bytes.subarray(end), start + middle.length)
  return result
}

/** A run [start, end) of the bytes, short more often than long. */
export function someRun(length: number, dice: Dice): [start: number, end: number] {
  const start = dice.below(length + 1)
  const longest = dice.chance(0.8) ? Math.min(16, length - start) : length - start
  return [start, start + dice.below(longest + 1)]
}

/** Overwrites 1, 2, 4 or 8 bytes with a number from the edges or close to the one that stood there. */
export function writeNumber(bytes: Uint8Array, at: number, dice: Dice, size = dice.pick([1, 2, 4, 8])): Uint8Array {
  const copy = new Uint8Array(bytes)
  const width = Math.min(size, copy.length - at)
  if (width <= 0) return copy
  const littleEndian = dice.chance(0.85)
  let value = dice.pick(EDGE_NUMBERS)
  if (dice.chance(0.5)) {
    value = 0n
    for (let i = 0; i < width; i++) value |= BigInt(copy[littleEndian ? at + i : at + width - 1 - i]!) << BigInt(8 * i)
    value += BigInt(dice.below(33) - 16)
  } else if (dice.chance(0.3)) {
    value = BigInt(copy.length + dice.below(17) - 8)
  }
  for (let i = 0; i < width; i++) {
    copy[littleEndian ? at + i : at + width - 1 - i] = Number((value >> BigInt(8 * i)) & 0xffn)
  }
  return copy
}

export function mutateBytes(bytes: Uint8Array, other: Uint8Array, dice: Dice): Uint8Array {
  if (bytes.length === 0) return other.subarray(...someRun(other.length, dice))
  const [start, end] = someRun(bytes.length, dice)
  const at = dice.below(bytes.length)
  switch (dice.below(11)) {
    case 0: {
      const copy = new Uint8Array(bytes)
      copy[at]! ^= 1 << dice.below(8)
      return copy
    }
    case 1: {
      const copy = new Uint8Array(bytes)
      copy[at] = dice.chance(0.5) ? dice.pick(EDGE_BYTES) : dice.below(256)
      return copy
    }
    case 2:
    case 3:
      return writeNumber(bytes, at, dice)
    case 4:
      return splice(bytes, start, end, new Uint8Array())
    case 5:
      return splice(bytes, end, end, bytes.subarray(start, end))
    case 6: {
      const run = new Uint8Array(1 + dice.below(dice.chance(0.1) ? 4096 : 16))
      return splice(
        bytes,
        start,
        start,
        dice.chance(0.5) ? run.fill(dice.pick(EDGE_BYTES)) : run.map(() => dice.below(256)),
      )
    }
    case 7: {
      // Two runs change places.
      const [from, to] = someRun(bytes.length - end, dice)
      const second = bytes.subarray(end + from, end + to)
      const swapped = splice(bytes, end + from, end + to, bytes.subarray(start, end))
      return splice(swapped, start, end, second)
    }
    case 8:
      return splice(bytes, start, end, other.subarray(...someRun(other.length, dice)))
    case 9: {
      // The head of one, the tail of the other.
      const cut = dice.below(other.length + 1)
      return Buffer.concat([bytes.subarray(0, at), other.subarray(cut)])
    }
    default:
      return bytes.subarray(0, at)
  }
}
