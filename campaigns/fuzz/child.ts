// The process that fuzzes: loads one target, runs the engine, and tells its parent (supervise.ts) what it found. Started with
// an IPC channel; the order comes as the first message. It may crash or hang at any moment: that is what it is for.

import './memory-hooks.ts'
import { CodeCoverage } from './coverage.ts'
import { JournalWriter } from './journal.ts'
import { type FuzzFigures, fuzz } from './loop.ts'
import { openHandles } from './memory-files.ts'
import type { Finding } from './outcome.ts'
import { CorpusCollector } from './stored-corpus.ts'
import { type FuzzInput, type FuzzTarget, inputBytes } from './target.ts'

export interface FuzzOrder {
  /** URL of a module that exports `target`. */
  module: string
  cases: number
  seed: number
  journal: string
  /** Write the stored corpus of the target anew. */
  storeCorpus: boolean
}

export type FuzzMessage =
  | { type: 'progress'; cases: number }
  | { type: 'finding'; finding: Finding; files: [name: string, base64: string][] }
  | { type: 'done'; figures: FuzzFigures; counts: Record<string, number> }

const SOURCES = new URL('../../src/', import.meta.url).href

function send(message: FuzzMessage): void {
  process.send?.(message)
}

function filesOf(input: FuzzInput): [string, string][] {
  return input.map(({ name, bytes }) => [name, Buffer.from(bytes).toString('base64')])
}

async function work(order: FuzzOrder): Promise<void> {
  const { target } = (await import(order.module)) as { target: FuzzTarget }
  const journal = new JournalWriter(order.journal)
  const coverage = target.guided ? new CodeCoverage(SOURCES) : null
  const counts: Record<string, number> = {}
  const smallest = new Map<string, number>()
  const collector = order.storeCorpus ? new CorpusCollector() : null
  let handlesBefore = 0
  await target.setUp?.()
  const figures = await fuzz(target, order, {
    journal,
    coverage,
    openHandles() {
      const now = openHandles()
      const left = now - handlesBefore
      handlesBefore = now
      return left
    },
    onFinding(finding, input) {
      counts[finding.signature] = (counts[finding.signature] ?? 0) + 1
      const size = inputBytes(input)
      if (size >= (smallest.get(finding.signature) ?? Number.POSITIVE_INFINITY)) return
      smallest.set(finding.signature, size)
      send({ type: 'finding', finding, files: filesOf(input) })
    },
    onKept: (input, outcome, checks) => collector?.add(input, outcome, checks),
    onProgress: (cases) => send({ type: 'progress', cases }),
  })
  await target.tearDown?.()
  collector?.write(target.name)
  coverage?.close()
  journal.close()
  send({ type: 'done', figures, counts })
  process.off('disconnect', leave)
  process.disconnect()
}

/** The parent is gone: nobody would hear of what is found. */
function leave(): void {
  process.exit(1)
}

process.once('disconnect', leave)
// A case that never settles must look like a hang: the process stays until it disconnects.
process.channel?.ref()
process.once('message', (order: FuzzOrder) => void work(order))
