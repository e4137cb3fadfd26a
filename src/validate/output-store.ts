// Outputs of the original wait in a private temporary file until those of the artifact exist. Entries: OutputWriter,
// readOutputs. Layout per run and output, in a fixed order: u32 rank, u32 dims[rank], u32 element bytes (4: f32, 8: f64), then
// the values, all little-endian.

import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import type { DType } from '../tensor/dtype.ts'
import { elementCount } from '../tensor/dtype.ts'

/** What one run gave for one output. */
export interface RunOutput {
  dims: number[]
  values: Float32Array | Float64Array
}

export interface OutputInfo {
  name: string
  dtype: DType
}

/** Writes are collected to this size. */
const BUFFER_BYTES = 1 << 20

export class OutputWriter {
  readonly #file: number
  readonly #pending = Buffer.alloc(BUFFER_BYTES)
  #filled = 0
  /** Bytes written so far. */
  totalBytes = 0

  constructor(path: string) {
    this.#file = openSync(path, 'wx', 0o600)
  }

  /** Appends one output of the current run. The caller keeps the same order of outputs in every run. */
  write({ dims, values }: RunOutput): void {
    const head = Buffer.alloc(4 * (dims.length + 2))
    head.writeUInt32LE(dims.length, 0)
    for (const [axis, dim] of dims.entries()) head.writeUInt32LE(dim, 4 * (axis + 1))
    head.writeUInt32LE(values.BYTES_PER_ELEMENT, 4 * (dims.length + 1))
    this.#append(head)
    this.#append(Buffer.from(values.buffer, values.byteOffset, values.byteLength))
  }

  #append(bytes: Buffer): void {
    this.totalBytes += bytes.length
    if (this.#filled + bytes.length > BUFFER_BYTES) this.#flush()
    if (bytes.length > BUFFER_BYTES) writeAll(this.#file, bytes)
    else {
      bytes.copy(this.#pending, this.#filled)
      this.#filled += bytes.length
    }
  }

  #flush(): void {
    writeAll(this.#file, this.#pending.subarray(0, this.#filled))
    this.#filled = 0
  }

  close(): void {
    this.#flush()
    closeSync(this.#file)
  }
}

function writeAll(file: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
}

/** Runs in the order written; each yields one RunOutput per output. The values are the receiver's. */
export function* readOutputs(path: string, outputCount: number): Generator<RunOutput[]> {
  const file = openSync(path, 'r')
  const window = Buffer.alloc(BUFFER_BYTES)
  let start = 0
  let end = 0
  /** Fills `into`; false at a clean end of file. */
  const take = (into: Uint8Array): boolean => {
    for (let done = 0; done < into.length; ) {
      if (start === end) {
        start = 0
        end = readSync(file, window, 0, BUFFER_BYTES, null)
        if (end === 0) return false
      }
      const count = Math.min(into.length - done, end - start)
      into.set(window.subarray(start, start + count), done)
      start += count
      done += count
    }
    return true
  }
  const word = Buffer.alloc(4)
  const nextWord = () => {
    if (!take(word)) throw new RangeError(`${path} ends inside a run`)
    return word.readUInt32LE()
  }
  try {
    while (take(word)) {
      const run: RunOutput[] = []
      for (let index = 0; index < outputCount; index++) {
        const rank = index === 0 ? word.readUInt32LE() : nextWord()
        const dims = Array.from({ length: rank }, nextWord)
        const elements = elementCount(dims)
        const values = nextWord() === 8 ? new Float64Array(elements) : new Float32Array(elements)
        const bytes = new Uint8Array(values.buffer)
        if (bytes.length > 0 && !take(bytes)) throw new RangeError(`${path} ends inside a run`)
        run.push({ dims, values })
      }
      yield run
    }
  } finally {
    closeSync(file)
  }
}
