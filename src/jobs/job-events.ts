// What followers of a job are told. Entry: createJobEvents. Ids are milliseconds since the epoch, bumped where needed, so
// that they grow over restarts too and a client may come back with the last one it saw. A slow follower misses progress,
// never a change of state, and holds at most a few events in memory.

import { isFinal } from './job.ts'
import type { JobEvent, JobView } from './service.ts'

export interface JobEvents {
  publish(type: JobEvent['type'], job: JobView): void
  /**
   * The current view first (unless the follower has seen it), then every change until the job is final or `signal` aborts.
   * @param current reads the view as it is now.
   */
  follow(
    jobId: string,
    afterId: number | null,
    signal: AbortSignal | null,
    current: () => Promise<JobView>,
  ): AsyncIterable<JobEvent>
}

interface Follower {
  waiting: JobEvent[]
  wake: () => void
}

export function createJobEvents(): JobEvents {
  const followers = new Map<string, Set<Follower>>()
  /** Id of the newest event of each job that is not final. */
  const newest = new Map<string, number>()
  let lastId = 0

  function deliver(follower: Follower, event: JobEvent): void {
    const last = follower.waiting.at(-1)
    if (last?.type === 'progress') follower.waiting.pop()
    follower.waiting.push(event)
    follower.wake()
  }

  /** For a view that nobody published in this process: from what the job's own times say, so it is the same every time. */
  const idOf = (job: JobView) => newest.get(job.id) ?? Date.parse(job.finishedAt ?? job.startedAt ?? job.createdAt)

  return {
    publish(type, job) {
      lastId = Math.max(lastId + 1, Date.now())
      const event = { id: isFinal(job.state) ? Math.max(lastId, idOf(job)) : lastId, type, job }
      if (isFinal(job.state)) newest.delete(job.id)
      else newest.set(job.id, event.id)
      for (const follower of followers.get(job.id) ?? []) deliver(follower, event)
    },

    async *follow(jobId, afterId, signal, current) {
      let seen = afterId ?? 0
      let woken = Promise.withResolvers<void>()
      const follower: Follower = { waiting: [], wake: () => woken.resolve() }
      const set = followers.get(jobId) ?? new Set()
      followers.set(jobId, set.add(follower))
      const onAbort = () => follower.wake()
      signal?.addEventListener('abort', onAbort, { once: true })
      try {
        const now = await current()
        const id = idOf(now)
        // A number that lies ahead was given out before the clock was set back: it says nothing about what was seen.
        if (seen > Math.max(lastId, id, Date.now())) seen = 0
        if (id > seen) {
          seen = id
          yield { id, type: 'state', job: now }
        }
        if (isFinal(now.state)) return
        while (signal === null || !signal.aborted) {
          const event = follower.waiting.shift()
          if (event === undefined) {
            await woken.promise
            woken = Promise.withResolvers<void>()
            continue
          }
          if (event.id > seen) {
            seen = event.id
            yield event
          }
          if (isFinal(event.job.state)) return
        }
      } finally {
        signal?.removeEventListener('abort', onAbort)
        set.delete(follower)
        if (set.size === 0) followers.delete(jobId)
      }
    },
  }
}
