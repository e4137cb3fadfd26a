// Soak: an hour of ordinary work in steady state, to see that nothing grows. Clients upload, compress with several recipes,
// follow, download, check and delete, at a pace that leaves the machine some air; every few seconds resident memory and open
// files of the server and its long-lived children are read, and a line is fitted through what comes after the warm-up.
// Entry: soakCampaign.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { processBytes } from '../bench/figures.ts'
import { seededRandom } from '../test/support/seeded-random.ts'
import { descendants, type Owner } from '../test/support/server-process.ts'
import type { CampaignOptions, CampaignResult, Figure } from './campaign.ts'
import { type CampaignServer, startCampaignServer, stopServer } from './campaign-server.ts'
import { withOwner } from './owner.ts'
import { childKind, openFiles, readMetrics } from './process-figures.ts'
import { SoakClient, type SoakCounts } from './soak-client.ts'
import { linearTrend, percentile } from './statistics.ts'

export interface SoakSettings {
  minutes: number
  clients: number
  /** Longest pause of a client between two rounds. */
  pauseMs: number
  sampleSeconds: number
}

export const LONG_SOAK: SoakSettings = { minutes: 60, clients: 3, pauseMs: 1500, sampleSeconds: 5 }
export const SHORT_SOAK: SoakSettings = { minutes: 0.25, clients: 3, pauseMs: 200, sampleSeconds: 1 }

/** Heaps, shader caches and SQLite's page cache fill first: a fifth of the time, at most ten minutes. */
const WARM_UP_SHARE = 0.2
const WARM_UP_MOST_SECONDS = 600
/**
 * What the fitted line may gain over the measured time. V8 collects lazily, so a flat process wanders by some MiB; a leak of
 * 10 KiB in each of an hour's 4,000 jobs would be 40 MiB. In a run of minutes heaps and caches still fill.
 */
const MOST_GROWTH_MIB = { hour: 32, minutes: 128 }
/** From here on a run counts as long. */
const LONG_MINUTES = 30
/** Sockets and files come and go between samples; a leak of one in a hundred jobs would be dozens. */
const MOST_FILE_GROWTH = 4
const EVENT_LOOP_P99_MS = 100

/** The long-lived processes; inference children live for seconds. */
const KINDS = ['server', 'gpu', 'inspect'] as const
type Kind = (typeof KINDS)[number]
type Sample = { seconds: number } & Record<`${Kind}RssMiB` | `${Kind}Files`, number>

export function soakCampaign(options: CampaignOptions, settings: SoakSettings): Promise<CampaignResult> {
  return withOwner((owner) => runSoak(owner, options, settings))
}

async function runSoak(owner: Owner, options: CampaignOptions, settings: SoakSettings): Promise<CampaignResult> {
  const dataDir = join(options.folder, 'data')
  mkdirSync(dataDir, { recursive: true })
  const server = await startCampaignServer(owner, {
    dataDir,
    device: options.device,
    logFile: join(options.folder, 'server.log'),
    env: { TENSORPRESS_LOG_LEVEL: 'warn' },
  })
  const findings: string[] = []
  const counts: SoakCounts = { rounds: 0, uploads: 0, jobs: 0, downloads: 0, deletes: 0, refused: 0 }
  const random = seededRandom(options.seed)
  const stop = new AbortController()
  const clients = Array.from({ length: settings.clients }, async (_, index) => {
    const client = new SoakClient(server.url, options.seed * 1_000_000 + index * 100_000, counts)
    while (!stop.signal.aborted) {
      await client.round(random()).catch((error: unknown) => findings.push(`client ${index}: ${String(error)}`))
      if (findings.length > 20) return
      await sleep(random() * settings.pauseMs)
    }
    client.close()
  })

  const samples: Sample[] = []
  const delaysMs: number[] = []
  const restartsBefore = await restarts(server)
  const seconds = settings.minutes * 60
  const startMs = performance.now()
  while (performance.now() - startMs < seconds * 1000 && findings.length <= 20) {
    await sleep(settings.sampleSeconds * 1000)
    const sample = takeSample(server.pid, (performance.now() - startMs) / 1000)
    if (sample !== null) samples.push(sample)
    const metrics = await readMetrics(server.api)
    delaysMs.push(1000 * (metrics.get('tensorpress_nodejs_eventloop_lag_p99_seconds') ?? Number.NaN))
    if (samples.length % 60 === 0) options.log(`${Math.round(sample?.seconds ?? 0)} s: ${describe(sample, counts)}`)
  }
  stop.abort()
  await Promise.all(clients)
  const restarted = (await restarts(server)) - restartsBefore
  const status = await stopServer(server)
  if (status !== 0) findings.push(`the server ended with ${status} on SIGTERM`)
  const left = server.processes()
  if (left.length > 0) findings.push(`processes outlived the server: ${JSON.stringify(left)}`)
  findings.push(...server.bugs.map((line) => `log: ${line}`))

  const warmUpSeconds = Math.min(WARM_UP_MOST_SECONDS, seconds * WARM_UP_SHARE)
  const steady = samples.filter((sample) => sample.seconds >= warmUpSeconds)
  return {
    settings: { ...settings, warmUpSeconds },
    figures: [
      ...countFigures(counts),
      { name: 'restarts of the GPU worker', value: restarted, unit: 'count', goal: { atMost: 0 } },
      { name: 'event-loop delay p99, worst sample', value: round(percentile(delaysMs, 1)), unit: 'ms', goal: null },
      {
        name: 'event-loop delay p99, median of samples',
        value: round(percentile(delaysMs, 0.5)),
        unit: 'ms',
        goal: { atMost: EVENT_LOOP_P99_MS },
      },
      ...KINDS.flatMap((kind) => growthFigures(kind, steady, settings.minutes)),
    ],
    findings,
    series: thin(samples),
    device: server.device,
  }
}

async function restarts(server: CampaignServer): Promise<number> {
  return (await readMetrics(server.api)).get('tensorpress_worker_restarts_total') ?? 0
}

/** null while a child is being started again. */
function takeSample(pid: number, seconds: number): Sample | null {
  const pids = { server: pid, gpu: 0, inspect: 0, inference: 0 }
  for (const child of descendants(pid)) {
    const kind = childKind(child)
    if (kind !== null) pids[kind] = child
  }
  const sample = { seconds } as Sample
  for (const kind of KINDS) {
    const rssBytes = processBytes(pids[kind], 'VmRSS')
    const files = openFiles(pids[kind])
    if (rssBytes === null || files === null) return null
    sample[`${kind}RssMiB`] = round(rssBytes / 2 ** 20)
    sample[`${kind}Files`] = files
  }
  return sample
}

function countFigures(counts: SoakCounts): Figure[] {
  const names: [keyof SoakCounts, string][] = [
    ['jobs', 'jobs that succeeded'],
    ['uploads', 'uploads'],
    ['downloads', 'artifacts downloaded, sha256 as reported'],
    ['deletes', 'models and datasets deleted'],
    ['refused', 'deletes of a model in use, refused as they must be'],
  ]
  return names.map(([key, name]) => ({ name, value: counts[key], unit: 'count', goal: null }))
}

function growthFigures(kind: Kind, steady: readonly Sample[], minutes: number): Figure[] {
  const rss = steady.map((sample) => ({ seconds: sample.seconds, value: sample[`${kind}RssMiB`] }))
  const files = steady.map((sample) => ({ seconds: sample.seconds, value: sample[`${kind}Files`] }))
  const name = kind === 'gpu' ? 'GPU worker' : kind === 'inspect' ? 'inspect child' : 'server'
  const memory = linearTrend(rss)
  return [
    {
      name: `${name}: growth of resident memory after warm-up (fitted)`,
      value: round(memory.growth),
      unit: 'MiB',
      goal: { atMost: minutes < LONG_MINUTES ? MOST_GROWTH_MIB.minutes : MOST_GROWTH_MIB.hour },
    },
    { name: `${name}: slope, an hour`, value: round(memory.slope * 3600), unit: 'MiB', goal: null },
    {
      name: `${name}: largest resident memory`,
      value: Math.max(...rss.map(({ value }) => value)),
      unit: 'MiB',
      goal: null,
    },
    {
      name: `${name}: growth of open files after warm-up (fitted)`,
      value: round(linearTrend(files).growth),
      unit: 'ratio',
      goal: { atMost: MOST_FILE_GROWTH },
    },
  ]
}

function describe(sample: Sample | null, counts: SoakCounts): string {
  const memory = KINDS.map(
    (kind) => `${kind} ${sample?.[`${kind}RssMiB`] ?? '?'} MiB ${sample?.[`${kind}Files`] ?? '?'} files`,
  )
  return `${counts.jobs} jobs, ${counts.uploads} uploads, ${counts.deletes} deletes; ${memory.join(', ')}`
}

/** At most 120 points of each series are kept with the result. */
function thin(samples: readonly Sample[]): Record<string, number[]> {
  const step = Math.max(1, Math.ceil(samples.length / 120))
  const kept = samples.filter((_, index) => index % step === 0)
  const names = Object.keys(kept[0] ?? {}) as (keyof Sample)[]
  return Object.fromEntries(names.map((name) => [name, kept.map((sample) => Math.round(sample[name] * 10) / 10)]))
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}
