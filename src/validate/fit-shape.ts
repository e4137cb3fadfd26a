// How the shape of a dataset array fits the shape S of a model input. Entry: fitShape. Three ways:
// - shared: exactly S; given to every run as it is
// - batched: the rank of S, along dim 0; a fixed dim 0 of b makes runs of b samples (b = 1: one by one)
// - items: the rank of S plus 1; x[i] is one full input

export type Fit = { kind: 'shared' } | { kind: 'items' } | { kind: 'batched'; fixedBatch: number | null }

function isDynamic(dim: number | string | undefined): boolean {
  return typeof dim !== 'number' || dim < 1
}

/** How an array of `shape` fits an input of shape `wanted` (numbers below 1 and strings are dynamic); null: not at all. */
export function fitShape(shape: readonly number[], wanted: readonly (number | string)[]): Fit | null {
  const tail = (from: number, offset: number) =>
    wanted.slice(from).every((dim, i) => isDynamic(dim) || dim === shape[from + offset + i])
  if (shape.length === wanted.length + 1) return tail(0, 1) ? { kind: 'items' } : null
  if (shape.length !== wanted.length) return null
  const [batch] = wanted
  if (batch === undefined) return { kind: 'shared' }
  if (!tail(1, 0)) return null
  if (isDynamic(batch)) return { kind: 'batched', fixedBatch: null }
  if (shape[0] === batch) return { kind: 'shared' }
  return (shape[0] ?? 0) % Number(batch) === 0 ? { kind: 'batched', fixedBatch: Number(batch) } : null
}

/** A shape as people write it, dynamic dimensions by their name or as ?. */
export function shapeText(shape: readonly (number | string)[]): string {
  return `[${shape.map((dim) => (isDynamic(dim) && dim !== 0 ? `${dim === '' || typeof dim === 'number' ? '?' : dim}` : dim)).join(', ')}]`
}
