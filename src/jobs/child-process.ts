// The parent's end of src/jobs/protocol.ts: one forked child with a ready handshake, requests with progress, and a watch
// that kills it when it hangs, stalls or grows too large. Entry: startChild. The child ends when this process ends: its
// channel closes, and on Linux with setpriv the kernel also kills it where it is stuck in native code.

import { type ChildProcess, fork, spawnSync } from 'node:child_process'
import type { Readable } from 'node:stream'
import { AppError } from '../errors.ts'
import { codeFile } from '../program-files.ts'
import { childEnvironment } from '../validate/child-environment.ts'
import { residentBytes } from '../validate/resident-memory.ts'
import type { ChildReply, ChildRequest, Progress } from './protocol.ts'
import type { ServiceLog } from './service.ts'

export type DeathCause = 'crashed' | 'timeout' | 'memory' | 'closed'

export interface ChildLimits {
  /** From fork to ready. A first start compiles shaders for seconds on a loaded machine. */
  startMs: number
  /** Silence while it has work: its event loop is stuck. */
  silenceMs: number
  /** Messages arrive and the progress in them stays the same: an operation inside never ends. */
  stallMs: number
  /** Resident bytes; null: no limit. */
  memoryBytes: number | null
  /** From a cancel message to the kill, if the child does not answer: keeps "cancelled within a second". */
  cancelMs: number
}

export const DEFAULT_CHILD_LIMITS: ChildLimits = {
  startMs: 60_000,
  silenceMs: 60_000,
  stallMs: 600_000,
  memoryBytes: null,
  cancelMs: 500,
}

export interface StartOptions {
  /** What the child is called in errors and logs. */
  name: string
  entry: string
  args?: string[]
  /** For Node itself, beside those of every child. */
  nodeFlags?: readonly string[]
  environment?: Record<string, string>
  limits: ChildLimits
  log: ServiceLog
  /** Gives the start up. */
  signal?: AbortSignal
  /** Hears of the process as soon as it exists: what it is asked before it is ready waits in its channel. */
  onSpawned?: (child: Pick<Child, 'request'>) => void
}

type Ready = Extract<ChildReply, { type: 'ready' }>
type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never
export type RequestBody = WithoutId<Exclude<ChildRequest, { type: 'cancel' }>>

export interface RequestOptions {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: Progress) => void) | undefined
  /** Stricter limits of the child while this request is open. */
  limits?: Partial<RequestLimits> | undefined
}

export type RequestLimits = Pick<ChildLimits, 'silenceMs' | 'memoryBytes'>

export interface Child {
  readonly pid: number
  readonly ready: Ready
  /** Resident bytes as last seen. */
  rssBytes(): number
  /** The caller knows the type of the result from src/jobs/protocol.ts. Rejects with the child's AppError or how it died. */
  request(body: RequestBody, options?: RequestOptions): Promise<unknown>
  kill(cause: DeathCause): void
  /** Resolves when the process is gone. */
  readonly ended: Promise<{ cause: DeathCause; detail: string }>
}

interface Pending {
  resolve(result: unknown): void
  reject(error: AppError): void
  onProgress: ((progress: Progress) => void) | undefined
  limits: Partial<RequestLimits> | undefined
}

/** The file that a child starts with. */
export function childEntry(name: 'worker' | 'inspect'): string {
  return codeFile(`jobs/${name}`)
}

const MEMORY_CHECK_MS = 500
const STDERR_TAIL_CHARACTERS = 4096

/** Forks the child and waits until it is ready. Throws what it says went wrong, worker_crashed or worker_timeout. */
export async function startChild(options: StartOptions): Promise<Child> {
  const { name, limits, log } = options
  const child = forkWithParent(options)
  const pending = new Map<number, Pending>()
  let nextId = 1
  let cause: DeathCause = 'crashed'
  let rssBytes = 0
  let lastHeard = performance.now()
  let lastMoved = performance.now()
  let lastProgress = ''
  const stderr = collectTail(child.stderr, name, log)
  collectTail(child.stdout, name, log)

  function kill(why: DeathCause): void {
    if (child.exitCode !== null || child.signalCode !== null) return
    cause = why
    child.kill('SIGKILL')
  }

  const started = Promise.withResolvers<Ready>()
  const over = Promise.withResolvers<{ cause: DeathCause; detail: string }>()
  started.promise.catch(() => {}) // also rejected after it was resolved and nobody looks any more

  child.on('message', (reply: ChildReply) => {
    lastHeard = performance.now()
    if (reply.type === 'ready') {
      rssBytes = reply.rssBytes
      started.resolve(reply)
      return
    }
    const request = pending.get(reply.id)
    if (request === undefined) {
      if (reply.type === 'failed') started.reject(AppError.fromObject(reply.error))
      return
    }
    if (reply.type === 'progress') {
      rssBytes = reply.rssBytes
      const { stage, doneBytes, tensor } = reply.progress
      const moved = `${reply.id} ${stage} ${doneBytes} ${tensor}`
      if (moved !== lastProgress) lastMoved = performance.now()
      lastProgress = moved
      request.onProgress?.(reply.progress)
      return
    }
    lastMoved = performance.now()
    pending.delete(reply.id)
    if (reply.type === 'done') request.resolve(reply.result)
    else request.reject(AppError.fromObject(reply.error))
  })

  let exited = false
  function onEnd(how: string): void {
    if (exited) return
    exited = true
    clearInterval(watch)
    const error = deathError(name, cause, how, stderr(), strictest(limits, pending.values()))
    started.reject(error)
    for (const request of pending.values()) request.reject(error)
    pending.clear()
    over.resolve({ cause, detail: error.detail })
  }
  child.on('exit', (code, signal) => onEnd(signal === null ? `exit code ${code}` : `signal ${signal}`))
  child.on('error', (error) => {
    if (child.pid === undefined) onEnd(error.message)
    else log.warn({ child: name, error: error.message }, 'message to a child failed')
  })

  let lastWatch = performance.now()
  const watch = setInterval(() => {
    const now = performance.now()
    // Where this process itself stood still (SIGSTOP, a machine without air), the child was not silent: nobody listened.
    const pausedMs = Math.max(0, now - lastWatch - MEMORY_CHECK_MS)
    lastWatch = now
    lastHeard += pausedMs
    lastMoved += pausedMs
    rssBytes = residentBytes(child.pid) ?? rssBytes
    const { memoryBytes, silenceMs, stallMs } = strictest(limits, pending.values())
    if (memoryBytes !== null && rssBytes > memoryBytes) kill('memory')
    if (pending.size === 0) return
    if (now - lastHeard > silenceMs || now - lastMoved > stallMs) kill('timeout')
  }, MEMORY_CHECK_MS)
  watch.unref()

  async function request(body: RequestBody, options: RequestOptions = {}): Promise<unknown> {
    const { signal, onProgress } = options
    if (signal?.aborted) throw AppError.from(signal.reason)
    if (exited) throw deathError(name, cause, 'it had ended before the request', stderr(), limits)
    const id = nextId++
    const answer = Promise.withResolvers<unknown>()
    pending.set(id, { resolve: answer.resolve, reject: answer.reject, onProgress, limits: options.limits })
    if (pending.size === 1) {
      lastHeard = performance.now()
      lastMoved = lastHeard
    }
    let killTimer: NodeJS.Timeout | undefined
    const onAbort = () => {
      send(child, { id: nextId++, type: 'cancel', target: id })
      killTimer = setTimeout(() => kill('closed'), limits.cancelMs)
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    send(child, { id, ...body } as ChildRequest)
    try {
      return await answer.promise
    } catch (error) {
      throw signal?.aborted ? AppError.from(signal.reason) : error
    } finally {
      clearTimeout(killTimer)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  options.onSpawned?.({ request })
  const startTimer = setTimeout(() => kill('timeout'), limits.startMs)
  const onGivenUp = () => kill('closed')
  options.signal?.addEventListener('abort', onGivenUp, { once: true })
  try {
    const ready = await started.promise
    lastMoved = performance.now()
    return { pid: child.pid!, ready, rssBytes: () => rssBytes, request, kill, ended: over.promise }
  } catch (error) {
    kill(cause)
    throw error
  } finally {
    clearTimeout(startTimer)
    options.signal?.removeEventListener('abort', onGivenUp)
  }
}

/** The limits of the child with those of its open requests, the smaller of each. */
function strictest(limits: ChildLimits, requests: Iterable<Pending>): ChildLimits {
  let { silenceMs, memoryBytes } = limits
  for (const { limits: own } of requests) {
    silenceMs = Math.min(silenceMs, own?.silenceMs ?? silenceMs)
    memoryBytes = Math.min(memoryBytes ?? Infinity, own?.memoryBytes ?? Infinity)
  }
  return { ...limits, silenceMs, memoryBytes: memoryBytes === Infinity ? null : memoryBytes }
}

function send(child: ChildProcess, message: ChildRequest): void {
  // A channel that is closed already means that 'exit' is on its way, which settles the request.
  if (child.connected) child.send(message, () => {})
}

/**
 * Children make little garbage; V8's default lets the young generation grow to 16 MiB a half, 12 MiB of peak RSS for nothing. With 2
 * a GPU worker's memory comes to rest 8 MiB lower than with 4, after some thirty jobs, and jobs take as long. Unlike most flags
 * it leaves the compiled code good that Node holds of its own modules: without that, a child starts 15 ms later.
 */
const CHILD_FLAGS = ['--max-semi-space-size=2']

function forkWithParent({ entry, args = [], nodeFlags = [], environment = {} }: StartOptions): ChildProcess {
  const wrapper = killWithParent()
  const flags = [...CHILD_FLAGS, ...nodeFlags]
  return fork(entry, args, {
    ...(wrapper === null
      ? { execArgv: flags }
      : { execPath: wrapper.command, execArgv: [...wrapper.args, process.execPath, ...flags] }),
    env: childEnvironment(environment),
    serialization: 'advanced',
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
}

let wrapperKnown: { command: string; args: string[] } | null | undefined

/**
 * setpriv of util-linux replaces itself by the given command and asks the kernel to kill that one when its parent dies
 * (prctl PR_SET_PDEATHSIG). Without it a child ends when its channel closes, unless native code never returns.
 */
function killWithParent(): { command: string; args: string[] } | null {
  if (wrapperKnown === undefined) {
    const wrapper = { command: 'setpriv', args: ['--pdeathsig', 'KILL'] }
    const works = process.platform === 'linux' && spawnSync('setpriv', [...wrapper.args, 'true']).status === 0
    wrapperKnown = works ? wrapper : null
  }
  return wrapperKnown
}

function collectTail(stream: Readable | null, name: string, log: ServiceLog): () => string {
  let tail = ''
  stream?.setEncoding('utf8').on('data', (text: string) => {
    tail = (tail + text).slice(-STDERR_TAIL_CHARACTERS)
    log.debug({ child: name, text: text.trimEnd().slice(0, STDERR_TAIL_CHARACTERS) }, 'child wrote')
  })
  return () => tail.trim()
}

function deathError(name: string, cause: DeathCause, how: string, stderr: string, limits: ChildLimits): AppError {
  const context = { child: name, cause, ...(stderr === '' ? {} : { stderr: stderr.split('\n').slice(-5).join('\n') }) }
  switch (cause) {
    case 'timeout':
      return new AppError(
        'worker_timeout',
        `The ${name} process was killed: it made no progress for longer than its limit.`,
        { ...context, limit: 'childSilenceMs', allowed: limits.silenceMs },
      )
    case 'memory':
      return new AppError('worker_crashed', `The ${name} process was killed: it used more memory than its limit.`, {
        ...context,
        limit: 'childMemoryBytes',
        allowed: limits.memoryBytes,
      })
    case 'closed':
      return new AppError('cancelled', `The ${name} process was stopped.`, context)
    case 'crashed':
      return new AppError('worker_crashed', `The ${name} process ended unexpectedly (${how}).`, {
        ...context,
        end: how,
      })
    default:
      return cause satisfies never
  }
}
