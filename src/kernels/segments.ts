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

/** Segments from which on a software adapter is busy with one invocation each; more only repeat each segment's set-up. */
const SOFTWARE_INVOCATIONS = 1024
/** The same for teams of 8 lanes. */
const SOFTWARE_TEAMS = 64

/** Lanes that keep most invocations busy for segments of this average length: at least four vec4s a lane. */
export function lanesForLength(averageElements: number): SegmentLanes {
  if (averageElements >= 1024) return 64
  return averageElements >= 128 ? 8 : 1
}

/**
 * Lanes for a table. A GPU wants neighbours of a warp in the same segment; a software adapter wants few invocations (rows of
 * 1024 elements ran 1.7 times faster with 1 or 8 lanes than with 64 on lavapipe), and lanes that walk straight through memory: it
 * runs 8 at a time to their end, and of 64 in one segment each 8 step 1 KiB at a time, which no prefetcher follows (long segments
 * were 1.4 times as fast with 8). Results never depend on it.
 */
export function lanesForSegments(segmentCount: number, averageElements: number, software: boolean): SegmentLanes {
  const most = lanesForLength(averageElements)
  if (!software || most === 1) return most
  if (segmentCount >= SOFTWARE_INVOCATIONS) return 1
  return segmentCount >= SOFTWARE_TEAMS ? 8 : most
}

/** Values from which on a segment is worth counters of its own in workgroup memory, which are cleared and added up each time. */
const SHARED_COUNTERS_ELEMENTS = 4096

/** The same for the histogram kernel, which counts in workgroup memory where 64 lanes share a segment. */
export function lanesForCounting(segmentCount: number, averageElements: number, software: boolean): SegmentLanes {
  if (averageElements >= SHARED_COUNTERS_ELEMENTS) return 64
  return lanesForSegments(segmentCount, averageElements, software)
}

/** The same for block kernels, whose lanes take blocks in turn, at least `least` of them. */
export function lanesForBlocks(
  segmentCount: number,
  averageBlocks: number,
  least: 1 | 8,
  software: boolean,
): SegmentLanes {
  const most = averageBlocks >= 64 ? 64 : averageBlocks >= 8 ? 8 : least
  return software && most === 64 && segmentCount >= SOFTWARE_TEAMS ? 8 : most
}

export function segmentWorkgroups(segmentCount: number, lanes: SegmentLanes): Workgroups {
  return workgroupsFor(segmentCount * lanes)
}

/** Rows that a dispatch really reaches; a reference loop stops there, as the shader does. */
export function reachedSegments(segmentCount: number, lanes: number, workgroups: Workgroups): number {
  return Math.min(segmentCount, Math.floor(invocationCount(workgroups) / lanes))
}
