// The growing bytes of a skeleton, up to a limit: what a scanner copies of a file. Entry: StructureBuffer.

import { AppError } from '../../errors.ts'

/**
 * Structure without payloads. 100,000 nodes with names take about 20 MiB; the largest exported transformers seen stay below
 * 10 MiB. It bounds the memory of the decoded model (roughly ten times as much).
 */
export const MAX_STRUCTURE_BYTES = 64 * 1024 * 1024

/** A buffer that grows to MAX_STRUCTURE_BYTES and not further. */
export class StructureBuffer {
  bytes: Uint8Array<ArrayBuffer> = new Uint8Array(1024)
  length = 0
  readonly #file: string

  constructor(file: string) {
    this.#file = file
  }

  reserve(count: number): void {
    const needed = this.length + count
    if (needed <= this.bytes.length) return
    if (needed > MAX_STRUCTURE_BYTES) {
      throw new AppError(
        'limit_exceeded',
        `"${this.#file}" holds more than ${MAX_STRUCTURE_BYTES} bytes of structure outside of its tensor bytes`,
        { file: this.#file, limit: 'MAX_STRUCTURE_BYTES', allowed: MAX_STRUCTURE_BYTES, requested: needed },
      )
    }
    const grown = new Uint8Array(Math.min(MAX_STRUCTURE_BYTES, Math.max(needed, this.bytes.length * 2)))
    grown.set(this.bytes.subarray(0, this.length))
    this.bytes = grown
  }

  byte(value: number): void {
    this.reserve(1)
    this.bytes[this.length++] = value
  }

  varint(value: number): void {
    let rest = value
    while (rest > 127) {
      this.byte((rest % 128) + 128)
      rest = Math.floor(rest / 128)
    }
    this.byte(rest)
  }

  /** Leaves room for a length; patchLength fills it with a varint padded to four bytes, which every decoder accepts. */
  reserveLength(): number {
    this.reserve(4)
    const at = this.length
    this.length += 4
    return at
  }

  patchLength(at: number): void {
    const length = this.length - at - 4
    this.bytes[at] = (length & 0x7f) | 0x80
    this.bytes[at + 1] = ((length >>> 7) & 0x7f) | 0x80
    this.bytes[at + 2] = ((length >>> 14) & 0x7f) | 0x80
    this.bytes[at + 3] = (length >>> 21) & 0x7f
  }
}
