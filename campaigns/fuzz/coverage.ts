// Which code of src/ has run in this process, as V8 counts its blocks: CodeCoverage. A look costs some milliseconds, so that
// the engine looks after a batch of cases and searches for the case that did it only when the batch reached something new.
// V8 joins neighbouring blocks that ran equally often, so ranges are no identity; characters of source are.

import { type Profiler, Session } from 'node:inspector'

export class CodeCoverage {
  readonly #session = new Session()
  readonly #prefix: string
  /** By script: 1 where the character has run. */
  readonly #seen = new Map<string, Uint8Array>()
  #characters = 0
  /** What has run of one script since the last look; used again for the next. */
  #now = new Uint8Array()

  /** `prefix`: URL of the folder whose code counts. */
  constructor(prefix: string) {
    this.#prefix = prefix
    this.#session.connect()
    this.#session.post('Profiler.enable')
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
  }

  /** Characters of source that have run so far. */
  get characters(): number {
    return this.#characters
  }

  /** Whether code has run since the last look that never ran before; remembered unless `onlyLook`. */
  reachedNew(onlyLook = false): boolean {
    let reached = false
    for (const script of this.#take()) {
      if (script.url.startsWith(this.#prefix) && this.#mark(script, onlyLook)) reached = true
    }
    return reached
  }

  close(): void {
    this.#session.disconnect()
  }

  #mark({ url, functions }: Profiler.ScriptCoverage, onlyLook: boolean): boolean {
    const length = Math.max(0, ...functions.map(({ ranges }) => ranges[0]?.endOffset ?? 0))
    if (this.#now.length < length) this.#now = new Uint8Array(2 * length)
    const now = this.#now.fill(0, 0, length)
    // Functions, and the ranges of each, come with the outer before the inner.
    for (const { ranges } of functions) {
      for (const { startOffset, endOffset, count } of ranges) now.fill(count > 0 ? 1 : 0, startOffset, endOffset)
    }
    let seen = this.#seen.get(url) ?? new Uint8Array()
    if (seen.length < length) {
      const longer = new Uint8Array(length)
      longer.set(seen)
      seen = longer
      this.#seen.set(url, seen)
    }
    let reached = false
    for (let i = now.indexOf(1); i >= 0 && i < length; i = now.indexOf(1, i)) {
      const found = now.indexOf(0, i)
      const end = found < 0 || found > length ? length : found
      for (let at = seen.subarray(i, end).indexOf(0); at >= 0 && i + at < end; at = seen.subarray(i, end).indexOf(0)) {
        if (onlyLook) return true
        reached = true
        const next = seen.subarray(i + at, end).indexOf(1)
        const stop = next < 0 ? end : i + at + next
        seen.fill(1, i + at, stop)
        this.#characters += stop - (i + at)
      }
      i = end
    }
    return reached
  }

  /** The answer comes before `post` returns, as the session is of this very thread. */
  #take(): Profiler.ScriptCoverage[] {
    let scripts: Profiler.ScriptCoverage[] | null = null
    this.#session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error) throw error
      scripts = answer.result
    })
    if (scripts === null) throw new Error('the inspector did not answer at once')
    return scripts
  }
}
