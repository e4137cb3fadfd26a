// f32 -> float16 and f32 -> bfloat16, round to nearest even, exact (src/kernels/float16-bits.ts). Two elements a word, the first
// low; element i of the input is halfword i of `out`. Segment starts are multiples of 4, no two segments share a vec4, and
// halfwords behind a segment's end up to the next multiple of 4 are 0. Params: [segmentCount, lanes, 0, 0].
// flags: 2 words a slot, added to: [overflow: finite in, infinite out; non-finite in].

import type { Kernel, KernelBinding } from '../compute/compute-device.ts'
import { ABS_MASK, INFINITY_BITS } from './float-bits.ts'
import { BFLOAT16_OVERFLOW_BITS, FLOAT16_OVERFLOW_BITS, toBfloat16, toFloat16 } from './float16-bits.ts'
import { chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'
import { reachedSegments, readSegment } from './segments.ts'

/** Words of a slot in `flags`: [overflow, non-finite in]. */
export const CAST_FLAG_WORDS = 2

const BINDINGS: KernelBinding[] = [chunk(), read('segments'), readWrite('out'), readWrite('flags')]

function castReference(convert: (bits: number) => number, overflowBits: number): Kernel['reference'] {
  return (buffers, params, workgroups) => {
    const [values, segments, out, flags] = buffers as [Uint32Array, Uint32Array, Uint32Array, Uint32Array]
    const halves = new Uint16Array(out.buffer, out.byteOffset, out.length * 2)
    const rows = reachedSegments(params[0]!, params[1]!, workgroups)
    for (let row = 0; row < rows; row++) {
      const { start, length, slot } = readSegment(segments, row)
      let overflow = 0
      let nonFinite = 0
      for (let i = start; i < start + length; i++) {
        const magnitude = values[i]! & ABS_MASK
        if (magnitude >= INFINITY_BITS) nonFinite++
        else if (magnitude >= overflowBits) overflow++
        halves[i] = convert(values[i]!)
      }
      halves.fill(0, start + length, Math.ceil((start + length) / 4) * 4)
      flags[slot * CAST_FLAG_WORDS]! += overflow
      flags[slot * CAST_FLAG_WORDS + 1]! += nonFinite
    }
  }
}

export const castFloat16: Kernel = {
  name: 'cast-float16',
  bindings: BINDINGS,
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  reference: castReference(toFloat16, FLOAT16_OVERFLOW_BITS),
}

export const castBfloat16: Kernel = {
  name: 'cast-bfloat16',
  bindings: BINDINGS,
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  reference: castReference(toBfloat16, BFLOAT16_OVERFLOW_BITS),
}
