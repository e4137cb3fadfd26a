// When a case of the fuzzing process counts as a hang. Time in which the process could run but other processes had the
// processor, or the whole machine stood still, is not the case's.
// Entries: HangWatch, waitedForProcessorMs.

import { readFileSync } from 'node:fs'

/** Time from the start of a child to its first case, and between cases. */
const START_MS = 60_000
/** Looks come every 250 ms; when they did not, the watcher itself stood still, and most likely the whole machine. */
const MAX_BETWEEN_LOOKS_MS = 1000

export interface WatchedMoment {
  nowMs: number
  /** 0: none in progress. */
  caseNumber: number
  /** What the process has waited for a processor since its start. */
  waitedMs: number
}

export class HangWatch {
  readonly #hangMs: number
  #last: WatchedMoment
  #tookMs = 0
  #longestMs = 0

  constructor(hangMs: number, startMs: number) {
    this.#hangMs = hangMs
    this.#last = { nowMs: startMs, caseNumber: 0, waitedMs: 0 }
  }

  /** No case took longer: what was counted of one at most, and the time between two looks, of which nothing was seen. */
  get longestMs(): number {
    return this.#longestMs + MAX_BETWEEN_LOOKS_MS
  }

  /** What the process is to be ended for; null while it gets on. */
  look(moment: WatchedMoment): string | null {
    const { caseNumber } = moment
    const last = this.#last
    this.#last = moment
    if (caseNumber !== last.caseNumber) {
      this.#tookMs = 0
      return null
    }
    // Of a process that has just ended the system says nothing any more.
    const inQueueMs = Math.max(0, moment.waitedMs - last.waitedMs)
    const elapsedMs = Math.min(MAX_BETWEEN_LOOKS_MS, moment.nowMs - last.nowMs)
    this.#tookMs += Math.max(0, elapsedMs - inQueueMs)
    if (caseNumber === 0) return this.#tookMs > START_MS ? `no case in ${START_MS} ms` : null
    this.#longestMs = Math.max(this.#longestMs, this.#tookMs)
    return this.#tookMs > this.#hangMs ? `case ${caseNumber} took more than ${this.#hangMs} ms` : null
  }
}

/** Of the main thread, which runs the cases; 0 where the system does not say. */
export function waitedForProcessorMs(pid: number): number {
  try {
    // Nanoseconds on a processor, nanoseconds in the queue for one, number of turns.
    const [, waitedNs] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')
    return Number(waitedNs) / 1e6
  } catch {
    return 0 // another system, or the process has just ended
  }
}
