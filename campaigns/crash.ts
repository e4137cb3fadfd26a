// Crash: kill -9 of the server, the GPU worker, the inference and the inspect child at seeded random instants, round after
// round on one data folder, under load. After every kill the server must answer for everything it acknowledged; at the end the
// data folder is compared with the catalogue, file by file. Entry: crashCampaign.

import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { seededRandom } from '../test/support/seeded-random.ts'
import { descendants, type Owner } from '../test/support/server-process.ts'
import type { CampaignOptions, CampaignResult, Figure } from './campaign.ts'
import { type CampaignServer, startCampaignServer, stopServer } from './campaign-server.ts'
import { type Counter, startCrashClients } from './crash-clients.ts'
import { auditFolder, CrashLedger, type Kill } from './crash-ledger.ts'
import { withOwner } from './owner.ts'
import { childKind } from './process-figures.ts'

export interface CrashSettings {
  rounds: number
  clients: number
  /** Longest time of load before a kill. */
  loadMs: number
  /** How many models and jobs are looked at after each restart. */
  auditCount: number
}

export const LONG_CRASH: CrashSettings = { rounds: 200, clients: 4, loadMs: 1500, auditCount: 15 }
export const SHORT_CRASH: CrashSettings = { rounds: 6, clients: 3, loadMs: 800, auditCount: 5 }

/** Half of all kills are the server; the GPU worker next, since it has most of the work. */
const VICTIMS: [Kill, number][] = [
  ['server', 0.5],
  ['gpu', 0.75],
  ['inference', 0.92],
  ['inspect', 1],
]
/** How long a kill waits for a child of the kind to appear, before it takes the server instead. */
const VICTIM_MS = 8000
/** A child notices within a second that its server died; the kernel takes most of them at once. */
const ORPHAN_MS = 3000

export function crashCampaign(options: CampaignOptions, settings: CrashSettings): Promise<CampaignResult> {
  return withOwner((owner) => runCrash(owner, options, settings))
}

async function runCrash(owner: Owner, options: CampaignOptions, settings: CrashSettings): Promise<CampaignResult> {
  const dataDir = join(options.folder, 'data')
  mkdirSync(dataDir, { recursive: true })
  const random = seededRandom(options.seed)
  const ledger = new CrashLedger()
  const counter: Counter = { next: options.seed * 100_000 }
  const kills: Record<Kill, number> = { server: 0, gpu: 0, inference: 0, inspect: 0 }
  const bugs: string[] = []
  let device: CampaignServer['device'] | null = null

  async function start(): Promise<CampaignServer> {
    const temporary = join(dataDir, 'temporary')
    const before = existsSync(temporary) ? readdirSync(temporary) : []
    const server = await startCampaignServer(owner, {
      dataDir,
      device: options.device,
      logFile: join(options.folder, 'server.log'),
      env: { TENSORPRESS_LOG_LEVEL: 'warn', TENSORPRESS_QUEUE_LENGTH: '10000' },
    })
    const after = new Set(readdirSync(temporary))
    for (const name of before) if (after.has(name)) ledger.find(`temporary/${name} survived the start`)
    device = server.device
    return server
  }

  let server = await start()
  for (let round = 1; round <= settings.rounds && ledger.findings.length < 20; round++) {
    const clients = startCrashClients(server.url, settings.clients, ledger, random, counter)
    await sleep(random() * settings.loadMs)
    const victim = await killOne(server, random(), random() * 30)
    kills[victim]++
    if (victim === 'server') {
      await server.ended
      await clients.stop()
      await expectNoOrphans(server, ledger)
      bugs.push(...server.bugs)
      server.api.close()
      server = await start()
    } else {
      // The server goes on: so do the clients, for a moment.
      await sleep(random() * 300)
      await clients.stop()
    }
    await ledger.auditSample(server.api, random, settings.auditCount)
    if (round % 10 === 0) options.log(`round ${round}: ${summary(kills, ledger)}`)
  }

  await ledger.auditAll(server.api, kills.gpu + kills.inference)
  bugs.push(...server.bugs)
  await stopInOrder(server, ledger)
  // One more start sweeps what the last kill left.
  server = await start()
  await ledger.auditSample(server.api, random, settings.auditCount)
  await stopInOrder(server, ledger)
  const folder = await auditFolder(dataDir)
  return {
    settings: { ...settings },
    figures: figures(kills, ledger, folder),
    findings: [...ledger.findings, ...folder.findings, ...bugs.map((line) => `log: ${line}`)],
    device,
  }
}

/** @param choice in [0, 1): which kind. Falls back to the server when no such child lives. */
async function killOne(server: CampaignServer, choice: number, delayMs: number): Promise<Kill> {
  const wanted = VICTIMS.find(([, below]) => choice < below)![0]
  const deadline = performance.now() + VICTIM_MS
  while (wanted !== 'server' && performance.now() < deadline) {
    const pid = descendants(server.pid).find((child) => childKind(child) === wanted)
    if (pid !== undefined) {
      await sleep(delayMs)
      try {
        process.kill(pid, 'SIGKILL')
        return wanted
      } catch {
        // it ended by itself meanwhile: the next one
      }
    }
    await sleep(5)
  }
  server.process.kill('SIGKILL')
  return 'server'
}

async function expectNoOrphans(server: CampaignServer, ledger: CrashLedger): Promise<void> {
  const deadline = performance.now() + ORPHAN_MS
  while (server.processes().length > 0 && performance.now() < deadline) await sleep(20)
  for (const { pid, command } of server.processes()) ledger.find(`process ${pid} outlived its server: ${command}`)
}

async function stopInOrder(server: CampaignServer, ledger: CrashLedger): Promise<void> {
  const status = await stopServer(server)
  if (status !== 0) ledger.find(`the server ended with ${status} on SIGTERM`)
  await expectNoOrphans(server, ledger)
}

function summary(kills: Record<Kill, number>, ledger: CrashLedger): string {
  const killed = Object.entries(kills).map(([kind, count]) => `${count} ${kind}`)
  return `killed ${killed.join(', ')}; ${ledger.models.size} models, ${ledger.jobs.size} jobs, ${ledger.downloads} downloads, ${ledger.findings.length} findings`
}

function figures(
  kills: Record<Kill, number>,
  ledger: CrashLedger,
  folder: { findings: string[]; files: number; loaded: number },
): Figure[] {
  const count = (name: string, value: number, goal: Figure['goal'] = null): Figure => ({
    name,
    value,
    unit: 'count',
    goal,
  })
  const ends = [...ledger.jobs.values()].map(({ final }) => final?.state)
  const models = [...ledger.models.values()]
  return [
    count('rounds (kills)', kills.server + kills.gpu + kills.inference + kills.inspect),
    count('kills of the server', kills.server, { atLeast: 1 }),
    count('kills of the GPU worker', kills.gpu),
    count('kills of an inference child', kills.inference),
    count('kills of the inspect child', kills.inspect),
    count('acknowledged uploads', models.filter(({ state }) => state !== 'uploading').length + ledger.datasets.size),
    count('acknowledged resumable uploads', ledger.uploads.acknowledged),
    count('resumable uploads that became models, also over kills', ledger.uploads.finished),
    count('uploads cut off', models.filter(({ state }) => state === 'uploading').length),
    count('acknowledged jobs', ledger.jobs.size, { atLeast: 1 }),
    count('jobs that succeeded', ends.filter((state) => state === 'succeeded').length),
    count('jobs cancelled', ends.filter((state) => state === 'cancelled').length),
    count('jobs given up after three deaths of a child', ends.filter((state) => state === 'failed').length),
    count('artifacts downloaded, sha256 as the ETag and the report say', ledger.downloads, { atLeast: 1 }),
    count('files of the data folder hashed at the end', folder.files),
    count('artifacts opened as models at the end', folder.loaded, { atLeast: 1 }),
    count('lost, damaged, orphaned or left behind', ledger.findings.length + folder.findings.length, { atMost: 0 }),
  ]
}
