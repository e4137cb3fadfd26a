// The engine, inside of the child process: draws inputs from a corpus, mutates them, runs the case, and keeps the inputs that
// reach new blocks of code or a new kind of refusal. Entry: fuzz. The parent (supervise.ts) watches the journal for hangs.

import { existsSync, readdirSync } from 'node:fs'
import type { CodeCoverage } from './coverage.ts'
import type { JournalWriter } from './journal.ts'
import { type MemoryFigures, MemoryWatch } from './memory-watch.ts'
import { type Finding, judge, type Outcome } from './outcome.ts'
import { Dice } from './random.ts'
import { type FuzzInput, type FuzzTarget, inputBytes } from './target.ts'

/** Cases between two looks at coverage, which cost as much as some cases: more and more while nothing new is reached. */
const MIN_BATCH_CASES = 64
const MAX_BATCH_CASES = 1024
/** Cases that run again together, when the batch reached new code. */
const GROUP_CASES = 16
/** Taken inputs of the corpus, and refused ones; beyond it a later one takes the place of an earlier one. */
const MAX_CORPUS = 800
/** Kinds of refusals that are told apart; a reader that quotes what it found would make a kind of every case. */
const MAX_SIGNATURES = 4000
/** Collections over a run; the memory figures rest on them. */
const MEMORY_SAMPLES = 30

export interface FuzzRun {
  cases: number
  seed: number
}

export interface FuzzFigures {
  cases: number
  seconds: number
  cpuSeconds: number
  outcomes: Record<string, number>
  corpus: number
  /** Characters of src/ that ran. */
  reachedCharacters: number
  slowestMs: number
  memory: MemoryFigures
  /** File descriptors of the process at its end beyond those after its first cases. */
  openFilesGrowth: number
}

export interface FuzzHooks {
  journal: JournalWriter
  coverage: CodeCoverage | null
  /** Open handles that no case accounts for; 0 where the target has no such count. */
  openHandles(): number
  onFinding(finding: Finding, input: FuzzInput): void
  /** An input joins the corpus. */
  onKept?(input: FuzzInput, outcome: Outcome, checks: number): void
  onProgress(cases: number): void
}

/** `checks` is the seed of the dice of the case, so that it can run again. */
interface TriedCase {
  input: FuzzInput
  checks: number
}

export async function fuzz(target: FuzzTarget, run: FuzzRun, hooks: FuzzHooks): Promise<FuzzFigures> {
  return new Loop(target, run, hooks).run()
}

class Loop {
  readonly #target: FuzzTarget
  readonly #run: FuzzRun
  readonly #hooks: FuzzHooks
  readonly #dice: Dice
  #seeds: readonly FuzzInput[] = []
  readonly #taken: FuzzInput[] = []
  readonly #refused: FuzzInput[] = []
  readonly #signatures = new Set<string>()
  readonly #outcomes: Record<string, number> = {}
  readonly #memory = new MemoryWatch()
  #batchCases = MIN_BATCH_CASES
  #openFiles: number | null = null
  #number = 0
  #slowestMs = 0

  constructor(target: FuzzTarget, run: FuzzRun, hooks: FuzzHooks) {
    this.#target = target
    this.#run = run
    this.#hooks = hooks
    this.#dice = new Dice(run.seed)
  }

  async run(): Promise<FuzzFigures> {
    const { cases } = this.#run
    this.#seeds = this.#target.seeds()
    for (const seed of this.#seeds) await this.#case(seed, this.#dice.below(2 ** 31))
    this.#hooks.coverage?.reachedNew()
    const startMs = performance.now()
    const startCpu = process.cpuUsage()
    let done = 0
    let nextSample = 0
    while (done < cases) {
      if (done >= nextSample) {
        this.#sample()
        this.#hooks.onProgress(done)
        nextSample += cases / MEMORY_SAMPLES
      }
      done += await this.#batch(Math.min(this.#batchCases, cases - done))
    }
    this.#sample()
    const cpu = process.cpuUsage(startCpu)
    return {
      cases: done,
      seconds: (performance.now() - startMs) / 1000,
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
      outcomes: this.#outcomes,
      corpus: this.#taken.length + this.#refused.length,
      reachedCharacters: this.#hooks.coverage?.characters ?? 0,
      slowestMs: this.#slowestMs,
      memory: this.#memory.figures(),
      openFilesGrowth: openFiles() - (this.#openFiles ?? 0),
    }
  }

  async #batch(count: number): Promise<number> {
    const tried: TriedCase[] = []
    for (let i = 0; i < count; i++) {
      const input = this.#next()
      const checks = this.#dice.below(2 ** 31)
      tried.push({ input, checks })
      const outcome = await this.#case(input, checks)
      const label = outcome.kind === 'right' ? outcome.label : 'finding'
      this.#outcomes[label] = (this.#outcomes[label] ?? 0) + 1
      const hasRoom = this.#signatures.size < MAX_SIGNATURES
      if (hasRoom && outcome.kind === 'right' && !this.#signatures.has(outcome.signature)) {
        this.#signatures.add(outcome.signature)
        this.#keep(input, outcome, checks)
      }
    }
    await this.#keepThoseThatReachNew(tried)
    return count
  }

  /** When the batch reached new code, its cases run again, in groups and then one by one, to see which of them it was. */
  async #keepThoseThatReachNew(tried: readonly TriedCase[]): Promise<void> {
    const { coverage } = this.#hooks
    if (coverage === null || !coverage.reachedNew(true)) {
      this.#batchCases = Math.min(MAX_BATCH_CASES, 2 * this.#batchCases)
      return
    }
    this.#batchCases = MIN_BATCH_CASES
    for (let start = 0; start < tried.length; start += GROUP_CASES) {
      const group = tried.slice(start, start + GROUP_CASES)
      for (const { input, checks } of group) await this.#case(input, checks)
      if (!coverage.reachedNew(true)) continue
      for (const { input, checks } of group) {
        const outcome = await this.#case(input, checks)
        if (coverage.reachedNew()) this.#keep(input, outcome, checks)
      }
    }
  }

  #keep(input: FuzzInput, outcome: Outcome, checks: number): void {
    this.#hooks.onKept?.(input, outcome, checks)
    const list = outcome.kind === 'right' && outcome.taken ? this.#taken : this.#refused
    // Bytes of its own: a view would keep all of what it was cut from.
    const kept = input.map(({ name, bytes }) => ({ name, bytes: new Uint8Array(bytes) }))
    if (list.length < MAX_CORPUS) list.push(kept)
    else list[this.#dice.below(MAX_CORPUS)] = kept
  }

  /** Seeds and taken inputs more often than refused ones: what is refused early hides the code behind. */
  #draw(): FuzzInput {
    const dice = this.#dice
    const list = dice.chance(0.25) ? this.#seeds : dice.chance(0.6) ? this.#taken : this.#refused
    if (list.length === 0) return dice.pick(this.#seeds)
    // Half of the draws from the latest members: what they reached is what has been tried least.
    const from = dice.chance(0.5) ? Math.max(0, list.length - 40) : 0
    return list[from + dice.below(list.length - from)]!
  }

  #next(): FuzzInput {
    let input = this.#draw()
    for (let step = this.#dice.few(6); step > 0; step--) {
      const changed = this.#target.mutate(input, this.#draw(), this.#dice)
      if (inputBytes(changed) <= this.#target.maxBytes) input = changed
    }
    return input
  }

  #sample(): void {
    this.#hooks.journal.idle()
    this.#memory.sample(this.#corpusBytes())
    this.#openFiles ??= openFiles()
  }

  #corpusBytes(): number {
    return [...this.#taken, ...this.#refused].reduce((sum, input) => sum + inputBytes(input), 0)
  }

  async #case(input: FuzzInput, checks: number): Promise<Outcome> {
    const { journal, openHandles, onFinding } = this.#hooks
    journal.begin(++this.#number, input)
    const startMs = performance.now()
    const outcome = await this.#target
      .run(input, new Dice(checks))
      .then((label): Outcome => ({ kind: 'right', taken: true, label, signature: label }), judge)
    this.#slowestMs = Math.max(this.#slowestMs, performance.now() - startMs)
    if (outcome.kind === 'finding') onFinding(outcome.finding, input)
    const left = openHandles()
    if (left > 0) {
      onFinding(
        { kind: 'handles', signature: 'handles', detail: `${left} file handles are open after the case` },
        input,
      )
    }
    return outcome
  }
}

/** Of the whole process; 0 where the system does not say. */
function openFiles(): number {
  return existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0
}
