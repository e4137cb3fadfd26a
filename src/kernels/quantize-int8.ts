// int8/uint8 quantization with one scale and zero point a slot, and the dead zone as a parameter:
//   q = roundHalfEvenFloat32(clamp(x * inv, qmin - zp, qmax - zp)) + zp, within -128..127 or 0..255
//   |x| <= deadZone: q = zp; otherwise, with minMagnitude 1, a q that rounded to zp becomes zp + sign(x).
// NaN and infinities count as 0 (tensors that hold them are not quantized; the value only has to be defined).
// Slot, 8 words: [inv f32, qmin - zp f32, qmax - zp f32, 12582912 + zp f32, deadZone |x| bits, minMagnitude, 0, 0]; the host
// computes them. Byte i of `out` belongs to input element i; bytes behind a segment's end up to its last word are 0.
// Segment starts are multiples of 4 and no two segments share a vec4. Params: [segmentCount, lanes, 0, 0].

import type { Kernel } from '../compute/compute-device.ts'
import {
  ABS_MASK,
  bitsFloat,
  clamp,
  floatBits,
  INFINITY_BITS,
  ROUND_MAGIC,
  roundHalfEvenFloat32,
} from './float-bits.ts'
import { asBytes, asFloats, chunk, read, readWrite, WORKGROUP_SIZE } from './kernel-support.ts'
import { reachedSegments, readSegment } from './segments.ts'

export const INT8_SLOT_WORDS = 8

export interface Int8Slot {
  /** f32(1 / scale) or, better, f32(qmax / absmax), computed once on the host. */
  inverseScale: number
  zeroPoint: number
  qMin: number
  qMax: number
  /** |x| bits at or below which the code is the zero point; 0: only zeros. */
  deadZoneBits: number
  /** Codes of values outside the dead zone differ from the zero point by at least this: 0 or 1. */
  minMagnitude: 0 | 1
}

export function writeInt8Slot(slots: Uint32Array, row: number, slot: Int8Slot): void {
  const base = row * INT8_SLOT_WORDS
  slots[base] = floatBits(slot.inverseScale)
  slots[base + 1] = floatBits(slot.qMin - slot.zeroPoint)
  slots[base + 2] = floatBits(slot.qMax - slot.zeroPoint)
  slots[base + 3] = floatBits(ROUND_MAGIC + slot.zeroPoint)
  slots[base + 4] = slot.deadZoneBits
  slots[base + 5] = slot.minMagnitude
  slots[base + 6] = 0
  slots[base + 7] = 0
}

/** A slot with its floats decoded, as int8Code takes it. */
export interface DecodedInt8Slot {
  inverseScale: number
  low: number
  high: number
  zeroPoint: number
  deadZoneBits: number
  minMagnitude: number
}

export function decodeInt8Slot(slots: Uint32Array, row: number): DecodedInt8Slot {
  const base = row * INT8_SLOT_WORDS
  return {
    inverseScale: bitsFloat(slots[base]!),
    low: bitsFloat(slots[base + 1]!),
    high: bitsFloat(slots[base + 2]!),
    zeroPoint: bitsFloat(slots[base + 3]!) - ROUND_MAGIC,
    deadZoneBits: slots[base + 4]!,
    minMagnitude: slots[base + 5]!,
  }
}

/** The code byte of one value, given as f32 and as its bits. */
export function int8Code(slot: DecodedInt8Slot, value: number, bits: number): number {
  const magnitude = bits & ABS_MASK
  if (magnitude <= slot.deadZoneBits || magnitude >= INFINITY_BITS) return slot.zeroPoint & 255
  const rounded = roundHalfEvenFloat32(clamp(Math.fround(value * slot.inverseScale), slot.low, slot.high))
  if (rounded === 0 && slot.minMagnitude === 1) return (slot.zeroPoint + (value < 0 ? -1 : 1)) & 255
  return (rounded + slot.zeroPoint) & 255
}

export const quantizeInt8: Kernel = {
  name: 'quantize-int8',
  bindings: [chunk(), read('segments'), read('slots'), readWrite('out')],
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  reference(buffers, params, workgroups) {
    const [values, segments, slots, out] = buffers as [Uint32Array, Uint32Array, Uint32Array, Uint32Array]
    const floats = asFloats(values)
    const bytes = asBytes(out)
    const rows = reachedSegments(params[0]!, params[1]!, workgroups)
    for (let row = 0; row < rows; row++) {
      const { start, length, slot } = readSegment(segments, row)
      const decoded = decodeInt8Slot(slots, slot)
      for (let i = start; i < start + length; i++) bytes[i] = int8Code(decoded, floats[i]!, values[i]!)
      bytes.fill(0, start + length, Math.ceil((start + length) / 4) * 4)
    }
  },
}
