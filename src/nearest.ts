// The known word that somebody probably meant. Entry: nearest().

/** The candidate that takes fewest edits to reach, if it is near enough to be a slip of the hand; else null. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  const allowed = Math.max(1, Math.floor(word.replace(/^-+/, '').length / 3))
  let best: { candidate: string; edits: number } | null = null
  for (const candidate of candidates) {
    const edits = candidate.startsWith(word) && word.length > 3 ? 0 : editDistance(word, candidate)
    if (edits <= allowed && (best === null || edits < best.edits)) best = { candidate, edits }
  }
  return best?.candidate ?? null
}

/** Levenshtein distance: insertions, deletions and substitutions that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const substitution = previous[column - 1]! + (a[row - 1] === b[column - 1] ? 0 : 1)
      current.push(Math.min(substitution, previous[column]! + 1, current[column - 1]! + 1))
    }
    previous = current
  }
  return previous[b.length]!
}
