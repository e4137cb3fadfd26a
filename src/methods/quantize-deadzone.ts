// quantize-deadzone: int8 with a widened zero. q = 0 if |w| <= t, else sign(w) * clamp(roundHalfEven(|w| / scale), 1, 127),
// scale = absmax / 127, one per tensor. t is given (`threshold`); or the smallest magnitude with count(|w| <= t) >=
// ceil(sparsity * n); or the largest t whose signal-to-quantization-noise ratio stays at or above `min_sqnr_db`.
// Source: dead-zone quantizer of image coding (ISO/IEC 15444-1 annex E), with reconstruction at the grid points.

import type { DeadZonePlan } from '../tensor/model.ts'
import type { CompressionMethod } from './compression-method.ts'
import type { QuantizeDeadZoneParams } from './quantize-deadzone-params.ts'

export const quantizeDeadZone: CompressionMethod<QuantizeDeadZoneParams> = {
  id: 'quantize-deadzone',
  stage: 'encode',
  summary: 'int8 per tensor where small weights are rounded to zero',
  needsGraph: false,
  plan(tensor, params, context) {
    if (context.nonFinite) {
      return { kind: 'skip', reason: 'non_finite', detail: 'holds NaN or Inf, which integers cannot represent' }
    }
    const support = tensor.encodings['scaled-int8']
    if (!support.ok) return { kind: 'skip', reason: support.reason, detail: support.detail }
    const { deadZone, detail } = deadZonePlan(params)
    return {
      kind: 'encode',
      encode: {
        kind: 'scaled-int',
        bits: 8,
        granularity: 'tensor',
        axis: null,
        symmetric: true,
        clip: { kind: 'none' },
        deadZone,
      },
      detail: `int8 symmetric, one scale, dead zone ${detail}`,
    }
  },
}

function deadZonePlan(params: QuantizeDeadZoneParams): { deadZone: DeadZonePlan; detail: string } {
  if (params.threshold !== undefined) {
    return { deadZone: { kind: 'threshold', threshold: params.threshold }, detail: `up to ${params.threshold}` }
  }
  if (params.sparsity !== undefined) {
    return { deadZone: { kind: 'sparsity', sparsity: params.sparsity }, detail: `for sparsity ${params.sparsity}` }
  }
  const minSqnrDb = params.min_sqnr_db ?? 0
  return { deadZone: { kind: 'min-sqnr', minSqnrDb }, detail: `as wide as an SQNR of ${minSqnrDb} dB allows` }
}
