// cast: 16-bit float storage, rounded to nearest, ties to even. fp16 is IEEE 754 binary16 (a tensor with a finite value of
// magnitude 65520 or more stays fp32: it would become Inf); bf16 is the upper half of binary32, rounded.

import type { CastParams } from './cast-params.ts'
import type { CompressionMethod } from './compression-method.ts'

export const cast: CompressionMethod<CastParams> = {
  id: 'cast',
  stage: 'encode',
  summary: 'store fp16 or bf16',
  needsGraph: false,
  plan(tensor, params, context) {
    const kind = params.dtype === 'fp16' ? 'float16' : 'bfloat16'
    if (params.dtype === 'fp16' ? context.float16Overflow : context.bfloat16Overflow) {
      return { kind: 'skip', reason: 'fp16_overflow', detail: `a value is beyond the range of ${params.dtype}` }
    }
    const support = tensor.encodings[kind]
    if (!support.ok) return { kind: 'skip', reason: support.reason, detail: support.detail }
    return { kind: 'encode', encode: { kind }, detail: `${params.dtype}, rounded to nearest even` }
  },
}
