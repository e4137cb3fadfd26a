// What the tensors of a graph-less file are, judged by dtype, rank and name: describeTensors. Rank-2 floats are matrices
// [out, in] as torch.nn.Linear stores them, higher ranks are taken for convolutions (axis 0 = output channels). Tensors that
// belong to a weight which is already compressed (its scales, zero points, packed words) are locked.

import type { DType } from '../../tensor/dtype.ts'
import { elementCount, isReducedFloat } from '../../tensor/dtype.ts'
import type {
  BlockLayout,
  EncodingKind,
  EncodingSupport,
  MatrixView,
  TensorData,
  TensorInfo,
  WeightRole,
} from '../../tensor/model.ts'

/** compressed-tensors has no ragged last group, and packs zero points along dim 0. */
const PACK_QUANTIZED_BLOCKS: BlockLayout = { raggedBlocks: false, zeroPoints: 'column-words' }

/** Suffixes of the tensors that we write beside a weight. */
export const SCALED_SUFFIXES = { scale: '.scale', zeroPoint: '.zero_point' } as const
export const PACKED_SUFFIXES = {
  values: '_packed',
  scale: '_scale',
  shape: '_shape',
  zeroPoint: '_zero_point',
} as const

const BIAS_NAME = /(^|[._])bias(_[a-z0-9]+)*$|(^|[._])beta$/
const NORM_NAME = /(^|[._0-9])(norm|layernorm|layer_norm|rmsnorm|groupnorm|batchnorm|ln|bn|gn)([._0-9]|$)/i
const RUNNING_NAME = /(^|[._])(running_mean|running_var|num_batches_tracked|gamma)$/

export interface RawTensor {
  name: string
  dtype: DType
  shape: number[]
  data: TensorData
}

/** Fills roles, locks and legal encodings; the order stays. */
export function describeTensors(raw: readonly RawTensor[]): TensorInfo[] {
  const byName = new Map(raw.map((tensor) => [tensor.name, tensor]))
  return raw.map((tensor) => {
    const role = roleOf(tensor)
    return {
      ...tensor,
      roles: [role],
      uses: [{ op: 'Tensor', node: '', inputIndex: 0 }],
      locked: lockOf(tensor, byName),
      encodings: encodingsOf(tensor, role, byName),
      channelAxis: role === 'matrix' || role === 'conv' ? 0 : null,
    }
  })
}

function roleOf({ name, dtype, shape }: RawTensor): WeightRole {
  if (BIAS_NAME.test(name)) return 'bias'
  if (shape.length <= 1) return shape.length === 1 && isFloat(dtype) ? 'norm' : 'other'
  if (RUNNING_NAME.test(name) || (NORM_NAME.test(name) && Math.max(...shape) === elementCount(shape))) return 'norm'
  if (!isFloat(dtype)) return 'other'
  return shape.length === 2 ? 'matrix' : 'conv'
}

function isFloat(dtype: DType): boolean {
  return dtype === 'f32' || dtype === 'f64' || isReducedFloat(dtype)
}

function isPacked(dtype: DType): boolean {
  return !isFloat(dtype) || dtype.startsWith('f8_') || dtype.startsWith('f6_') || dtype.startsWith('f4_')
}

/** Companions of a compressed weight, by the names that the common schemes give them. */
function lockOf(tensor: RawTensor, byName: ReadonlyMap<string, RawTensor>): TensorInfo['locked'] {
  const owner = compressedOwner(tensor.name, byName)
  if (owner === null) return null
  return { reason: 'already_compressed', detail: `belongs to ${JSON.stringify(owner)}, which is already compressed` }
}

function compressedOwner(name: string, byName: ReadonlyMap<string, RawTensor>): string | null {
  const packed = /^(.*)_(packed|scale|shape|zero_point|g_idx|global_scale)$/.exec(name)
  if (packed && byName.has(`${packed[1]}_packed`)) return `${packed[1]}_packed` // compressed-tensors
  const grouped = /^(.*)\.(qweight|qzeros|scales|g_idx)$/.exec(name)
  if (grouped && byName.has(`${grouped[1]}.qweight`)) return `${grouped[1]}.qweight` // GPTQ, AWQ
  const scaled = /^(.*?)([._]scale|[._]scale_inv|[._]zero_point|[._]absmax|\.SCB|\.quant_map|\.quant_state\..*)$/.exec(
    name,
  )
  const weight = scaled ? byName.get(scaled[1] ?? '') : undefined
  if (weight && weight.shape.length > 0 && isPacked(weight.dtype)) return weight.name // int8, fp8, bitsandbytes
  return null
}

function encodingsOf(
  tensor: RawTensor,
  role: WeightRole,
  byName: ReadonlyMap<string, RawTensor>,
): Record<EncodingKind, EncodingSupport> {
  const channelAxis = role === 'matrix' || role === 'conv' ? 0 : null
  const plain: EncodingSupport = { ok: true, channelAxis, matrix: null }
  const [rows = 0, columns = 0] = tensor.shape
  const matrix: MatrixView = { n: rows, k: columns, order: 'nk' }
  const no = (detail: string): EncodingSupport => ({ ok: false, reason: 'encoding_unsupported', detail })
  const taken = (suffixes: Record<string, string>) =>
    Object.values(suffixes)
      .map((suffix) => tensor.name + suffix)
      .find((name) => byName.has(name))
  const scaledTaken = taken(SCALED_SUFFIXES)
  const packedTaken = taken(PACKED_SUFFIXES)
  return {
    dense: plain,
    float16: plain,
    bfloat16: plain,
    'scaled-int8': scaledTaken ? no(`the name ${JSON.stringify(scaledTaken)} is already taken`) : plain,
    'scaled-int4': no('safetensors has no 4-bit integer dtype; use blocks'),
    'block-packed': packedTaken
      ? no(`the name ${JSON.stringify(packedTaken)} is already taken`)
      : tensor.shape.length === 2
        ? { ok: true, channelAxis, matrix, blocks: PACK_QUANTIZED_BLOCKS }
        : no('packed blocks are defined for matrices, and its rank is not 2'),
    'dynamic-int8': no('a safetensors file has no graph that could quantize activations'),
  }
}

/** Compressed forms that the file already holds, as people call them. */
export function findCompressedForms(raw: readonly RawTensor[], metadata: Record<string, string>): string[] {
  const forms = new Set<string>()
  const byName = new Map(raw.map((tensor) => [tensor.name, tensor]))
  for (const { name, dtype } of raw) {
    if (dtype === 'f16') forms.add('fp16')
    else if (dtype === 'bf16') forms.add('bf16')
    else if (dtype.startsWith('f8_')) forms.add('fp8')
    else if (/^f[46]_/.test(dtype)) forms.add(dtype.slice(0, 2).replace('f', 'fp'))
    if (name.endsWith('_packed') && byName.has(name.replace(/_packed$/, '_scale'))) forms.add('pack-quantized')
    else if (name.endsWith('.qweight')) forms.add('GPTQ or AWQ')
    else if ((dtype === 'i8' || dtype === 'u8') && (byName.has(`${name}.scale`) || byName.has(`${name}_scale`)))
      forms.add('int8')
  }
  if (metadata['quantization_config'] !== undefined) forms.add('quantization_config')
  return [...forms]
}
