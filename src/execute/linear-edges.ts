// Equal bins over a range of f32 values, as histogram-linear takes them. Entry: linearEdges. Pure.

/**
 * bins + 1 ascending edges, the first and the last exactly `from` and `to`; f32 neighbours may coincide when the range holds
 * fewer values than bins, which leaves the bins between them empty.
 */
export function linearEdges(from: number, to: number, bins: number): Float32Array {
  const edges = new Float32Array(bins + 1)
  for (let i = 0; i <= bins; i++) edges[i] = from * (1 - i / bins) + to * (i / bins)
  edges[0] = from
  edges[bins] = to
  return edges
}
