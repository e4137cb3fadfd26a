// What an operator does with a constant operand: the role, the channel axis, and the [K,N] matrix where it is a plain
// matrix product. Entry: roleOf. Axis conventions are those of the operator specifications at onnx.ai.

import type { NodeProto } from 'onnx-buf'
import type { WeightRole } from '../../tensor/model.ts'
import { attribute, floatAttribute, intAttribute, isStandard } from './attributes.ts'
import { transposeView, type View } from './views.ts'

export interface OperandRole {
  role: WeightRole
  /** Axis of the operand's view along which outputs are separate; null: none. */
  channelAxis: number | null
  /** The operand as rows K, columns N of a product that MatMulNBits or DynamicQuantizeMatMul can take over; null: not such. */
  product: View | null
  /** Set when this use means that the operand belongs to an already compressed weight. */
  compressed: 'values' | 'parameter' | null
}

const plain = (role: WeightRole, channelAxis: number | null = null): OperandRole => ({
  role,
  channelAxis,
  product: null,
  compressed: null,
})

/** Operators whose inputs are quantized values with their scales and zero points, by the index of constant value inputs. */
const QUANTIZED_VALUE_INPUTS: Readonly<Record<string, readonly number[]>> = {
  DequantizeLinear: [0],
  QLinearMatMul: [0, 3],
  QLinearConv: [0, 3, 8],
  ConvInteger: [0, 1],
  MatMulInteger: [0, 1],
  MatMulIntegerToFloat: [0, 1],
  DynamicQuantizeMatMul: [1],
  DynamicQuantizeLSTM: [1, 2],
  MatMulNBits: [1],
  MatMulBnb4: [1],
  GatherBlockQuantized: [0],
  QGemm: [0, 3],
  QLinearAdd: [0, 3],
  QLinearMul: [0, 3],
  QAttention: [0, 1],
  QMoE: [2, 5, 8],
}

const NORM_INPUTS: Readonly<Record<string, readonly number[]>> = {
  BatchNormalization: [1, 2, 3, 4],
  InstanceNormalization: [1, 2],
  LayerNormalization: [1, 2],
  GroupNormalization: [1, 2],
  RMSNormalization: [1],
  SimplifiedLayerNormalization: [1],
  SkipLayerNormalization: [2, 3, 4],
  SkipSimplifiedLayerNormalization: [2, 3],
  EmbedLayerNormalization: [5, 6],
}

/** Does this operator read quantized values? For the summary of already compressed forms. */
export function readsQuantizedValues(node: NodeProto): boolean {
  return QUANTIZED_VALUE_INPUTS[node.opType] !== undefined
}

/** The role of input `inputIndex` of `node`, whose operand has this view (null: a constant whose layout is not known). */
export function roleOf(node: NodeProto, inputIndex: number, view: View | null): OperandRole {
  const values = QUANTIZED_VALUE_INPUTS[node.opType]
  if (values) return { ...plain('other'), compressed: values.includes(inputIndex) ? 'values' : 'parameter' }
  if (node.opType === 'QuantizeLinear') {
    return { ...plain('other'), compressed: inputIndex === 0 ? 'values' : 'parameter' }
  }
  if (NORM_INPUTS[node.opType]?.includes(inputIndex)) return plain('norm')
  if (!isStandard(node) && node.domain !== 'com.microsoft') return plain('other')
  const rank = view?.shape.length ?? 0
  switch (node.opType) {
    case 'MatMul':
    case 'FusedMatMul':
      return matMulRole(node, inputIndex, view)
    case 'Gemm':
    case 'FusedGemm':
      return gemmRole(node, inputIndex, view)
    case 'Einsum':
      return einsumRole(node, inputIndex, view)
    case 'Attention':
      // com.microsoft: inputs X, the joined projection [K,3N], its bias. The standard operator has no weights.
      if (isStandard(node) || inputIndex === 0) return plain('other')
      return inputIndex === 1 ? plain('matmul', rank === 2 ? 1 : null) : plain(inputIndex === 2 ? 'bias' : 'other')
    case 'EmbedLayerNormalization':
      return inputIndex >= 2 && inputIndex <= 4 ? plain('gather', rank > 0 ? 0 : null) : plain('other')
    case 'Conv':
    case 'FusedConv':
    case 'DeformConv':
      if (inputIndex === 1) return plain('conv', rank > 0 ? 0 : null)
      return plain(inputIndex === (node.opType === 'DeformConv' ? 3 : 2) ? 'bias' : 'other')
    case 'ConvTranspose':
      // With groups, axis 1 counts the outputs of one group only, and axis 0 separates more.
      if (inputIndex === 1)
        return plain('conv-transpose', rank > 1 ? (intAttribute(node, 'group', 1) === 1 ? 1 : 0) : null)
      return plain(inputIndex === 2 ? 'bias' : 'other')
    case 'LSTM':
    case 'GRU':
      if (inputIndex === 1 || inputIndex === 2) return plain(node.opType === 'LSTM' ? 'lstm' : 'gru')
      return plain(inputIndex === 3 ? 'bias' : 'other')
    case 'Gather': {
      if (inputIndex !== 0) return plain('other')
      const axis = intAttribute(node, 'axis', 0)
      return plain('gather', rank > 0 ? (axis < 0 ? axis + rank : axis) : null)
    }
    case 'Add':
    case 'Sub':
      return plain(isVector(view) ? 'bias' : 'other')
    case 'Mul':
    case 'Div':
      return plain(isVector(view) ? 'norm' : 'other')
    default:
      return plain('other')
  }
}

/** One axis at most is longer than 1: a value a channel. */
function isVector(view: View | null): boolean {
  return view !== null && view.shape.filter((dim) => dim !== 1).length <= 1
}

function matMulRole(node: NodeProto, inputIndex: number, view: View | null): OperandRole {
  if (inputIndex > 1) return plain('other')
  const rank = view?.shape.length ?? 0
  const isPlain = node.opType === 'MatMul' && isStandard(node)
  if (view === null || rank < 2 || (!isPlain && hasTranspose(node))) return plain('matmul')
  if (inputIndex === 0) return plain('matmul', rank - 2)
  return { ...plain('matmul', rank - 1), product: isPlain && rank === 2 ? view : null }
}

function hasTranspose(node: NodeProto): boolean {
  return ['transA', 'transB', 'transBatchA', 'transBatchB'].some((name) => intAttribute(node, name, 0) !== 0)
}

function gemmRole(node: NodeProto, inputIndex: number, view: View | null): OperandRole {
  if (inputIndex > 1) return plain(inputIndex === 2 ? (isVector(view) ? 'bias' : 'other') : 'other')
  if (view === null || view.shape.length !== 2) return plain('gemm')
  if (inputIndex === 0) return plain('gemm', intAttribute(node, 'transA', 0) === 0 ? 0 : 1)
  const isTransposed = intAttribute(node, 'transB', 0) !== 0
  const isProduct =
    isStandard(node) &&
    node.opType === 'Gemm' &&
    intAttribute(node, 'transA', 0) === 0 &&
    floatAttribute(node, 'alpha', 1) === 1
  return {
    ...plain('gemm', isTransposed ? 0 : 1),
    product: isProduct ? (isTransposed ? transposeView(view, [1, 0]) : view) : null,
  }
}

/** A product in index notation: channels run along the last label that this operand alone gives to the output. */
function einsumRole(node: NodeProto, inputIndex: number, view: View | null): OperandRole {
  const equation = Buffer.from(attribute(node, 'equation')?.s ?? [])
    .toString('latin1')
    .replaceAll(' ', '')
  const [left = '', output = ''] = equation.split('->')
  const terms = left.split(',')
  const own = terms[inputIndex] ?? ''
  if (view === null || terms.length !== 2 || !/^[a-zA-Z]{2,}$/.test(own) || own.length !== view.shape.length) {
    return plain('other')
  }
  const other = terms[1 - inputIndex] ?? ''
  const label = [...output].findLast((candidate) => own.includes(candidate) && !other.includes(candidate))
  return plain('matmul', label === undefined ? null : own.indexOf(label))
}
