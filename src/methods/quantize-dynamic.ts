// quantize-dynamic: int8 weights for products whose activations are quantized at run time (com.microsoft
// DynamicQuantizeMatMul). Per column n of the [K,N] weight: scale[n] = absmax[n] / 127,
// q = 128 + clamp(roundHalfEven(w / scale[n]), -127, 127), unsigned with zero point 128: with unsigned weights the
// accumulation of onnxruntime's kernels does not saturate on CPUs without VNNI.

import type { CompressionMethod } from './compression-method.ts'
import type { QuantizeDynamicParams } from './quantize-dynamic-params.ts'

export const quantizeDynamic: CompressionMethod<QuantizeDynamicParams> = {
  id: 'quantize-dynamic',
  stage: 'encode',
  summary: 'uint8 weights, int8 arithmetic with activations quantized at run time (MatMul, Gemm)',
  needsGraph: true,
  plan(tensor, _params, context) {
    if (context.nonFinite) {
      return { kind: 'skip', reason: 'non_finite', detail: 'holds NaN or Inf, which integers cannot represent' }
    }
    const support = tensor.encodings['dynamic-int8']
    if (!support.ok) return { kind: 'skip', reason: support.reason, detail: support.detail }
    if (support.matrix === null) {
      return { kind: 'skip', reason: 'encoding_unsupported', detail: 'dynamic quantization needs a matrix product' }
    }
    return {
      kind: 'encode',
      encode: { kind: 'dynamic-int8', clip: { kind: 'none' }, matrix: support.matrix },
      detail: 'uint8 with zero point 128, one scale per output column, activations quantized at run time',
    }
  },
}
