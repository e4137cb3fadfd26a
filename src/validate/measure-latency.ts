// Latency of both models in their children. Entries: measureInTurns (both loaded, taking turns), measureAlone (one model), and
// summarizeLatency. Every run has the same input, the first of the validation.

import type { InferenceChild } from './inference-child.ts'
import type { LatencyAnswer } from './inference-protocol.ts'
import type { ModelRun } from './validation.ts'

/** Counted latency runs of one model stop near this, so that slow models do not take minutes; at least three are made. */
const LATENCY_BUDGET_MS = 5_000
const MIN_LATENCY_RUNS = 3

/** Very fast models are run more often than asked, for this long: twenty runs of 50 us measure nothing but noise. */
const LEAST_LATENCY_MS = 200
const MAX_LATENCY_RUNS = 1000

/** Turns that both models take, each after one uncounted run that refills the caches. */
const TURNS = 5

/** One model, with nothing else loaded. */
export async function measureAlone(child: InferenceChild, wantedRuns: number): Promise<LatencyAnswer> {
  const first = await child.ask('latency', { runs: 1, warmupRuns: 1 })
  const answer = await child.ask('latency', { runs: affordableRuns(first, wantedRuns), warmupRuns: 1 })
  return { ...answer, warmupRuns: answer.warmupRuns + 2 }
}

/** Both models take turns, so that a change of load on the machine meets both alike. */
export async function measureInTurns(
  original: InferenceChild,
  artifact: InferenceChild,
  wantedRuns: number,
): Promise<[LatencyAnswer, LatencyAnswer]> {
  const children = [original, artifact]
  const totals = children.map((): LatencyAnswer => ({ milliseconds: [], warmupRuns: 2, cpuMilliseconds: 0 }))
  const affordable: number[] = []
  for (const child of children) {
    affordable.push(affordableRuns(await child.ask('latency', { runs: 1, warmupRuns: 1 }), wantedRuns))
  }
  const runs = Math.min(...affordable)
  const runsPerTurn = Math.ceil(runs / TURNS)
  for (let done = 0; done < runs; done += runsPerTurn) {
    for (const [index, child] of children.entries()) {
      const turn = await child.ask('latency', { runs: Math.min(runsPerTurn, runs - done), warmupRuns: 1 })
      const total = totals[index]!
      total.milliseconds.push(...turn.milliseconds)
      total.warmupRuns += turn.warmupRuns
      total.cpuMilliseconds += turn.cpuMilliseconds
    }
  }
  return [totals[0]!, totals[1]!]
}

/** Runs for a model that took `first`: more than asked for a very fast one, fewer for a slow one. */
function affordableRuns(first: LatencyAnswer, wantedRuns: number): number {
  const oneMs = Math.max(first.milliseconds[0] ?? 1, 1e-3)
  const wanted = Math.max(wantedRuns, Math.min(MAX_LATENCY_RUNS, Math.ceil(LEAST_LATENCY_MS / oneMs)))
  return Math.max(MIN_LATENCY_RUNS, Math.min(wanted, Math.floor(LATENCY_BUDGET_MS / oneMs)))
}

/** Median and 95th percentile by nearest rank (the p-th of n sorted values is number ceil(p n)). */
export function summarizeLatency({ milliseconds, warmupRuns, cpuMilliseconds }: LatencyAnswer): ModelRun['latency'] {
  const sorted = [...milliseconds].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0
  const middle = sorted.length / 2
  const medianMs = sorted.length % 2 === 0 ? ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2 : at(0.5)
  return {
    medianMs,
    p95Ms: at(0.95),
    runs: sorted.length,
    warmupRuns,
    cpuMeanMs: sorted.length === 0 ? 0 : cpuMilliseconds / sorted.length,
  }
}
