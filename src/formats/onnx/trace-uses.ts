// Follows a constant from its definition through Identity, Cast to float32, constant Reshape and Transpose, and joins and
// cuts of constants (Slice, Concat, Unsqueeze, ...), to the operators that use it, in its own graph and in those nested in
// it. Entry: traceUses.

import type { NodeProto } from 'onnx-buf'
import { intAttribute, intsAttribute } from './attributes.ts'
import { constantInts } from './constants.ts'
import { movesElements, resolve, type Scope, type Use } from './scopes.ts'
import { contiguousView, reshapeView, transposeView, type View } from './views.ts'

/** An operator (or, node null, a graph output) that reads the constant, and how it sees it. */
export interface TracedUse {
  scope: Scope
  node: NodeProto | null
  inputIndex: number
  /** Null: through a cut, a join, or a Reshape that strides cannot express. */
  view: View | null
}

export interface TracedConstant {
  uses: TracedUse[]
  /** Nodes between the constant and its uses, each with its scope; they die with it when all uses are replaced. */
  views: { scope: Scope; node: NodeProto }[]
}

/** TensorProto.DataType FLOAT, the `to` of a Cast that is a view. */
const FLOAT = 1

/** Each node is passed once, however often its inputs lead back to the constant; the work list spares the call stack. */
export function traceUses(scope: Scope, name: string, shape: readonly number[]): TracedConstant {
  const traced: TracedConstant = { uses: [], views: [] }
  const passed = new Set<NodeProto>()
  const pending: { scope: Scope; name: string; view: View | null }[] = [{ scope, name, view: contiguousView(shape) }]
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    for (const use of value.scope.uses.get(value.name) ?? []) {
      const { node } = use
      const next = node && viewThrough(use, node, value.view)
      const output = node?.output[0]
      if (!node || next === 'no view' || !output) {
        traced.uses.push({ ...use, view: value.view })
      } else if (!passed.has(node)) {
        passed.add(node)
        traced.views.push({ scope: use.scope, node })
        pending.push({ scope: use.scope, name: output, view: next })
      }
    }
  }
  return traced
}

function viewThrough(use: Use, node: NodeProto, view: View | null): View | null | 'no view' {
  const { scope, inputIndex } = use
  if (!movesElements(node) || (inputIndex !== 0 && node.opType !== 'Concat')) return 'no view'
  switch (node.opType) {
    case 'Identity':
      return view
    case 'Cast':
      return intAttribute(node, 'to', 0) === FLOAT ? view : 'no view'
    case 'Transpose':
      return view && transposeView(view, intsAttribute(node, 'perm'))
    case 'Reshape': {
      const wanted = constantInts(scope, node.input[1] ?? '')
      if (wanted === null) return 'no view'
      const shape = view && resolveShape(view.shape, wanted, intAttribute(node, 'allowzero', 0) !== 0)
      return view && shape && reshapeView(view, shape)
    }
    default:
      return scope.constants.has(node.output[0] ?? '') ? null : 'no view'
  }
}

/** The shape that Reshape makes: 0 keeps a dimension (unless allowzero), -1 is what is left over. Null: not legal. */
function resolveShape(from: readonly number[], wanted: readonly number[], allowZero: boolean): number[] | null {
  const shape = wanted.map((dim, axis) => (dim === 0 && !allowZero ? (from[axis] ?? -2) : dim))
  const free = shape.indexOf(-1)
  if (free >= 0) {
    const total = from.reduce((product, dim) => product * dim, 1)
    const known = shape.reduce((product, dim, axis) => (axis === free ? product : product * dim), 1)
    shape[free] = known === 0 ? -2 : total / known
  }
  return shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0) ? shape : null
}

/** Names of initializers that views of the constant read (the shapes of Reshape), with their scopes. */
export function viewOperands(traced: TracedConstant): { scope: Scope; name: string }[] {
  const operands: { scope: Scope; name: string }[] = []
  for (const { scope, node } of traced.views) {
    const name = node.opType === 'Reshape' ? node.input[1] : undefined
    if (name === undefined || name === '') continue
    const owner = resolve(scope, name)
    if (owner?.definitions.get(name)?.kind === 'initializer') operands.push({ scope: owner, name })
  }
  return operands
}
