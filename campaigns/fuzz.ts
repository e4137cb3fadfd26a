// Fuzz: every reader of untrusted bytes gets inputs that are nearly right, by the hundred thousand: each must be taken, or
// refused with a documented error, in time, with every file closed, and without memory growing. Entry: fuzzCampaign. The
// engine and the targets are in campaigns/fuzz; inputs that did harm are written to FINDINGS for a look and a test.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CampaignOptions, CampaignResult, Figure } from './campaign.ts'
import { MAX_GROWTH_BYTES, MAX_RESIDENT_BYTES } from './fuzz/memory-watch.ts'
import { type FoundCase, HANG_MS, superviseTarget, type TargetResult } from './fuzz/supervise.ts'
import { TARGETS } from './fuzz/targets.ts'

export interface FuzzSettings {
  /** Over all targets, each by its weight. */
  cases: number
  /** Names of targets; empty: all. */
  only: readonly string[]
  /** Write campaigns/fuzz/corpus anew. */
  storeCorpus?: boolean
}

export const LONG_FUZZ: FuzzSettings = { cases: 1_000_000, only: [] }
export const SHORT_FUZZ: FuzzSettings = { cases: 8_000, only: [] }

/** Not checked in: hostile inputs, one file each, until a test holds them. */
export const FINDINGS = join(import.meta.dirname, 'results', 'findings')

const MIB = 2 ** 20
/** Of each target: fewer would be little more than its seeds. */
const MIN_CASES = 150

export async function fuzzCampaign(options: CampaignOptions, settings: FuzzSettings): Promise<CampaignResult> {
  const chosen = TARGETS.filter(({ name }) => settings.only.length === 0 || settings.only.includes(name))
  const totalWeight = chosen.reduce((sum, { weight }) => sum + weight, 0)
  const results: { name: string; result: TargetResult }[] = []
  for (const { name, weight, module } of chosen) {
    const cases = Math.max(MIN_CASES, Math.round((settings.cases * weight) / totalWeight))
    const result = await superviseTarget({
      module,
      cases,
      seed: options.seed,
      storeCorpus: settings.storeCorpus ?? false,
    })
    results.push({ name, result })
    options.log(
      `${name}: ${result.cases} cases in ${result.seconds.toFixed(1)} s, ${outcomesOf(result)}; ${result.findings.length} findings`,
    )
    for (const found of result.findings) keepInput(name, found)
  }
  return {
    settings: {
      cases: settings.cases,
      ...Object.fromEntries(results.map(({ name, result }) => [`${name} outcomes`, outcomesOf(result)])),
    },
    figures: figuresOf(results),
    findings: results.flatMap(({ name, result }) =>
      result.findings.map(({ kind, count, signature }) => `${name}: ${kind}, ${count} times: ${signature}`),
    ),
    device: null,
  }
}

function figuresOf(results: readonly { name: string; result: TargetResult }[]): Figure[] {
  const count = (kind: FoundCase['kind']): number =>
    results.flatMap(({ result }) => result.findings).filter((found) => found.kind === kind).length
  const most = (of: (result: TargetResult) => number): number => Math.max(0, ...results.map(({ result }) => of(result)))
  const none = { atMost: 0 }
  return [
    ...results.map(
      ({ name, result }): Figure => ({ name: `${name}: cases`, value: result.cases, unit: 'count', goal: null }),
    ),
    { name: 'cases', value: results.reduce((sum, { result }) => sum + result.cases, 0), unit: 'count', goal: null },
    { name: 'crashes', value: count('crash'), unit: 'count', goal: none },
    { name: 'hangs', value: count('hang'), unit: 'count', goal: none },
    { name: 'cases that leave files open', value: count('handles'), unit: 'count', goal: none },
    {
      name: 'slowest case',
      value: Math.round(most(({ slowestMs }) => slowestMs)),
      unit: 'ms',
      goal: { atMost: HANG_MS },
    },
    {
      name: 'growth of live memory',
      value: round(most(({ growthBytes }) => growthBytes) / MIB),
      unit: 'MiB',
      goal: { atMost: MAX_GROWTH_BYTES / MIB },
    },
    {
      name: 'peak resident memory',
      value: round(most(({ peakResidentBytes }) => peakResidentBytes) / MIB),
      unit: 'MiB',
      goal: { atMost: MAX_RESIDENT_BYTES / MIB },
    },
    ...results.map(
      ({ name, result }): Figure => ({
        name: `${name}: cases a second of processor time`,
        value: Math.round(result.cases / Math.max(result.cpuSeconds, 0.001)),
        unit: 'per s',
        goal: null,
      }),
    ),
  ]
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

/** Shares of the outcomes, the commonest first. */
function outcomesOf({ outcomes, cases }: TargetResult): string {
  const sorted = Object.entries(outcomes).sort(([, a], [, b]) => b - a)
  return sorted.map(([label, times]) => `${label} ${((100 * times) / cases).toFixed(1)} %`).join(', ')
}

function keepInput(target: string, { kind, signature, detail, input }: FoundCase): void {
  const stem = `${target}-${kind}-${Buffer.from(signature).toString('hex').slice(0, 8)}${signature.length}`
  mkdirSync(FINDINGS, { recursive: true })
  writeFileSync(join(FINDINGS, `${stem}.txt`), `${signature}\n\n${detail}\n`)
  input?.forEach(({ bytes }, index) => void writeFileSync(join(FINDINGS, `${stem}.${index}.bin`), bytes))
}
