// The parent's end of one inference child: start, ask, watch its memory, kill. Entry: startInferenceChild. A child that dies
// gives worker_crashed, one that overstays its deadline worker_timeout, one above its memory limit limit_exceeded.

import type { ChildProcess } from 'node:child_process'
import { fork } from 'node:child_process'
import { AppError } from '../errors.ts'
import { codeFile } from '../program-files.ts'
import { childEnvironment } from './child-environment.ts'
import type { InferenceReply, InferenceRequests, InferenceRequestType } from './inference-protocol.ts'
import { residentBytes } from './resident-memory.ts'

/** Returns freed memory to the system, so that resident bytes mean something (glibc; ignored elsewhere). */
export const MEMORY_VARIABLES = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_TRIM_THRESHOLD_: '131072',
  MALLOC_MMAP_THRESHOLD_: '131072',
} as const

/** How often resident memory is read. A model load grows by some hundred MB in this time. */
const MEMORY_POLL_MS = 50

/** What is kept of the child's stderr for the error text. */
const STDERR_TAIL_CHARACTERS = 2000

/** After the channel was closed, the child has this long to end by itself. */
const EXIT_GRACE_MS = 2000

export interface InferenceChildOptions {
  /** 'original' or 'artifact': names the model in errors. */
  label: string
  /** Moment (performance.now()) after which the child is killed. */
  deadlineMs: number
  memoryLimitBytes: number | null
  signal?: AbortSignal | undefined
  /** Told with every memory reading. */
  onMemory?: ((pid: number, rssBytes: number) => void) | undefined
  /** Child program; another one only in tests. */
  entryPath?: string | undefined
}

export interface InferenceChild {
  readonly pid: number
  ask<T extends InferenceRequestType>(
    type: T,
    request: InferenceRequests[T]['request'],
    onProgress?: (doneShare: number) => void,
  ): Promise<InferenceRequests[T]['answer']>
  /** Ends the child and resolves when it is gone. Never rejects. */
  close(): Promise<void>
}

interface Pending {
  resolve(answer: unknown): void
  reject(error: AppError): void
  onProgress: ((doneShare: number) => void) | undefined
}

/** Starts the child. Failures after this surface in `ask`. */
export function startInferenceChild(options: InferenceChildOptions): InferenceChild {
  const entry = options.entryPath ?? codeFile('validate/inference')
  const child = fork(entry, [], {
    execArgv: [],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: childEnvironment(MEMORY_VARIABLES),
  })
  return new ForkedChild(child, options)
}

class ForkedChild implements InferenceChild {
  readonly #child: ChildProcess
  readonly #options: InferenceChildOptions
  readonly #pending = new Map<number, Pending>()
  readonly #exited: Promise<void>
  readonly #memoryTimer: NodeJS.Timeout
  readonly #deadlineTimer: NodeJS.Timeout
  readonly #onAbort = () => this.#fail(new AppError('cancelled', 'validation was cancelled', {}))
  #nextId = 1
  #failure: AppError | null = null
  #stderrTail = ''

  constructor(child: ChildProcess, options: InferenceChildOptions) {
    this.#child = child
    this.#options = options
    this.#exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#onExit(code, signal)
        resolve()
      })
      child.once('error', (error) => {
        this.#fail(new AppError('worker_crashed', `the inference child did not start: ${error.message}`, {}, error))
        resolve()
      })
    })
    child.on('message', (message) => this.#onMessage(message as InferenceReply))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderrTail = (this.#stderrTail + text).slice(-STDERR_TAIL_CHARACTERS)
    })
    this.#memoryTimer = setInterval(() => this.#checkMemory(), MEMORY_POLL_MS)
    const leftMs = Math.max(0, options.deadlineMs - performance.now())
    this.#deadlineTimer = setTimeout(() => this.#onDeadline(), leftMs)
    options.signal?.addEventListener('abort', this.#onAbort, { once: true })
    if (options.signal?.aborted) this.#onAbort()
  }

  get pid(): number {
    return this.#child.pid ?? -1
  }

  ask<T extends InferenceRequestType>(
    type: T,
    request: InferenceRequests[T]['request'],
    onProgress?: (doneShare: number) => void,
  ): Promise<InferenceRequests[T]['answer']> {
    if (this.#failure !== null) return Promise.reject(this.#failure)
    const id = this.#nextId++
    const { promise, resolve, reject } = Promise.withResolvers<InferenceRequests[T]['answer']>()
    this.#pending.set(id, {
      resolve: (answer) => resolve(answer as InferenceRequests[T]['answer']),
      reject,
      onProgress,
    })
    this.#child.send({ id, type, request }, (error) => {
      // A broken channel also ends in 'exit', which knows why; this only covers a message that cannot be sent at all.
      if (error === null || !this.#child.connected || isBroken(error)) return
      this.#fail(new AppError('internal', error.message, {}, error))
    })
    return promise
  }

  async close(): Promise<void> {
    this.#stopWatching()
    this.#failure ??= new AppError('internal', 'the inference child was closed')
    if (this.#child.connected) this.#child.disconnect()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), EXIT_GRACE_MS)
    await this.#exited
    clearTimeout(timer)
  }

  #onMessage(message: InferenceReply): void {
    const pending = this.#pending.get(message.id)
    if (pending === undefined) return
    if (message.type === 'progress') {
      pending.onProgress?.(message.doneShare)
      return
    }
    this.#pending.delete(message.id)
    if (message.type === 'done') pending.resolve(message.answer)
    else pending.reject(AppError.fromObject(message.error))
  }

  #checkMemory(): void {
    const rssBytes = residentBytes(this.pid)
    if (rssBytes === null) return
    this.#options.onMemory?.(this.pid, rssBytes)
    const allowed = this.#options.memoryLimitBytes
    if (allowed === null || rssBytes <= allowed) return
    this.#fail(
      new AppError(
        'limit_exceeded',
        `the inference child of the ${this.#options.label} used ${rssBytes} bytes of memory, allowed ${allowed}. Raise the limit, or run with validate: false.`,
        { limit: 'validation_memory_bytes', allowed, requested: rssBytes, model: this.#options.label },
      ),
    )
  }

  #onDeadline(): void {
    this.#fail(
      new AppError(
        'worker_timeout',
        `validation of the ${this.#options.label} did not end in time. Give fewer samples, or a longer limit.`,
        { child: 'inference', model: this.#options.label },
      ),
    )
  }

  #onExit(code: number | null, signal: NodeJS.Signals | null): void {
    const how = signal === null ? `exit code ${code}` : `signal ${signal}`
    const tail = this.#stderrTail.trim().split('\n').slice(-3).join(' | ')
    this.#fail(
      new AppError(
        'worker_crashed',
        `the inference child died (${how}) while it ran the ${this.#options.label}${tail === '' ? '' : `: ${tail}`}`,
        { child: 'inference', model: this.#options.label, exitCode: code, signal },
      ),
    )
  }

  /** The first failure counts: it rejects everything asked and to be asked, and ends the child. */
  #fail(error: AppError): void {
    this.#stopWatching()
    this.#failure ??= error
    for (const pending of this.#pending.values()) pending.reject(this.#failure)
    this.#pending.clear()
    this.#child.kill('SIGKILL')
  }

  #stopWatching(): void {
    clearInterval(this.#memoryTimer)
    clearTimeout(this.#deadlineTimer)
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
  }
}

/** The child died a moment ago, and this write was the first to notice. */
function isBroken(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EPIPE' || error.code === 'ECONNRESET' || error.code === 'ERR_IPC_CHANNEL_CLOSED'
}
