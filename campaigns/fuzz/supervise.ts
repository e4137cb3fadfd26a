// Runs a target in a child process and stands beside it: a case that takes too long is a hang and ends the child, a child that
// ends by itself crashed; both leave their input in the journal, and a new child goes on with the cases that are left.
// Entry: superviseTarget.

import { type ChildProcess, fork } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FuzzMessage, FuzzOrder } from './child.ts'
import { HangWatch, waitedForProcessorMs } from './hang-watch.ts'
import { caseInProgress, inputInProgress } from './journal.ts'
import type { FuzzFigures } from './loop.ts'
import { MAX_GROWTH_BYTES, MAX_RESIDENT_BYTES } from './memory-watch.ts'
import type { Finding } from './outcome.ts'
import type { FuzzInput } from './target.ts'

export interface FoundCase extends Finding {
  count: number
  /** The smallest input that did it; null where no single one did. */
  input: FuzzInput | null
}

export interface TargetResult {
  cases: number
  seconds: number
  /** Of children that ended by themselves. */
  cpuSeconds: number
  outcomes: Record<string, number>
  /** Members of the corpus, and characters of src/ that ran; of several children the largest. */
  corpus: number
  reachedCharacters: number
  slowestMs: number
  growthBytes: number
  peakResidentBytes: number
  liveBytes: number[]
  findings: FoundCase[]
}

export interface Supervision {
  /** URL of a module that exports `target`. */
  module: string
  cases: number
  seed: number
  /** A case that takes longer is a hang. */
  hangMs?: number
  /** Children that may crash or hang before the rest of the cases is given up. */
  maxChildren?: number
  storeCorpus?: boolean
}

export const HANG_MS = 5000
const WATCH_MS = 250
/** Each crash or hang costs a child; a reader that keeps failing has been found out by then. */
const MAX_CHILDREN = 5
const HEAP_MIB = 512
/** Threads and libraries open some files when they are first used. */
const MAX_OPEN_FILES_GROWTH = 16
const STDERR_CHARACTERS = 4000

export async function superviseTarget(order: Supervision): Promise<TargetResult> {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'tensorpress-fuzz-'))
  const supervisor = new Supervisor(order, folder)
  // A campaign that a signal ends comes to no `finally`, and what lies in /dev/shm takes memory.
  const atExit = () => {
    supervisor.kill()
    removeFolder(folder)
  }
  process.once('exit', atExit)
  try {
    return await supervisor.run()
  } finally {
    process.off('exit', atExit)
    removeFolder(folder)
  }
}

/** Processes that were just killed may still write a moment longer. */
function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
}

class Supervisor {
  readonly #order: Supervision
  readonly #journal: string
  readonly #folder: string
  #child: ChildProcess | null = null
  readonly #found = new Map<string, FoundCase>()
  readonly #result: TargetResult = {
    cases: 0,
    seconds: 0,
    cpuSeconds: 0,
    outcomes: {},
    corpus: 0,
    reachedCharacters: 0,
    slowestMs: 0,
    growthBytes: 0,
    peakResidentBytes: 0,
    liveBytes: [],
    findings: [],
  }

  constructor(order: Supervision, folder: string) {
    this.#order = order
    this.#folder = folder
    this.#journal = join(folder, 'journal')
  }

  kill(): void {
    this.#child?.kill('SIGKILL')
  }

  async run(): Promise<TargetResult> {
    const { cases, seed, maxChildren = MAX_CHILDREN } = this.#order
    for (let child = 0; child < maxChildren && this.#result.cases < cases; child++) {
      await this.#oneChild({
        module: this.#order.module,
        cases: cases - this.#result.cases,
        seed: seed + child * 1_000_003,
        journal: this.#journal,
        storeCorpus: this.#order.storeCorpus ?? false,
      })
    }
    const { growthBytes, peakResidentBytes } = this.#result
    if (growthBytes > MAX_GROWTH_BYTES) {
      this.#add({ kind: 'memory', signature: 'growth', detail: `live memory grew by ${growthBytes} bytes` }, null)
    }
    if (peakResidentBytes > MAX_RESIDENT_BYTES) {
      this.#add({ kind: 'memory', signature: 'peak', detail: `the process came to ${peakResidentBytes} bytes` }, null)
    }
    if (this.#openFilesGrowth > MAX_OPEN_FILES_GROWTH) {
      const detail = `${this.#openFilesGrowth} more files are open at the end than at the start`
      this.#add({ kind: 'handles', signature: 'open files', detail }, null)
    }
    this.#result.findings = [...this.#found.values()]
    return this.#result
  }

  #add(finding: Finding, input: FuzzInput | null, count = 1): void {
    const before = this.#found.get(finding.signature)
    this.#found.set(finding.signature, {
      ...finding,
      input: input ?? before?.input ?? null,
      count: (before?.count ?? 0) + count,
    })
  }

  async #oneChild(order: FuzzOrder): Promise<void> {
    rmSync(this.#journal, { force: true })
    const child = fork(join(import.meta.dirname, 'child.ts'), [], {
      execArgv: ['--expose-gc', `--max-old-space-size=${HEAP_MIB}`, '--disable-warning=ExperimentalWarning'],
      env: { ...childEnvironment(), TMPDIR: this.#folder },
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
      serialization: 'advanced',
    })
    this.#child = child
    let stderr = ''
    child.stderr?.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-STDERR_CHARACTERS)
    })
    const startMs = performance.now()
    let figures: FuzzFigures | null = null
    child.on('message', (message: FuzzMessage) => {
      if (message.type === 'progress') this.#reached = message.cases
      else if (message.type === 'finding') this.#add(message.finding, decode(message.files), 0)
      else {
        figures = message.figures
        for (const [signature, count] of Object.entries(message.counts)) this.#found.get(signature)!.count += count
      }
    })
    this.#reached = 0
    child.send(order)
    const watch = new HangWatch(this.#order.hangMs ?? HANG_MS, startMs)
    const hung = await this.#watch(child, watch)
    if (figures !== null) {
      this.#merge(figures, watch.longestMs)
      return
    }
    // The cases since the last report of progress do not count as done.
    this.#result.cases += this.#reached
    this.#result.seconds += (performance.now() - startMs) / 1000
    const ended = child.signalCode ?? `exit code ${child.exitCode}`
    const input = inputInProgress(this.#journal)
    if (hung !== null) this.#add({ kind: 'hang', signature: 'hang', detail: hung }, input)
    else {
      const last = stderr.split('\n').find((line) => /Error|FATAL/.test(line)) ?? ''
      this.#add({ kind: 'crash', signature: `the process ended: ${last}`, detail: `${ended}\n${stderr}` }, input)
    }
  }

  #reached = 0
  #openFilesGrowth = 0

  /** Resolves when the child has ended: null, or what it was killed for. */
  #watch(child: ChildProcess, watch: HangWatch): Promise<string | null> {
    const hangMs = this.#order.hangMs ?? HANG_MS
    return new Promise((resolve) => {
      let hung: string | null = null
      const timer = setInterval(
        () => {
          const waitedMs = waitedForProcessorMs(child.pid!)
          hung ??= watch.look({ nowMs: performance.now(), caseNumber: caseInProgress(this.#journal), waitedMs })
          if (hung !== null) child.kill('SIGKILL')
        },
        Math.min(WATCH_MS, hangMs / 4),
      )
      child.once('close', () => {
        clearInterval(timer)
        resolve(hung)
      })
    })
  }

  /** The child measures in milliseconds, but counts time that was not its own; `longestMs` is without it. */
  #merge(figures: FuzzFigures, longestMs: number): void {
    const result = this.#result
    result.cases += figures.cases
    result.seconds += figures.seconds
    result.cpuSeconds += figures.cpuSeconds
    for (const [label, count] of Object.entries(figures.outcomes)) {
      result.outcomes[label] = (result.outcomes[label] ?? 0) + count
    }
    result.corpus = Math.max(result.corpus, figures.corpus)
    result.reachedCharacters = Math.max(result.reachedCharacters, figures.reachedCharacters)
    result.slowestMs = Math.max(result.slowestMs, Math.min(figures.slowestMs, longestMs))
    result.growthBytes = Math.max(result.growthBytes, figures.memory.growthBytes)
    result.peakResidentBytes = Math.max(result.peakResidentBytes, figures.memory.peakResidentBytes)
    this.#openFilesGrowth = Math.max(this.#openFilesGrowth, figures.openFilesGrowth)
    result.liveBytes = figures.memory.liveBytes
  }
}

/** The test runner's own channel is not the child's. */
function childEnvironment(): NodeJS.ProcessEnv {
  const { NODE_TEST_CONTEXT: _, NODE_V8_COVERAGE: __, ...inherited } = process.env
  return inherited
}

function decode(files: [string, string][]): FuzzInput {
  return files.map(([name, base64]) => ({ name, bytes: Uint8Array.from(Buffer.from(base64, 'base64')) }))
}
