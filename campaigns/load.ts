// Load: what clients feel while the server works as hard as it can. Steady GETs with nothing else to do, while a large model
// arrives, while jobs run on it, while 64 uploads are open at once, while 500 clients follow one job, and while 1,000
// connections ask; and what the event loop says of the same time. Entry: loadCampaign.

import { createReadStream, mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeBenchModel } from '../scripts/make-bench-model.ts'
import type { Owner } from '../test/support/server-process.ts'
import { ApiClient, type JobBody, receive } from './api-client.ts'
import type { CampaignOptions, CampaignResult, Figure } from './campaign.ts'
import { type CampaignServer, startCampaignServer, stopServer } from './campaign-server.ts'
import { followJobs } from './event-followers.ts'
import { withOwner } from './owner.ts'
import { openUploads } from './parallel-uploads.ts'
import { readMetrics } from './process-figures.ts'
import { seededSafetensors } from './seeded-models.ts'
import { startSteadyGets } from './steady-gets.ts'

export interface LoadSettings {
  /** Bytes of the large model. */
  modelBytes: number
  getsPerSecond: number
  uploads: number
  listeners: number
  connections: number
  /** How long each phase that has no end of its own lasts. */
  phaseSeconds: number
}

export const LONG_LOAD: LoadSettings = {
  modelBytes: 4 * 2 ** 30,
  getsPerSecond: 200,
  uploads: 64,
  listeners: 500,
  connections: 1000,
  phaseSeconds: 15,
}

export const SHORT_LOAD: LoadSettings = {
  modelBytes: 64 * 2 ** 20,
  getsPerSecond: 50,
  uploads: 16,
  listeners: 100,
  connections: 200,
  phaseSeconds: 2,
}

/**
 * On two cores a job keeps both busy, and what is measured is above all how the system shares them between the worker's
 * threads, the server and this client: bounds leave room for that and catch a server that blocks.
 */
const P50_MS = 20
const P99_MS = 250
/** Node's sampling period of 10 ms is part of every delay. */
const EVENT_LOOP_P99_MS = 100
/** Beside the listeners or connections under test: probes, metrics, this client's own calls. */
const SPARE_CONNECTIONS = 100

/** Recipes of the jobs on the large model: the two main paths, and one that measures as well. */
const JOBS = [
  { recipe: 'int8', validate: false },
  { recipe: 'int4', validate: false },
  { recipe: 'prune-50+int8', validate: true },
]

export function loadCampaign(options: CampaignOptions, settings: LoadSettings): Promise<CampaignResult> {
  return withOwner((owner) => runLoad(owner, options, settings))
}

async function runLoad(owner: Owner, options: CampaignOptions, settings: LoadSettings): Promise<CampaignResult> {
  const dataDir = join(options.folder, 'data')
  mkdirSync(dataDir, { recursive: true })
  // Before anything listens: making it keeps this process busy for longer than an idle connection is kept.
  const path = join(options.folder, 'large.safetensors')
  makeBenchModel('safetensors', settings.modelBytes, path, options.seed)
  const server = await startCampaignServer(owner, {
    dataDir,
    device: options.device,
    logFile: join(options.folder, 'server.log'),
    env: {
      TENSORPRESS_CONNECTIONS: String(Math.max(settings.connections, settings.listeners) + SPARE_CONNECTIONS),
      TENSORPRESS_PARALLEL_UPLOADS: String(settings.uploads),
      // Requests of this campaign would be thousands of lines a second; failures still are lines.
      TENSORPRESS_LOG_LEVEL: 'warn',
    },
    maxSockets: 64,
  })
  const phases = new Phases(server, options, settings)
  const small = seededSafetensors(options.seed)
  const { id } = await server.api.json<{ id: string }>('PUT', `/v1/models/${small.name}`, small.bytes)
  phases.paths = ['/healthz', `/v1/models/${id}`, '/v1/models?limit=10', '/v1/jobs?limit=10']

  await phases.run('idle', () => sleep(settings.phaseSeconds * 1000))
  const large = await phases.run('while a large model arrives', () => upload(server, path))
  rmSync(path)
  await phases.run('while jobs run on the large model', () => runJobs(server, large, options))
  await server.api.json('DELETE', `/v1/models/${large}`)
  await phases.run(`while ${settings.uploads} uploads are open`, async () => {
    const outcome = await openUploads(server.api, settings.uploads, options.seed + 1000, settings.phaseSeconds)
    phases.findings.push(...outcome.findings)
    phases.count(`uploads open at once, all stored with the right sha256`, outcome.stored, settings.uploads)
  })
  await phases.run(`while ${settings.listeners} clients follow a job`, async () => {
    const outcome = await followJobs(server.api, settings.listeners, options.seed + 5000)
    phases.findings.push(...outcome.findings)
    phases.count('event streams that saw the job end', outcome.complete, settings.listeners)
  })
  await phases.run(`while ${settings.connections} connections ask`, async () => {
    const answered = await manyConnections(server, settings)
    phases.count('connections that got every answer', answered, settings.connections)
  })

  const status = await stopServer(server)
  if (status !== 0) phases.findings.push(`the server ended with ${status} on SIGTERM`)
  const left = server.processes()
  if (left.length > 0) phases.findings.push(`processes outlived the server: ${JSON.stringify(left)}`)
  phases.findings.push(...server.bugs.map((line) => `log: ${line}`))
  return { settings: { ...settings }, figures: phases.figures, findings: phases.findings, device: server.device }
}

/** Runs one phase after the other under steady GETs and reads the event loop's delay over it. */
class Phases {
  readonly figures: Figure[] = []
  readonly findings: string[] = []
  paths: string[] = []
  readonly #server: CampaignServer
  readonly #options: CampaignOptions
  readonly #settings: LoadSettings

  constructor(server: CampaignServer, options: CampaignOptions, settings: LoadSettings) {
    this.#server = server
    this.#options = options
    this.#settings = settings
  }

  count(name: string, value: number, atLeast: number): void {
    this.figures.push({ name, value, unit: 'count', goal: { atLeast } })
  }

  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    await readMetrics(this.#server.api) // the delay histogram starts anew with every scrape
    const { paths } = this
    const gets = await startSteadyGets({ url: this.#server.url, paths, perSecond: this.#settings.getsPerSecond })
    const startMs = performance.now()
    let result: T
    try {
      result = await work()
    } finally {
      const { sent, failed, p50Ms, p99Ms, maxMs, failures } = await gets.stop()
      this.findings.push(...failures.map((text) => `${name}: ${text}`))
      const samples = await readMetrics(this.#server.api)
      const delayMs = 1000 * (samples.get('tensorpress_nodejs_eventloop_lag_p99_seconds') ?? Number.NaN)
      const mostMs = 1000 * (samples.get('tensorpress_nodejs_eventloop_lag_max_seconds') ?? Number.NaN)
      const rssMiB = (samples.get('tensorpress_process_resident_memory_bytes') ?? Number.NaN) / 2 ** 20
      const add = (what: string, value: number, unit: Figure['unit'], goal: Figure['goal']) =>
        this.figures.push({ name: `${name}: ${what}`, value: Math.round(value * 10) / 10, unit, goal })
      add('GETs answered', sent - failed, 'count', { atLeast: sent })
      add('GET p50', p50Ms, 'ms', { atMost: P50_MS })
      add('GET p99', p99Ms, 'ms', { atMost: P99_MS })
      add('GET slowest', maxMs, 'ms', null)
      add('event-loop delay p99', delayMs, 'ms', { atMost: EVENT_LOOP_P99_MS })
      add('event-loop delay, largest', mostMs, 'ms', null)
      add('resident memory of the server', rssMiB, 'MiB', null)
      const seconds = (performance.now() - startMs) / 1000
      this.#options.log(
        `${name}: ${seconds.toFixed(1)} s, ${sent} GETs, p50 ${p50Ms.toFixed(1)} p99 ${p99Ms.toFixed(1)} max ${maxMs.toFixed(0)} ms; ` +
          `event loop p99 ${delayMs.toFixed(1)} max ${mostMs.toFixed(0)} ms; server ${rssMiB.toFixed(0)} MiB`,
      )
    }
    return result
  }
}

async function upload({ api }: CampaignServer, path: string): Promise<string> {
  const put = api.open('PUT', '/v1/models/large.safetensors', { 'content-length': statSync(path).size })
  const [answer] = await Promise.all([receive(put), pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), put)])
  if (answer.status !== 201) throw new Error(`upload of the large model: ${answer.status} ${answer.body}`)
  return (JSON.parse(answer.body.toString('utf8')) as { id: string }).id
}

async function runJobs({ api }: CampaignServer, model: string, { log }: CampaignOptions): Promise<void> {
  for (const job of JOBS) {
    const startMs = performance.now()
    const { id } = await api.json<JobBody>('POST', '/v1/jobs', { model, ...job })
    const done = await api.waitForJob(id, 1_800_000, 200)
    if (done.state !== 'succeeded') throw new Error(`job ${job.recipe}: ${JSON.stringify(done.error)}`)
    log(
      `  job ${job.recipe}${job.validate ? ' with validation' : ''}: ${((performance.now() - startMs) / 1000).toFixed(1)} s`,
    )
  }
}

/** Every connection asks once a second; resolves with how many got a good answer each time. */
async function manyConnections({ url }: CampaignServer, { connections, phaseSeconds }: LoadSettings): Promise<number> {
  const api = new ApiClient(url, connections)
  let good = 0
  const ask = async (index: number) => {
    // Spread over the second, so that the client does not measure itself.
    await sleep((1000 * index) / connections)
    for (let round = 0; round < phaseSeconds; round++) {
      const dueMs = performance.now() + 1000
      const { status } = await api.send('GET', index % 10 === 0 ? '/v1/models?limit=1' : '/healthz')
      if (status !== 200) return
      await sleep(Math.max(0, dueMs - performance.now()))
    }
    good++
  }
  await Promise.all(Array.from({ length: connections }, (_, index) => ask(index).catch(() => {})))
  api.close()
  return good
}
