// Whether the memory of the fuzzing process stays flat: what is live after a full collection, and the largest resident set.
// Entry: MemoryWatch. Needs --expose-gc.

export interface MemoryFigures {
  /** Live bytes (heap and buffers, without the corpus) after each collection. */
  liveBytes: number[]
  /** Of the last third of the run against the first third; what caches and compiled code take is in both. */
  growthBytes: number
  peakResidentBytes: number
}

/** Compiled code and the feedback of functions that run late are live too: some MiB, whatever the number of cases. */
export const MAX_GROWTH_BYTES = 12 * 1024 * 1024
/** Node, the readers, coverage and a corpus take about 200 MiB; one case may take as much again. */
export const MAX_RESIDENT_BYTES = 640 * 1024 * 1024

export class MemoryWatch {
  readonly #liveBytes: number[] = []
  readonly #collect: () => void

  constructor() {
    if (globalThis.gc === undefined) throw new Error('the memory watch needs node --expose-gc')
    this.#collect = () => void globalThis.gc?.()
  }

  /** `ownBytes`: what the engine itself keeps. */
  sample(ownBytes: number): void {
    // Buffers that a collection frees leave the count when a thread beside has swept them; the next collection waits for it.
    this.#collect()
    this.#collect()
    const { heapUsed, external } = process.memoryUsage()
    this.#liveBytes.push(heapUsed + external - ownBytes)
  }

  figures(): MemoryFigures {
    const third = Math.max(1, Math.floor(this.#liveBytes.length / 3))
    // The first sample is from before compiled code has settled.
    const early = median(this.#liveBytes.slice(1, 1 + third))
    const late = median(this.#liveBytes.slice(-third))
    return {
      liveBytes: [...this.#liveBytes],
      growthBytes: this.#liveBytes.length < 4 ? 0 : late - early,
      peakResidentBytes: process.resourceUsage().maxRSS * 1024,
    }
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
