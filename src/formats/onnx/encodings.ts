// Which storage forms are legal for a constant at the opset of its model and for the operators that use it. Entry:
// encodingsOf. Opsets: Cast takes int8 and float16, Mul broadcasts from 7; bfloat16 from 13; int4 tensors from 21.
// MatMulNBits and DynamicQuantizeMatMul are operators of com.microsoft, version 1, whatever the default opset.

import type { DType } from '../../tensor/dtype.ts'
import type { EncodingKind, EncodingSupport, MatrixView, SkipReason } from '../../tensor/model.ts'
import type { WeightUse } from './weight.ts'

/** Oldest default opset at which anything but the same dtype can be written. */
export const MIN_OPSET = 7
const BFLOAT16_OPSET = 13
const INT4_OPSET = 21

interface Facts {
  dtype: DType
  locked: { reason: SkipReason; detail: string } | null
  uses: readonly WeightUse[]
  channelAxis: number | null
  opset: number | null
}

export function encodingsOf(facts: Facts): Record<EncodingKind, EncodingSupport> {
  const decoded = (minOpset: number, what: string): EncodingSupport =>
    facts.locked
      ? refused(facts.locked.reason, facts.locked.detail)
      : (tooOld(facts.opset, minOpset, what) ?? { ok: true, channelAxis: facts.channelAxis, matrix: null })
  const product = productSupport(facts)
  return {
    dense: facts.locked
      ? refused(facts.locked.reason, facts.locked.detail)
      : { ok: true, channelAxis: facts.channelAxis, matrix: null },
    float16: decoded(MIN_OPSET, 'Cast from float16'),
    bfloat16: decoded(BFLOAT16_OPSET, 'Cast from bfloat16'),
    'scaled-int8': decoded(MIN_OPSET, 'Cast from int8 and broadcasting Mul'),
    'scaled-int4': decoded(INT4_OPSET, 'a tensor of int4'),
    'block-packed': product,
    'dynamic-int8': product,
  }
}

function refused(reason: SkipReason, detail: string): EncodingSupport {
  return { ok: false, reason, detail }
}

function tooOld(opset: number | null, minOpset: number, what: string): EncodingSupport | null {
  if (opset === null)
    return refused('opset_too_old', `${what} needs opset ${minOpset}; the model imports no default opset`)
  return opset < minOpset ? refused('opset_too_old', `${what} needs opset ${minOpset}; the model has ${opset}`) : null
}

/** Products are replaced as a whole, so every use must be one, and all must see the same matrix. */
function productSupport({ locked, uses, channelAxis, opset }: Facts): EncodingSupport {
  if (locked) return refused(locked.reason, locked.detail)
  const old = tooOld(opset, MIN_OPSET, 'replacing MatMul or Gemm')
  if (old) return old
  const first = uses.find(({ matrix }) => matrix !== null)
  if (!first?.matrix) return refused('encoding_unsupported', whyNoProduct(uses))
  const other = uses.find(({ matrix }) => matrix === null || !sameMatrix(matrix, first.matrix!))
  if (other) {
    const op = other.node?.opType ?? 'a graph output'
    return refused('shared_with_other_op', `also used by ${op} in another form (input ${other.inputIndex})`)
  }
  const closed = uses.find(({ scope }) => scope.kind !== 'open')
  if (closed) {
    return refused(
      closed.scope.kind === 'function' ? 'inside_function' : 'inside_scan',
      `used inside the body of ${closed.scope.owner}, whose operators stay as they are`,
    )
  }
  return { ok: true, channelAxis, matrix: first.matrix }
}

function sameMatrix(a: MatrixView, b: MatrixView): boolean {
  return a.k === b.k && a.n === b.n && a.order === b.order
}

function whyNoProduct(uses: readonly WeightUse[]): string {
  const product = uses.find(({ node }) => node?.opType === 'MatMul' || node?.opType === 'Gemm')
  if (!product) {
    const ops = [...new Set(uses.map(({ node }) => node?.opType ?? 'a graph output'))].slice(0, 4)
    return ops.length === 0 ? 'no operator uses it' : `used by ${ops.join(', ')}, not by a MatMul or Gemm`
  }
  if (product.inputIndex !== 1)
    return `it is operand ${product.inputIndex} of ${product.node?.opType}, not the right one`
  return `${product.node?.opType} does not use it as one [K,N] matrix (rank, transA, alpha, or a vector as left operand)`
}
