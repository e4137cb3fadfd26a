// A weight seen through Reshape and Transpose, as strides into its stored row-major elements. So the axis or the matrix that
// an operator works on can be told in terms of the stored tensor. Pure.

import type { MatrixView } from '../../tensor/model.ts'

/** Strides in elements of the stored tensor; element [i...] of the view is stored element sum(i * stride). */
export interface View {
  shape: number[]
  strides: number[]
}

export function contiguousView(shape: readonly number[]): View {
  const strides = new Array<number>(shape.length).fill(1)
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1]! * shape[axis + 1]!
  return { shape: [...shape], strides }
}

/** ONNX Transpose: perm absent reverses the axes. Null when perm is not a permutation. */
export function transposeView(view: View, perm: readonly number[] | null): View | null {
  const order = perm ?? view.shape.map((_, axis) => view.shape.length - 1 - axis)
  if (order.length !== view.shape.length || new Set(order).size !== order.length) return null
  if (order.some((axis) => view.shape[axis] === undefined)) return null
  return { shape: order.map((axis) => view.shape[axis]!), strides: order.map((axis) => view.strides[axis]!) }
}

/**
 * The view with another shape over the same elements in the same order, or null when strides cannot express it. Groups of
 * axes with equal products are matched from the left; inside a group the old axes must be contiguous.
 */
export function reshapeView(view: View, shape: readonly number[]): View | null {
  const total = view.shape.reduce((product, dim) => product * dim, 1)
  if (total === 0 || shape.some((dim) => !(dim > 0))) return null
  if (shape.reduce((product, dim) => product * dim, 1) !== total) return null
  const old = view.shape.map((dim, axis) => ({ dim, stride: view.strides[axis]! })).filter(({ dim }) => dim !== 1)
  const strides = new Array<number>(shape.length).fill(1)
  let from = 0
  let to = 0
  while (from < old.length) {
    let oldProduct = old[from]!.dim
    let newProduct = shape[to] ?? 1
    let oldEnd = from + 1
    let newEnd = to + 1
    while (oldProduct !== newProduct) {
      if (oldProduct < newProduct) oldProduct *= old[oldEnd++]!.dim
      else newProduct *= shape[newEnd++]!
    }
    for (let axis = from; axis + 1 < oldEnd; axis++) {
      if (old[axis]!.stride !== old[axis + 1]!.dim * old[axis + 1]!.stride) return null
    }
    let stride = old[oldEnd - 1]!.stride
    for (let axis = newEnd - 1; axis >= to; axis--) {
      strides[axis] = stride
      stride *= shape[axis]!
    }
    from = oldEnd
    to = newEnd
  }
  return { shape: [...shape], strides }
}

/** The stored axis that a view's axis is, or null when it is a part or a merger of stored axes. */
export function storedAxis(stored: readonly number[], view: View, axis: number): number | null {
  const dim = view.shape[axis]
  const stride = view.strides[axis]
  if (dim === undefined || dim === 1) return null
  const strides = contiguousView(stored).strides
  const found = stored.findIndex((size, at) => size === dim && strides[at] === stride)
  return found < 0 ? null : found
}

/** The [K,N] operand of a product that a rank-2 view with rows K is, when its elements are stored in one of two orders. */
export function matrixView(view: View): MatrixView | null {
  const [k, n] = view.shape
  if (view.shape.length !== 2 || k === undefined || n === undefined || k === 0 || n === 0) return null
  const [rowStride, columnStride] = view.strides
  const isRowMajor = (k === 1 || rowStride === n) && (n === 1 || columnStride === 1)
  if (isRowMajor) return { k, n, order: 'kn' }
  const isColumnMajor = (k === 1 || rowStride === 1) && (n === 1 || columnStride === k)
  return isColumnMajor ? { k, n, order: 'nk' } : null
}
