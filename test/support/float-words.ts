// f32 values to words and back, and segment tables written as rows, for kernel tests.

import { writeSegment } from '../../src/kernels/segments.ts'

export function wordsOf(values: readonly number[]): Uint32Array {
  return new Uint32Array(Float32Array.from(values).buffer)
}

export function floatsOf(words: Uint32Array): number[] {
  return [...new Float32Array(words.buffer, words.byteOffset, words.length)]
}

export function bytesOf(words: Uint32Array): number[] {
  return [...new Uint8Array(words.buffer, words.byteOffset, words.byteLength)]
}

/** Rows of [start, length, slot, aux]. */
export function segmentTable(rows: readonly (readonly [number, number, number, number])[]): Uint32Array {
  const table = new Uint32Array(rows.length * 4)
  for (const [row, [start, length, slot, aux]] of rows.entries()) writeSegment(table, row, { start, length, slot, aux })
  return table
}
