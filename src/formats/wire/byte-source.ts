// Reads a file front to back through one small window, so that a scanner can walk gigabytes without holding them.
// Entry: ByteSource. Reads are synchronous: scanners run in child processes and touch only structure bytes.

import { readSync } from 'node:fs'
import { AppError } from '../../errors.ts'

/** Bytes held at a time. Larger windows read payloads that are skipped; smaller ones cost a system call a field. */
export const WINDOW_BYTES = 64 * 1024

/** Reads [offsetBytes, offsetBytes + into.length) of an open file whole. Throws format_truncated or store_failed. */
export function readFully(fd: number, name: string, offsetBytes: number, into: Uint8Array): void {
  let done = 0
  while (done < into.length) {
    let count: number
    try {
      count = readSync(fd, into, done, into.length - done, offsetBytes + done)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      throw new AppError('store_failed', `"${name}" cannot be read at byte ${offsetBytes + done}: ${reason}`, {
        file: name,
        offsetBytes: offsetBytes + done,
      })
    }
    if (count === 0) {
      throw new AppError(
        'format_truncated',
        `"${name}" ends at byte ${offsetBytes + done}, ${into.length - done} bytes before the data it declares`,
        { file: name, offsetBytes: offsetBytes + done, missingBytes: into.length - done },
      )
    }
    done += count
  }
}

/** A read position in a file of known size. The file descriptor stays the caller's. */
export class ByteSource {
  readonly name: string
  readonly sizeBytes: number
  /** Absolute offset of the next byte. */
  position = 0
  readonly #fd: number
  readonly #window: Uint8Array
  #windowStart = 0
  #windowLength = 0

  constructor(fd: number, name: string, sizeBytes: number) {
    this.#fd = fd
    this.name = name
    this.sizeBytes = sizeBytes
    this.#window = new Uint8Array(Math.min(WINDOW_BYTES, Math.max(1, sizeBytes)))
  }

  /** The next byte; format_truncated at the end of the file. */
  byte(): number {
    const index = this.position - this.#windowStart
    if (index < 0 || index >= this.#windowLength) {
      this.#fill()
      this.position++
      return this.#window[0]!
    }
    this.position++
    return this.#window[index]!
  }

  /** Copies the next into.length bytes. */
  bytes(into: Uint8Array): void {
    const index = this.position - this.#windowStart
    const held = index >= 0 ? Math.min(into.length, Math.max(0, this.#windowLength - index)) : 0
    if (held > 0) into.set(this.#window.subarray(index, index + held))
    if (held < into.length) readFully(this.#fd, this.name, this.position + held, into.subarray(held))
    this.position += into.length
  }

  /** Moves on without reading. The caller has checked that the bytes lie inside the file. */
  skip(lengthBytes: number): void {
    this.position += lengthBytes
  }

  #fill(): void {
    const length = Math.min(this.#window.length, this.sizeBytes - this.position)
    if (length <= 0) {
      throw new AppError('format_truncated', `"${this.name}" ends at byte ${this.sizeBytes} inside a field`, {
        file: this.name,
        offsetBytes: this.sizeBytes,
      })
    }
    this.#windowLength = 0
    readFully(this.#fd, this.name, this.position, this.#window.subarray(0, length))
    this.#windowStart = this.position
    this.#windowLength = length
  }
}
