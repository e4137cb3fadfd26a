// The tensors that a compressed weight becomes: shapes, dtypes and bytes, from metadata alone. Entry: outputParts.
// Block-packed layouts: com.microsoft MatMulNBits, compressed-tensors pack-quantized (see BlockLayout).

import { byteLength, type DType, elementCount } from '../tensor/dtype.ts'
import {
  type EncodePlan,
  MATMUL_NBITS_BLOCKS,
  type OutputPart,
  type PartName,
  type TensorInfo,
} from '../tensor/model.ts'

function part(name: PartName, dtype: DType, shape: number[]): OutputPart {
  return { part: name, dtype, shape, lengthBytes: byteLength(dtype, elementCount(shape)) }
}

/** Output parts of `tensor` in the form `encode`, values first. */
export function outputParts(tensor: TensorInfo, encode: EncodePlan): OutputPart[] {
  switch (encode.kind) {
    case 'dense':
      return [part('values', tensor.dtype, tensor.shape)]
    case 'float16':
      return [part('values', 'f16', tensor.shape)]
    case 'bfloat16':
      return [part('values', 'bf16', tensor.shape)]
    case 'scaled-int': {
      const dtype = encode.bits === 8 ? (encode.symmetric ? 'i8' : 'u8') : encode.symmetric ? 'i4' : 'u4'
      const shared = encode.axis === null ? [] : [tensor.shape[encode.axis] ?? 1]
      const parts = [part('values', dtype, tensor.shape), part('scale', 'f32', shared)]
      // Cast * scale has no zero point operand; only the asymmetric form needs one.
      if (!encode.symmetric) parts.push(part('zero_point', 'u8', shared))
      return parts
    }
    case 'dynamic-int8':
      return [
        part('values', 'u8', tensor.shape),
        part('scale', 'f32', [encode.matrix.n]),
        part('zero_point', 'u8', [encode.matrix.n]),
      ]
    case 'block-packed':
      return blockParts(encode)
    default:
      return encode satisfies never
  }
}

type BlockPacked = Extract<EncodePlan, { kind: 'block-packed' }>

/** Row-byte zero points are written for symmetric blocks too: onnxruntime's defaults differ between operators. */
function blockParts({ matrix, bits, blockSize, symmetric, blocks: layout }: BlockPacked): OutputPart[] {
  const blocks = Math.ceil(matrix.k / blockSize)
  const parts = [
    part('values', 'u8', [matrix.n, blocks, (blockSize * bits) / 8]),
    part('scale', 'f32', [matrix.n, blocks]),
  ]
  if ((layout ?? MATMUL_NBITS_BLOCKS).zeroPoints === 'row-bytes') {
    parts.push(part('zero_point', 'u8', [matrix.n, Math.ceil((blocks * bits) / 8)]))
  } else if (!symmetric) {
    parts.push(part('zero_point', 'i32', [Math.ceil((matrix.n * bits) / 32), blocks]))
  }
  return parts
}
