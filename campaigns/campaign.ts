// What a campaign is and what it leaves behind. A campaign tries to break a real server for a while and states what it found
// as figures, most of them with a goal; a goal that is not met is a finding. Results are kept as JSON in campaigns/results:
// one document a campaign, with one portion a run (`--append` adds one, so that a long campaign may be run in pieces).

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, platform, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { VERSION } from '../src/version.ts'

export interface Figure {
  name: string
  value: number
  /** Of several portions, counts are added up; of everything else the worst is shown. */
  unit: 'count' | 'ms' | 's' | 'MiB' | 'ratio' | 'per s'
  goal: { atMost: number } | { atLeast: number } | null
}

export interface Portion {
  command: string
  seed: number
  startedAt: string
  seconds: number
  version: string
  /** Of the tree that was run; `+` behind it: with changes that are not committed. */
  commit: string
  settings: Record<string, number | string>
  figures: Figure[]
  /** What went wrong, in words; at most a few dozen lines. */
  findings: string[]
  /** Figures over time, where the campaign keeps them. */
  series?: Record<string, number[]>
}

export interface CampaignDocument {
  campaign: string
  machine: { cpu: string; cores: number; memoryBytes: number; system: string; adapter: string; driver: string }
  portions: Portion[]
}

export interface CampaignOptions {
  seed: number
  /** For temporary data, which is removed at the end. */
  folder: string
  device: string
  log(text: string): void
}

export interface CampaignResult {
  settings: Record<string, number | string>
  figures: Figure[]
  findings: string[]
  series?: Record<string, number[]>
  /** The device that the server opened; null where no server of the campaign had one. */
  device: { adapter: string; driver: string } | null
}

export const RESULTS = join(import.meta.dirname, 'results')
const MOST_FINDINGS = 40

export function met({ value, goal }: Figure): boolean {
  if (goal === null) return true
  return 'atMost' in goal ? value <= goal.atMost : value >= goal.atLeast
}

/** Exit status 0 needs every goal met and nothing found. */
export function passed({ figures, findings }: Pick<Portion, 'figures' | 'findings'>): boolean {
  return findings.length === 0 && figures.every(met)
}

/** The figures of all portions as one list: counts added up, of the others the one furthest from its goal. */
export function combined(portions: readonly Portion[]): Figure[] {
  const byName = new Map<string, Figure>()
  for (const figure of portions.flatMap((portion) => portion.figures)) {
    const before = byName.get(figure.name)
    if (before === undefined) byName.set(figure.name, figure)
    else byName.set(figure.name, { ...figure, value: combine(before, figure) })
  }
  return [...byName.values()]
}

function combine(before: Figure, after: Figure): number {
  if (after.unit === 'count') return before.value + after.value
  const lowest = after.goal !== null && 'atLeast' in after.goal
  return lowest ? Math.min(before.value, after.value) : Math.max(before.value, after.value)
}

/** Writes the result of a run; returns the path. With `append` the portions of earlier runs on the same adapter are kept. */
export function recordResult(
  campaign: string,
  run: { command: string; seed: number; startedAt: Date; seconds: number; commit: string },
  result: CampaignResult,
  append: boolean,
): string {
  mkdirSync(RESULTS, { recursive: true })
  const path = join(RESULTS, `${campaign}.json`)
  const { settings, figures, findings, series } = result
  const portion: Portion = {
    command: run.command,
    seed: run.seed,
    startedAt: run.startedAt.toISOString(),
    seconds: Math.round(run.seconds),
    version: VERSION,
    commit: run.commit,
    settings,
    figures,
    findings: findings.slice(0, MOST_FINDINGS),
    ...(series === undefined ? {} : { series }),
  }
  const machine = {
    cpu: cpus()[0]?.model ?? '',
    cores: cpus().length,
    memoryBytes: totalmem(),
    system: `${platform()} ${release()}`,
    adapter: result.device?.adapter ?? 'none',
    driver: result.device?.driver ?? '',
  }
  const earlier = append ? (JSON.parse(readFileSync(path, 'utf8')) as CampaignDocument).portions : []
  const document: CampaignDocument = { campaign, machine, portions: [...earlier, portion] }
  writeFileSync(path, `${JSON.stringify(document, null, 2)}\n`)
  return path
}

/** The commit of the tree; ask before a run, since the tree may change under it. */
export function currentCommit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' }).trim()
  try {
    const changed = git('status', '--porcelain', '--', '.', '../src', '../shaders', ':!results') !== ''
    return git('rev-parse', '--short=12', 'HEAD') + (changed ? '+' : '')
  } catch {
    return 'unknown' // an unpacked package has no history
  }
}
