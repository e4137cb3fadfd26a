// The widest dead zone that keeps a signal-to-quantization-noise ratio, from a linear histogram of the weights.
// Entry: deadZoneEdges (what to count), widestDeadZone (the decision). Pure f64 on exact counts, equal on every device.
// Bins are 1/16 of a quantization step wide, so that the rounding error of each bin's values is known; a bin's values count
// with the mean square of a uniform distribution, m^2 + width^2 / 12.

import { roundHalfEven } from './scaled-parameters.ts'

/** Bins per quantization step; the threshold is found to this part of a step. */
const BINS_PER_STEP = 16
const Q_MAX = 127
const BINS_PER_SIDE = Q_MAX * BINS_PER_STEP

export const DEAD_ZONE_BINS = 2 * BINS_PER_SIDE

/** Covers what the uniform model of a bin leaves open, so that the measured ratio stays at or above the asked one. */
const MARGIN_DB = 0.02

/** Edges for `histogram-linear`: -absMax to absMax in steps of scale / 16. */
export function deadZoneEdges(absMax: number): Float32Array {
  const edges = new Float32Array(DEAD_ZONE_BINS + 1)
  for (let i = 0; i <= DEAD_ZONE_BINS; i++) edges[i] = (absMax * (i - BINS_PER_SIDE)) / BINS_PER_SIDE
  return edges
}

/**
 * The largest t, a multiple of scale / 16, for which zeroing |w| <= t keeps 10 log10(signal / error) >= minSqnrDb;
 * 0 when even the plain int8 form does not reach it.
 */
export function widestDeadZone(counts: ArrayLike<number>, absMax: number, minSqnrDb: number): number {
  const width = absMax / BINS_PER_SIDE
  const scale = absMax / Q_MAX
  const signal = new Float64Array(BINS_PER_SIDE)
  const rounding = new Float64Array(BINS_PER_SIDE)
  let total = 0
  let error = 0
  for (let side = 0; side < BINS_PER_SIDE; side++) {
    const count = (counts[BINS_PER_SIDE + side] ?? 0) + (counts[BINS_PER_SIDE - 1 - side] ?? 0)
    const middle = (side + 0.5) * width
    const code = Math.min(Q_MAX, Math.max(1, roundHalfEven(middle / scale)))
    signal[side] = count * (middle * middle + (width * width) / 12)
    rounding[side] = count * ((middle - code * scale) ** 2 + (width * width) / 12)
    total += signal[side] ?? 0
    error += rounding[side] ?? 0
  }
  const allowed = total / 10 ** ((minSqnrDb + MARGIN_DB) / 10)
  let widest = 0
  for (let side = 0; side < BINS_PER_SIDE; side++) {
    error += (signal[side] ?? 0) - (rounding[side] ?? 0)
    if (error <= allowed) widest = side + 1
  }
  return Math.fround(widest * width)
}
