// From statistics to scale, zero point and kernel slots of the scaled integer forms. Entry: scaledParameters. Pure; every
// number that reaches an artifact is computed here, on the CPU, in f64 rounded once to f32 (Math.fround).
//   symmetric:  scale = f32(absmax / qmax), inverse = f32(qmax / absmax), codes in [-qmax, qmax] around the zero point
//   asymmetric: lo = min(0, min), hi = max(0, max), scale = f32((hi - lo) / (2^bits - 1)), zero point = roundHalfEven(-lo / scale)

import { bitsFloat, floatBits } from '../kernels/float-bits.ts'
import { INT8_SLOT_WORDS, writeInt8Slot } from '../kernels/quantize-int8.ts'
import { readStatistics } from '../kernels/statistics.ts'
import type { EncodePlan } from '../tensor/model.ts'

/**
 * Below this magnitude a range counts as zero: 127 / absmax would pass the largest f32, and denormal arithmetic may be
 * flushed on a GPU. Such a channel is all zeros with scale 1.
 */
export const TINY_RANGE = 1e-30

export interface ScaledParameters {
  /** f32 per channel, as written to the artifact. */
  scale: Float32Array
  /** Code of 0 per channel. */
  zeroPoint: Uint8Array
  /** The slot table of quantize-int8. */
  slots: Uint32Array
}

/** Room for the parameters of a tensor whose channels come piece by piece. */
export function emptyParameters(channels: number): ScaledParameters {
  return {
    scale: new Float32Array(channels),
    zeroPoint: new Uint8Array(channels),
    slots: new Uint32Array(channels * INT8_SLOT_WORDS),
  }
}

/** Puts the parameters of channels [first, first + part.scale.length) in place. */
export function setParameters(target: ScaledParameters, first: number, part: ScaledParameters): void {
  target.scale.set(part.scale, first)
  target.zeroPoint.set(part.zeroPoint, first)
  target.slots.set(part.slots, first * INT8_SLOT_WORDS)
}

export interface ScaledForm {
  bits: 8 | 4
  symmetric: boolean
  /** Added to symmetric codes: 128 for the unsigned form of DynamicQuantizeMatMul. */
  symmetricZeroPoint: 0 | 128
}

export function scaledForm(encode: EncodePlan): ScaledForm {
  if (encode.kind === 'dynamic-int8') return { bits: 8, symmetric: true, symmetricZeroPoint: 128 }
  if (encode.kind !== 'scaled-int') throw new TypeError(`${encode.kind} is not a scaled integer form`)
  return { bits: encode.bits, symmetric: encode.symmetric, symmetricZeroPoint: 0 }
}

/** In f64; src/kernels/float-bits.ts has the f32 rule of the kernels. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const fraction = value - floor
  if (fraction !== 0.5) return fraction < 0.5 ? floor : floor + 1
  return floor % 2 === 0 ? floor : floor + 1
}

/**
 * @param stats statistics slots (8 words each), one per channel, in order, starting at slot `first`
 * @param clipBits |x| bits per channel beyond which values are clipped; null: none
 * @param deadZone |x| bits that become the zero point, and above which codes are at least 1; null: no dead zone
 */
export function scaledParameters(
  form: ScaledForm,
  stats: Uint32Array,
  first: number,
  channels: number,
  clipBits: Uint32Array | null,
  deadZone: { bits: number } | null,
): ScaledParameters {
  const scale = new Float32Array(channels)
  const zeroPoint = new Uint8Array(channels)
  const slots = new Uint32Array(channels * INT8_SLOT_WORDS)
  for (let channel = 0; channel < channels; channel++) {
    const { absMaxBits, min, max } = readStatistics(stats, first + channel)
    const largestBits = Math.min(absMaxBits, clipBits?.[channel] ?? absMaxBits)
    const largest = bitsFloat(largestBits)
    const range = form.symmetric
      ? symmetricRange(form, largest)
      : asymmetricRange(form, Math.max(min, -largest), Math.min(max, largest))
    scale[channel] = range.scale
    zeroPoint[channel] = range.zeroPoint
    writeInt8Slot(slots, channel, {
      inverseScale: range.inverseScale,
      zeroPoint: range.zeroPoint,
      qMin: range.qMin,
      qMax: range.qMax,
      deadZoneBits: deadZone?.bits ?? 0,
      // A code of 1 in a range that counts as zero would be read back as 1.
      minMagnitude: deadZone === null || range.inverseScale === 0 ? 0 : 1,
    })
  }
  return { scale, zeroPoint, slots }
}

function symmetricRange(form: ScaledForm, magnitude: number) {
  const qMax = 2 ** (form.bits - 1) - 1
  const zeroPoint = form.symmetricZeroPoint
  const limits = { zeroPoint, qMin: zeroPoint - qMax, qMax: zeroPoint + qMax }
  if (magnitude < TINY_RANGE) return { ...limits, scale: 1, inverseScale: 0 }
  const scale = finiteScale(Math.fround(magnitude / qMax), qMax)
  return { ...limits, scale, inverseScale: Math.fround(qMax / magnitude) }
}

function asymmetricRange(form: ScaledForm, min: number, max: number) {
  const lo = Math.min(0, min)
  const hi = Math.max(0, max)
  const qMax = 2 ** form.bits - 1
  if (hi - lo < TINY_RANGE) return { scale: 1, inverseScale: 0, zeroPoint: 0, qMin: 0, qMax }
  // Quotients first: hi - lo of two huge values passes the f32 range, and then the scale would be infinite.
  const rounded = Math.fround(hi / qMax - lo / qMax)
  const zeroPoint = Math.min(qMax, Math.max(0, roundHalfEven(-lo / rounded)))
  const scale = finiteScale(rounded, Math.max(zeroPoint, qMax - zeroPoint))
  return { scale, inverseScale: Math.fround(1 / scale), zeroPoint, qMin: 0, qMax }
}

/** The scale, or its lower neighbour where the largest code would be read back as infinity (weights at the f32 limit). */
function finiteScale(scale: number, steps: number): number {
  let finite = scale
  while (!Number.isFinite(Math.fround(finite * steps))) finite = bitsFloat(floatBits(finite) - 1)
  return finite
}

/** |x| bits of the largest f32 at or below a magnitude given as a number (a threshold from a recipe). */
export function magnitudeBits(value: number): number {
  const rounded = Math.fround(value)
  const bits = floatBits(Math.min(rounded, 3.4028234663852886e38))
  return bitsFloat(bits) > value ? bits - 1 : bits
}
