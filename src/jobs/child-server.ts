// The child's end of src/jobs/protocol.ts, shared by the GPU worker and the inspect child. Entry: serveChild. Requests run
// one at a time in order of arrival; `cancel` reaches the running or a waiting one at once. While a request runs, its last
// progress is repeated every second, which is the heartbeat that the parent watches. The child ends when its channel closes.

import { flushCompileCache } from 'node:module'
import { AppError } from '../errors.ts'
import type { ChildReply, ChildRequest, Progress } from './protocol.ts'

/** Half of what the parent is promised ("at least once a second"), so that a late timer still keeps the promise. */
const HEARTBEAT_MS = 500

export type WorkRequest = Exclude<ChildRequest, { type: 'cancel' }>

export interface RequestContext {
  signal: AbortSignal
  /** Cheap: the newest value is sent with the next heartbeat; a new stage is sent at once. */
  progress(progress: Progress): void
}

/** What a child does; the returned value travels as the result of the request. */
export type RequestHandler = (request: WorkRequest, context: RequestContext) => Promise<unknown>

interface Entry {
  request: WorkRequest
  abort: AbortController
}

export function send(reply: ChildReply): void {
  if (process.connected) process.send?.(reply)
}

/**
 * Answers requests from the parent until the IPC channel closes, then calls `close` and exits. Call it once the child is
 * ready; messages that arrived earlier wait in the channel.
 */
export function serveChild(handler: RequestHandler, close: () => Promise<void>): void {
  const waiting: Entry[] = []
  let running: Entry | null = null

  async function drain(): Promise<void> {
    while (running === null) {
      const entry = waiting.shift()
      if (entry === undefined) return
      running = entry
      await answer(entry, handler)
      running = null
      keepCompiledCode(entry.request.type)
    }
  }

  process.on('message', (message: ChildRequest) => {
    if (message.type !== 'cancel') {
      waiting.push({ request: message, abort: new AbortController() })
      void drain()
      return
    }
    const reason = new AppError('cancelled', 'the request was cancelled')
    if (running?.request.id === message.target) running.abort.abort(reason)
    const index = waiting.findIndex((entry) => entry.request.id === message.target)
    if (index >= 0) {
      waiting.splice(index, 1)
      send({ id: message.target, type: 'failed', error: reason.toObject() })
    }
  })

  // A terminal sends Ctrl-C, and a service manager its stop signal, to every process of the group. When this one ends is for
  // the parent to say: it may want the running request finished first.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})

  process.on('disconnect', () => {
    running?.abort.abort(new AppError('cancelled', 'the parent process is gone'))
    // Closing the device politely may take as long as the GPU is busy; the parent is gone, so nobody waits for it.
    setTimeout(() => process.exit(0), 1000).unref()
    void close().finally(() => process.exit(0))
  })
}

const kept = new Set<string>()

/**
 * The parent ends this process with a signal, and Node writes its compile cache only at an orderly exit: so it is written here
 * after the first request of each type, which has loaded what such requests need.
 */
function keepCompiledCode(type: WorkRequest['type']): void {
  if (kept.has(type)) return
  kept.add(type)
  setImmediate(flushCompileCache)
}

async function answer(entry: Entry, handler: RequestHandler): Promise<void> {
  const { id } = entry.request
  let latest: Progress = { stage: 'opening', doneBytes: 0, totalBytes: 0, tensor: null }
  const report = () => send({ id, type: 'progress', progress: latest, rssBytes: process.memoryUsage.rss() })
  const timer = setInterval(report, HEARTBEAT_MS)
  try {
    const result = await handler(entry.request, {
      signal: entry.abort.signal,
      progress(progress) {
        const newStage = progress.stage !== latest.stage
        latest = progress
        if (newStage) report()
      },
    })
    clearInterval(timer)
    send({ id, type: 'done', result })
  } catch (error) {
    clearInterval(timer)
    const failure = entry.abort.signal.aborted ? AppError.from(entry.abort.signal.reason) : failureOf(error)
    if (failure.code === 'internal') process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
    send({ id, type: 'failed', error: failure.toObject() })
  }
}

/** No memory is the machine's state, not a bug: as if the system had ended this process, so that the job is tried again. */
function failureOf(error: unknown): AppError {
  const { name, code, message } = error as { name?: unknown; code?: unknown; message?: unknown }
  const exhausted =
    code === 'ENOMEM' ||
    code === 'ERR_MEMORY_ALLOCATION_FAILED' ||
    (name === 'RangeError' && /allocation failed/i.test(String(message)))
  if (!exhausted) return AppError.from(error)
  const detail = `The process had no memory left (${String(message)}). Give the machine or the container more, or run fewer other things.`
  return new AppError('worker_crashed', detail, { cause: 'memory' }, error)
}
