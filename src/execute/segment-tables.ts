// Builds the segment tables of a piece (src/kernels/segments.ts) in a lane's scratch memory. Entry: flatTable, channelTable.

import type { DeviceBuffer } from '../compute/compute-device.ts'
import type { Workgroups } from '../kernels/kernel-support.ts'
import {
  lanesForBlocks,
  lanesForSegments,
  SEGMENT_WORDS,
  type SegmentLanes,
  segmentWorkgroups,
  writeSegment,
} from '../kernels/segments.ts'
import type { Lane } from './lane.ts'
import type { Piece, Span } from './pieces.ts'

export interface SegmentTable {
  buffer: DeviceBuffer
  count: number
  lanes: SegmentLanes
  workgroups: Workgroups
  /** First table row of each span, in the order of the piece's spans, and the end as last entry. */
  rowOfSpan: number[]
}

type LanesFor = typeof lanesForSegments

/** Collects rows, growing its scratch as needed. */
class TableBuilder {
  readonly #lane: Lane
  readonly #name: string
  #words: Uint32Array
  rows = 0
  elements = 0

  constructor(lane: Lane, name: string) {
    this.#lane = lane
    this.#name = name
    this.#words = lane.scratch(name, SEGMENT_WORDS * 64)
  }

  add(start: number, length: number, slot: number, aux: number): void {
    const needed = (this.rows + 1) * SEGMENT_WORDS
    if (needed > this.#words.length) {
      const old = this.#words
      this.#words = this.#lane.scratch(this.#name, needed)
      this.#words.set(old)
    }
    writeSegment(this.#words, this.rows++, { start, length, slot, aux })
    this.elements += length
  }

  finish(rowOfSpan: number[], lanesFor: LanesFor = lanesForSegments): SegmentTable {
    const chosen = lanesFor(this.rows, this.elements / Math.max(1, this.rows), this.#lane.device.info.software)
    return {
      buffer: this.#lane.upload(this.#name, this.#words.subarray(0, Math.max(1, this.rows) * SEGMENT_WORDS)),
      count: this.rows,
      lanes: chosen,
      workgroups: segmentWorkgroups(this.rows, chosen),
      rowOfSpan,
    }
  }
}

/**
 * Runs of at most the device's segment length, none sharing a vec4. The slot is the span's index, or what `slotOf` says;
 * aux is 0, or the index that `indexOf` gives the span's first element, counted on from there. Tables of one submit need
 * different names, since each name is one buffer of the lane.
 */
export function flatTable(
  lane: Lane,
  piece: Piece,
  slotOf?: (span: Span, index: number) => number,
  indexOf?: (span: Span) => number,
  name = 'segments',
  lanesFor?: LanesFor,
): SegmentTable {
  const builder = new TableBuilder(lane, name)
  const step = lane.device.tuning.segmentElements
  const rowOfSpan: number[] = []
  for (const [index, span] of piece.spans.entries()) {
    rowOfSpan.push(builder.rows)
    const slot = slotOf === undefined ? index : slotOf(span, index)
    const first = indexOf === undefined ? null : indexOf(span)
    for (let at = 0; at < span.count; at += step) {
      builder.add(span.start + at, Math.min(step, span.count - at), slot, first === null ? 0 : first + at)
    }
  }
  rowOfSpan.push(builder.rows)
  return builder.finish(rowOfSpan, lanesFor)
}

/** One row for each run of a channel: contiguous `inner` elements, cut at the ends of the span and at segment length. */
export function channelTable(
  lane: Lane,
  spans: { span: Span; inner: number; channels: number; firstElement: number; slotBase: number }[],
): SegmentTable {
  const builder = new TableBuilder(lane, 'channel segments')
  const step = lane.device.tuning.segmentElements
  const rowOfSpan: number[] = []
  for (const { span, inner, channels, firstElement, slotBase } of spans) {
    rowOfSpan.push(builder.rows)
    let at = 0
    while (at < span.count) {
      const index = firstElement + at
      const length = Math.min(inner - (index % inner), span.count - at, step)
      builder.add(span.start + at, length, slotBase + (Math.floor(index / inner) % channels), 0)
      at += length
    }
  }
  rowOfSpan.push(builder.rows)
  return builder.finish(rowOfSpan)
}

/**
 * Rows for block kernels: block rows of K, or long runs where rows divide into blocks; aux is the output block.
 * `aligned` tells whether every start is a multiple of 4.
 */
export function blockTable(
  lane: Lane,
  spans: { span: Span; blockBase: number }[],
  k: (span: Span) => number,
  blockSize: number,
  leastLanes: 1 | 8,
): SegmentTable & { aligned: boolean } {
  const builder = new TableBuilder(lane, 'block segments')
  const step = Math.max(1, Math.floor(lane.device.tuning.segmentElements / blockSize)) * blockSize
  const rowOfSpan: number[] = []
  let aligned = true
  for (const [index, { span, blockBase }] of spans.entries()) {
    rowOfSpan.push(builder.rows)
    const rowElements = k(span)
    // A span is whole rows, or part of one row that starts on a block; runs may join rows that divide into blocks.
    const run = rowElements % blockSize === 0 ? span.count : Math.min(rowElements, span.count)
    let block = blockBase
    for (let from = 0; from < span.count; from += run) {
      for (let at = 0; at < run; at += step) {
        const length = Math.min(step, run - at)
        builder.add(span.start + from + at, length, index, block)
        if ((span.start + from + at) % 4 !== 0) aligned = false
        block += Math.ceil(length / blockSize)
      }
    }
  }
  rowOfSpan.push(builder.rows)
  const lanesFor: LanesFor = (count, elements, software) =>
    lanesForBlocks(count, elements / blockSize, leastLanes, software)
  return { ...builder.finish(rowOfSpan, lanesFor), aligned }
}
