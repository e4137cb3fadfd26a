// The stored corpus: for each reader small inputs that once reached something new, and what each came to, as lines of JSON in
// campaigns/fuzz/corpus. They are replayed by a test; `npm run campaign -- fuzz --store-corpus` writes them anew.
// Entries: CorpusCollector, readCorpus.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Outcome } from './outcome.ts'
import { type FuzzInput, inputBytes } from './target.ts'

export interface StoredCase {
  /** `taken`, or the code of the refusal. */
  outcome: string
  /** Seed of the dice that chose how the case was looked at. */
  checks: number
  input: FuzzInput
}

export const CORPUS = join(import.meta.dirname, 'corpus')
/** Together the files stay small enough to be read and reviewed. */
const MAX_INPUT_BYTES = 4000
const MAX_CASES = 40

export function outcomeName(outcome: Outcome): string {
  if (outcome.kind === 'finding') return outcome.finding.kind
  return outcome.taken ? 'taken' : outcome.label
}

/** Keeps the smallest input for each kind of outcome. */
export class CorpusCollector {
  readonly #bySignature = new Map<string, StoredCase>()

  add(input: FuzzInput, outcome: Outcome, checks: number): void {
    if (outcome.kind === 'finding' || inputBytes(input) > MAX_INPUT_BYTES) return
    const before = this.#bySignature.get(outcome.signature)
    if (before && inputBytes(before.input) <= inputBytes(input)) return
    this.#bySignature.set(outcome.signature, { outcome: outcomeName(outcome), checks, input })
  }

  write(target: string): void {
    const smallest = [...this.#bySignature.values()].sort((a, b) => inputBytes(a.input) - inputBytes(b.input))
    const cases = smallest.slice(0, MAX_CASES)
    const lines = cases.map(({ outcome, checks, input }) => {
      const files = input.map(({ name, bytes }) => [name, Buffer.from(bytes).toString('base64')])
      return JSON.stringify({ outcome, checks, files })
    })
    mkdirSync(CORPUS, { recursive: true })
    writeFileSync(pathOf(target), `${lines.join('\n')}\n`)
  }
}

/** The stored cases of a target; none where it has no file. */
export function readCorpus(target: string): StoredCase[] {
  if (!existsSync(pathOf(target))) return []
  const lines = readFileSync(pathOf(target), 'utf8').trimEnd().split('\n')
  return lines.map((line) => {
    const { outcome, checks, files } = JSON.parse(line) as Pick<StoredCase, 'outcome' | 'checks'> & {
      files: [string, string][]
    }
    const input = files.map(([name, base64]) => ({ name, bytes: Uint8Array.from(Buffer.from(base64, 'base64')) }))
    return { outcome, checks, input }
  })
}

function pathOf(target: string): string {
  return join(CORPUS, `${target}.jsonl`)
}
