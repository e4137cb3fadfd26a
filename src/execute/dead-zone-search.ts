// The widest dead zone that keeps a signal-to-quantization-noise ratio, exact to the single f32 magnitude. Entry:
// DeadZoneSearch: it sees every value twice, sums in f64 in the order given and uses no device, so t is the same everywhere.
// Zeroing |w| costs w^2 - (w - w')^2 with w' the value read back: a gain below scale / 2, a loss above it. So the error over t
// falls, then rises, and the t that keep the bound are one interval, whose upper end is wanted. The first look sums the cost
// per bin of |w| bits and finds the bin that holds this end; the second sums it per magnitude inside the bin.

import { ABS_MASK, bitsFloat, floatBits, INFINITY_BITS } from '../kernels/float-bits.ts'
import { type DecodedInt8Slot, decodeInt8Slot, int8Code } from '../kernels/quantize-int8.ts'

/** A bin of the first look holds the magnitudes whose bits agree above these: 65536 bins, 1.2 % of a magnitude wide at most. */
const BIN_BITS = 15
const BINS = 2 ** (31 - BIN_BITS)
const BIN_MAGNITUDES = 2 ** BIN_BITS

/** Sums of a billion f64 terms are known to this part of themselves (4e-12 dB); it may not decide against a t. */
const SUM_PRECISION = 1e-12

export class DeadZoneSearch {
  readonly #slot: DecodedInt8Slot
  readonly #scale: number
  readonly #minSqnrDb: number
  #signal = 0
  /** Squared error when only zeros are zero. */
  #error = 0
  #allowed = 0
  #costs = new Float64Array(BINS)
  #present = new Uint8Array(0)
  /** Largest |w| bits of each bin; 0: no value but zeros. */
  readonly #largest = new Uint32Array(BINS)
  #bin = -1
  #errorBefore = 0
  #resultBits = 0

  /**
   * @param slots the slot of quantize-int8 that will encode the values: symmetric, dead zone 0
   * @param scale what the codes are multiplied with when they are read back
   */
  constructor(slots: Uint32Array, scale: number, minSqnrDb: number) {
    this.#slot = decodeInt8Slot(slots, 0)
    this.#scale = scale
    this.#minSqnrDb = minSqnrDb
  }

  /**
   * |w| bits of t: the largest magnitude that may be zeroed; 0 when no t keeps the bound, or no value but zeros may go.
   * Final after `narrow` (when it returns false) or `finish`.
   */
  get resultBits(): number {
    return this.#resultBits
  }

  /** First look. Values that are not finite, and those with |w| bits at or below `pruneBits`, which become 0, have no part. */
  add(bits: Uint32Array, pruneBits: number): void {
    const costs = this.#costs
    const largest = this.#largest
    let signal = this.#signal
    let error = this.#error
    for (let i = 0; i < bits.length; i++) {
      const magnitude = bits[i]! & ABS_MASK
      if (magnitude <= pruneBits || magnitude >= INFINITY_BITS) continue
      const value = bitsFloat(magnitude)
      const squared = value * value
      const rounding = this.#roundingError(value, magnitude)
      const bin = magnitude >>> BIN_BITS
      signal += squared
      error += rounding
      costs[bin]! += squared - rounding
      if (magnitude > largest[bin]!) largest[bin] = magnitude
    }
    this.#signal = signal
    this.#error = error
  }

  /** Ends the first look. True: a second look decides inside one bin; false: the result is final. */
  narrow(): boolean {
    this.#allowed = (this.#signal / 10 ** (this.#minSqnrDb / 10)) * (1 + SUM_PRECISION)
    // Where nothing else keeps the bound, the least error can: it lies where codes of 0 and 1 cost the same.
    const least = floatBits(this.#scale / 2) >>> BIN_BITS
    let kept = this.#error <= this.#allowed
    let error = this.#error
    for (let bin = 0; bin < BINS; bin++) {
      const top = this.#largest[bin]!
      if (top === 0) continue
      const before = error
      error += this.#costs[bin]!
      if (error <= this.#allowed) {
        kept = true
        this.#resultBits = top
        this.#bin = -1
      } else if (this.#bin < 0 && (kept || bin === least)) {
        this.#bin = bin
        this.#errorBefore = before
      }
    }
    this.#costs = new Float64Array(BIN_MAGNITUDES)
    this.#present = new Uint8Array(BIN_MAGNITUDES)
    return this.#bin >= 0
  }

  /** Second look, at the same values as the first. */
  addAgain(bits: Uint32Array, pruneBits: number): void {
    const costs = this.#costs
    const bin = this.#bin
    for (let i = 0; i < bits.length; i++) {
      const magnitude = bits[i]! & ABS_MASK
      if (magnitude >>> BIN_BITS !== bin || magnitude <= pruneBits) continue
      const low = magnitude & (BIN_MAGNITUDES - 1)
      const value = bitsFloat(magnitude)
      costs[low]! += value * value - this.#roundingError(value, magnitude)
      this.#present[low] = 1
    }
  }

  /** Ends the second look. */
  finish(): void {
    let error = this.#errorBefore
    for (const [low, cost] of this.#costs.entries()) {
      if (this.#present[low] === 0) continue
      error += cost
      if (error <= this.#allowed) this.#resultBits = this.#bin * BIN_MAGNITUDES + low
    }
  }

  /** Squared error of a magnitude outside of the dead zone: its code is read back as f32(code * scale). */
  #roundingError(value: number, magnitude: number): number {
    const rest = value - Math.fround(int8Code(this.#slot, value, magnitude) * this.#scale)
    return rest * rest
  }
}
