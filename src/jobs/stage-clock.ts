// Counts the time that a job spends in each of its stages, and tells when one has had too much. Entry: createStageClock. A stage
// that is left and entered again goes on where it was, so that a job cannot run for ever between two of them.

import { AppError } from '../errors.ts'
import type { Progress } from './protocol.ts'

type Stage = Progress['stage']

export interface StageClock {
  /** The job is in this stage now. */
  enter(stage: Stage): void
  stop(): void
}

/** @param onOver called once, with stage_timeout. */
export function createStageClock(maxStageMs: number, onOver: (error: AppError) => void): StageClock {
  const spentMs = new Map<Stage, number>()
  let current: { stage: Stage; sinceMs: number } | null = null
  let timer: NodeJS.Timeout | undefined

  function leave(): void {
    clearTimeout(timer)
    if (current === null) return
    const { stage, sinceMs } = current
    spentMs.set(stage, (spentMs.get(stage) ?? 0) + performance.now() - sinceMs)
    current = null
  }

  return {
    enter(stage) {
      if (current?.stage === stage) return
      leave()
      current = { stage, sinceMs: performance.now() }
      const leftMs = maxStageMs - (spentMs.get(stage) ?? 0)
      timer = setTimeout(() => onOver(stageTimeout(stage, maxStageMs)), Math.max(0, leftMs))
      timer.unref()
    },
    stop: leave,
  }
}

function stageTimeout(stage: Stage, maxStageMs: number): AppError {
  const allowed = maxStageMs / 1000
  return new AppError(
    'stage_timeout',
    `The job was ${stage} for longer than the ${allowed} seconds that limit stageSeconds allows. Use a smaller dataset or a simpler recipe, or have the operator raise the limit.`,
    { limit: 'stageSeconds', allowed, stage },
  )
}
