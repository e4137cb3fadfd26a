// From kernel output to the bytes of artifact parts: slices, 4-bit packing, zero point packing, positioned writes to every
// place of a part. Entry: writePart. Layouts of zero points: BlockLayout in src/tensor/model.ts.

import type { PartName } from '../tensor/model.ts'
import type { OutputFiles } from './output-files.ts'
import type { TensorWork } from './tensor-work.ts'
import { waitForAll } from './wait-for-all.ts'

export function bytesOf(view: Uint8Array, offsetBytes: number, lengthBytes: number): Uint8Array {
  return view.subarray(offsetBytes, offsetBytes + lengthBytes)
}

/** Writes bytes at `offsetBytes` of a part, everywhere the layout wants it; nowhere is fine (a part the format leaves out). */
export function writePart(
  output: OutputFiles,
  work: TensorWork,
  part: PartName,
  offsetBytes: number,
  bytes: Uint8Array,
): Promise<void> | undefined {
  const places = work.places.get(part)
  if (places === undefined) return undefined
  const [only] = places
  if (places.length === 1 && only !== undefined) {
    checkRoom(work, part, offsetBytes + bytes.length, only.lengthBytes)
    return output.write(only.file, only.offsetBytes + offsetBytes, bytes)
  }
  return waitForAll(
    places.map((place) => {
      checkRoom(work, part, offsetBytes + bytes.length, place.lengthBytes)
      return output.write(place.file, place.offsetBytes + offsetBytes, bytes)
    }),
  )
}

/** Writing past a part would spoil its neighbour, so it is checked even though only a bug can cause it. */
function checkRoom(work: TensorWork, part: PartName, endBytes: number, lengthBytes: number): void {
  if (endBytes > lengthBytes) {
    throw new RangeError(`${part} of "${work.name}" is ${lengthBytes} bytes long, ${endBytes} were to be written`)
  }
}

/** Two codes a byte, the first in the low nibble; an odd last one has a zero beside it. */
export function packNibbles(codes: Uint8Array): Uint8Array {
  const packed = new Uint8Array(Math.ceil(codes.length / 2))
  for (let i = 0, at = 0; i < codes.length; i += 2, at++) {
    packed[at] = ((codes[i] ?? 0) & 15) | (((codes[i + 1] ?? 0) & 15) << 4)
  }
  return packed
}

/** The reverse of packNibbles, `count` codes; signed codes come out as two's complement bytes. */
export function unpackNibbles(packed: Uint8Array, count: number, signed: boolean): Uint8Array {
  const codes = new Uint8Array(count)
  for (let i = 0; i < count; i++) {
    const nibble = ((packed[i >> 1] ?? 0) >> ((i & 1) * 4)) & 15
    codes[i] = signed && nibble > 7 ? nibble | 0xf0 : nibble
  }
  return codes
}

/** [rows, ceil(blocks * bits / 8)] bytes, each row on a byte of its own, low bits first (MatMulNBits). */
export function packZeroPointRows(codes: Uint8Array, rows: number, blocks: number, bits: 4 | 8): Uint8Array {
  if (bits === 8) return codes
  const rowBytes = Math.ceil(blocks / 2)
  const packed = new Uint8Array(rows * rowBytes)
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const at = row * rowBytes + (block >> 1)
      packed[at] = (packed[at] ?? 0) | ((codes[row * blocks + block] ?? 0) << ((block & 1) * 4))
    }
  }
  return packed
}

/** [ceil(rows * bits / 32), blocks] little-endian words: codes of consecutive rows share a word, low bits first. */
export function packZeroPointColumns(codes: Uint8Array, rows: number, blocks: number, bits: 4 | 8): Uint8Array {
  const perWord = 32 / bits
  const packed = new Uint32Array(Math.ceil(rows / perWord) * blocks)
  for (let row = 0; row < rows; row++) {
    const shift = (row % perWord) * bits
    const base = Math.floor(row / perWord) * blocks
    for (let block = 0; block < blocks; block++) {
      packed[base + block] = (packed[base + block] ?? 0) | ((codes[row * blocks + block] ?? 0) << shift)
    }
  }
  return new Uint8Array(packed.buffer)
}

/** The reverse of packZeroPointRows. */
export function unpackZeroPointRows(packed: Uint8Array, rows: number, blocks: number, bits: 4 | 8): Uint8Array {
  if (bits === 8) return packed
  const rowBytes = Math.ceil(blocks / 2)
  const codes = new Uint8Array(rows * blocks)
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      codes[row * blocks + block] = ((packed[row * rowBytes + (block >> 1)] ?? 0) >> ((block & 1) * 4)) & 15
    }
  }
  return codes
}

/** The reverse of packZeroPointColumns. */
export function unpackZeroPointColumns(packed: Uint8Array, rows: number, blocks: number, bits: 4 | 8): Uint8Array {
  const perWord = 32 / bits
  const words = new Uint32Array(packed.buffer, packed.byteOffset, packed.byteLength >>> 2)
  const codes = new Uint8Array(rows * blocks)
  for (let row = 0; row < rows; row++) {
    const shift = (row % perWord) * bits
    const base = Math.floor(row / perWord) * blocks
    for (let block = 0; block < blocks; block++) {
      codes[row * blocks + block] = ((words[base + block] ?? 0) >>> shift) & (2 ** bits - 1)
    }
  }
  return codes
}
