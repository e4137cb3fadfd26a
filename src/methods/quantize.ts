// quantize: integers with a shared scale (and zero point), rounded to nearest, ties to even.
//   tensor | channel, symmetric:  scale = absmax / qmax, q = clamp(roundHalfEven(w / scale), -qmax, qmax), qmax = 127 or 7
//   tensor | channel, asymmetric: [lo, hi] holds 0, scale = (hi - lo) / (2^bits - 1), q = clamp(roundHalfEven(w / scale) + zero point)
//   block, symmetric:             w* = element of largest magnitude, scale = w* / -2^(bits-1), q = clamp(roundHalfEven(w / scale) + 2^(bits-1))
//   block, asymmetric:            as channel, per block of `block_size` along K
// clip: none, percentile (of |w|; tensor and channel), mse (tensor and channel, symmetric; block: a grid of shrink factors).
// Sources: Jacob et al. 2018 (affine quantization); com.microsoft MatMulNBits and GGUF Q4_0 (block arithmetic).

import { type ClipPlan, MATMUL_NBITS_BLOCKS, type TensorInfo } from '../tensor/model.ts'
import type { CompressionMethod, MethodPlan } from './compression-method.ts'
import { DEFAULT_PERCENTILE } from './quantize-limits.ts'
import type { QuantizeParams } from './quantize-params.ts'

/**
 * Largest packed form, in bytes, that a transposed [K,N] weight may have: it is built whole in one storage binding, and
 * 128 MiB is the binding size that every WebGPU device grants. One limit for all devices keeps plans equal everywhere.
 */
export const MAX_TRANSPOSED_PACKED_BYTES = 128 * 1024 * 1024

/** Odd rows of 4-bit codes are written two at a time, and two must fit the smallest chunk (1 MiB, 262144 values). */
const MAX_ODD_NIBBLE_ROW = 131072

export const quantize: CompressionMethod<QuantizeParams> = {
  id: 'quantize',
  stage: 'encode',
  summary: 'store integers of 8 or 4 bits with a scale per tensor, channel or block',
  needsGraph: false,
  plan(tensor, params, context) {
    if (context.nonFinite) {
      return { kind: 'skip', reason: 'non_finite', detail: 'holds NaN or Inf, which integers cannot represent' }
    }
    return params.granularity === 'block' ? planBlocks(tensor, params) : planScaled(tensor, params, params.granularity)
  },
}

function clipPlan(params: QuantizeParams): ClipPlan {
  if (params.clip === 'percentile') {
    return { kind: 'percentile', percentile: params.percentile ?? DEFAULT_PERCENTILE }
  }
  return { kind: params.clip }
}

function describeClip(params: QuantizeParams): string {
  if (params.clip === 'none') return ''
  return params.clip === 'mse' ? ', clipped by mse' : `, clipped at percentile ${params.percentile}`
}

function planScaled(tensor: TensorInfo, params: QuantizeParams, granularity: 'tensor' | 'channel'): MethodPlan {
  const support = tensor.encodings[params.bits === 8 ? 'scaled-int8' : 'scaled-int4']
  if (!support.ok) return { kind: 'skip', reason: support.reason, detail: support.detail }
  // Where a use has no channel axis (LSTM, GRU), one scale serves the tensor.
  const axis = granularity === 'channel' ? support.channelAxis : null
  if (params.bits === 4 && axis === tensor.shape.length - 1) {
    const channels = tensor.shape[axis] ?? 1
    if (channels % 2 === 1 && channels > MAX_ODD_NIBBLE_ROW) {
      return {
        kind: 'skip',
        reason: 'too_large_for_device',
        detail: `rows of ${channels} 4-bit codes end inside a byte, the limit for such rows is ${MAX_ODD_NIBBLE_ROW}`,
      }
    }
  }
  const scheme = params.symmetric ? 'symmetric' : 'asymmetric'
  const sharing = axis === null ? 'one scale' : `one scale per index of axis ${axis}`
  return {
    kind: 'encode',
    encode: {
      kind: 'scaled-int',
      bits: params.bits,
      granularity: axis === null ? 'tensor' : 'channel',
      axis,
      symmetric: params.symmetric,
      clip: clipPlan(params),
      deadZone: null,
    },
    detail: `int${params.bits} ${scheme}, ${sharing}${describeClip(params)}`,
  }
}

function planBlocks(tensor: TensorInfo, params: QuantizeParams): MethodPlan {
  const support = tensor.encodings['block-packed']
  if (!support.ok) return { kind: 'skip', reason: support.reason, detail: support.detail }
  const { matrix } = support
  if (matrix === null) {
    return { kind: 'skip', reason: 'encoding_unsupported', detail: 'blocks need a matrix, and its use is not one' }
  }
  const blockSize = params.block_size ?? 32
  const blocks = support.blocks ?? MATMUL_NBITS_BLOCKS
  if (!blocks.raggedBlocks && matrix.k % blockSize !== 0) {
    return {
      kind: 'skip',
      reason: 'block_size_mismatch',
      detail: `its rows of ${matrix.k} do not divide into blocks of ${blockSize}`,
    }
  }
  const packedBytes = (matrix.n * Math.ceil(matrix.k / blockSize) * blockSize * params.bits) / 8
  if (matrix.order === 'kn' && packedBytes > MAX_TRANSPOSED_PACKED_BYTES) {
    return {
      kind: 'skip',
      reason: 'too_large_for_device',
      detail: `its transposed packed form takes ${packedBytes} bytes, the limit is ${MAX_TRANSPOSED_PACKED_BYTES}`,
    }
  }
  const scheme = params.symmetric ? 'symmetric' : 'asymmetric'
  return {
    kind: 'encode',
    encode: {
      kind: 'block-packed',
      bits: params.bits,
      blockSize,
      symmetric: params.symmetric,
      clip: clipPlan(params),
      matrix,
      blocks,
    },
    detail: `int${params.bits} ${scheme}, blocks of ${blockSize} along K${describeClip(params)}`,
  }
}
