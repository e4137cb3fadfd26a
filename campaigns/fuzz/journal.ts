// The case in progress, in a file that outlives the process: its number and the input. The child writes it before each case;
// the parent watches the number, and has the input when the child is gone or had to be killed.
// Layout: f64 number of the case (0: none in progress), u32 length of a JSON header [[name, bytes], ...], the header, the bytes.

import { closeSync, openSync, readFileSync, readSync, writevSync } from 'node:fs'
import type { FuzzInput } from './target.ts'

const PREFIX_BYTES = 12

export class JournalWriter {
  readonly #fd: number
  readonly #prefix = Buffer.alloc(PREFIX_BYTES)

  constructor(path: string) {
    this.#fd = openSync(path, 'w')
    this.idle()
  }

  begin(number: number, input: FuzzInput): void {
    const header = Buffer.from(JSON.stringify(input.map(({ name, bytes }) => [name, bytes.length])))
    this.#prefix.writeDoubleLE(number, 0)
    this.#prefix.writeUInt32LE(header.length, 8)
    writevSync(this.#fd, [this.#prefix, header, ...input.map(({ bytes }) => bytes)], 0)
  }

  idle(): void {
    this.#prefix.fill(0)
    writevSync(this.#fd, [this.#prefix], 0)
  }

  close(): void {
    closeSync(this.#fd)
  }
}

/** Number of the case in progress; 0 between cases and before the first. */
export function caseInProgress(path: string): number {
  const prefix = Buffer.alloc(8)
  try {
    const fd = openSync(path, 'r')
    try {
      return readSync(fd, prefix, 0, 8, 0) === 8 ? prefix.readDoubleLE(0) : 0
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
}

/** The input of the case in progress, once the writer is dead; null when it died between cases. */
export function inputInProgress(path: string): FuzzInput | null {
  if (caseInProgress(path) === 0) return null
  const bytes = readFileSync(path)
  const end = PREFIX_BYTES + bytes.readUInt32LE(8)
  const header = JSON.parse(bytes.toString('utf8', PREFIX_BYTES, end)) as [string, number][]
  let at = end
  return header.map(([name, length]) => {
    at += length
    return { name, bytes: Uint8Array.from(bytes.subarray(at - length, at)) }
  })
}
