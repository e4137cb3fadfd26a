// The segment table that most kernels take: runs of consecutive elements, each with the slot that collects its result.
// One dispatch covers many tensors, or many pieces of one tensor. Row: 4 words [start, length, slot, aux], start and length in
// elements of the chunk. `lanes` invocations (1, 8 or 64) share a segment and take its vec4s in turn.

import { invocationCount, type Workgroups, workgroupsFor } from './kernel-support.ts'

export const SEGMENT_WORDS = 4

export type SegmentLanes = 1 | 8 | 64

export interface Segment {
  /** First element, counted in the chunk. */
  start: number
  /** Elements. */
  length: number
  /** Row of the kernel's per-slot tables. */
  slot: number
  /** Meaning given by the kernel (first block, or the tensor index of the first element). */
  aux: number
}

export function writeSegment(table: Uint32Array, row: number, segment: Segment): void {
  const base = row * SEGMENT_WORDS
  table[base] = segment.start
  table[base + 1] = segment.length
  table[base + 2] = segment.slot
  table[base + 3] = segment.aux
}

export function readSegment(table: Uint32Array, row: number): Segment {
  const base = row * SEGMENT_WORDS
  return { start: table[base]!, length: table[base + 1]!, slot: table[base + 2]!, aux: table[base + 3]! }
}

/** Lanes that keep most invocations busy for segments of this average length: at least four vec4s a lane. */
export function lanesForLength(averageElements: number): SegmentLanes {
  if (averageElements >= 1024) return 64
  return averageElements >= 128 ? 8 : 1
}

export function segmentWorkgroups(segmentCount: number, lanes: SegmentLanes): Workgroups {
  return workgroupsFor(segmentCount * lanes)
}

/** Rows that a dispatch really reaches; a reference loop stops there, as the shader does. */
export function reachedSegments(segmentCount: number, lanes: number, workgroups: Workgroups): number {
  return Math.min(segmentCount, Math.floor(invocationCount(workgroups) / lanes))
}
