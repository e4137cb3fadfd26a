// Small GETs at a steady rate, whatever the server does: each is due at its own time and its latency counts from then, so
// that a server which stops for a second is charged for every request of that second. They run in a thread of their own:
// what else the campaign does is not charged to the server. Entry: startSteadyGets.

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { ApiClient } from './api-client.ts'
import { percentile } from './statistics.ts'

export interface GetFigures {
  sent: number
  failed: number
  p50Ms: number
  p99Ms: number
  maxMs: number
  /** First few answers that were not 200, and errors. */
  failures: string[]
}

export interface SteadyGets {
  /** Waits for the last answers. */
  stop(): Promise<GetFigures>
}

interface GetSettings {
  url: string
  paths: readonly string[]
  perSecond: number
}

/** Resolves once the first requests are on their way. */
export async function startSteadyGets(settings: GetSettings): Promise<SteadyGets> {
  const worker = new Worker(new URL(import.meta.url), { workerData: settings })
  const failed = once(worker, 'error').then(([error]) => Promise.reject(error))
  failed.catch(() => {})
  await Promise.race([once(worker, 'online'), failed])
  return {
    async stop() {
      worker.postMessage('stop')
      const [figures] = (await Promise.race([once(worker, 'message'), failed])) as [GetFigures]
      return figures
    },
  }
}

async function sendUntil(stop: AbortSignal, { url, paths, perSecond }: GetSettings): Promise<GetFigures> {
  const api = new ApiClient(url, 32)
  const latencies: number[] = []
  const failures: string[] = []
  const pending = new Set<Promise<void>>()
  let failed = 0
  let sent = 0

  async function get(path: string, dueMs: number): Promise<void> {
    try {
      const { status } = await api.send('GET', path)
      if (status !== 200) throw new Error(`GET ${path}: ${status}`)
    } catch (error) {
      failed++
      if (failures.length < 5) failures.push(String(error))
    }
    latencies.push(performance.now() - dueMs)
  }

  const startMs = performance.now()
  while (!stop.aborted) {
    const dueMs = startMs + (sent * 1000) / perSecond
    const waitMs = dueMs - performance.now()
    if (waitMs > 1) await sleep(waitMs)
    const one = get(paths[sent % paths.length]!, dueMs)
    pending.add(one)
    void one.finally(() => pending.delete(one))
    sent++
  }
  await Promise.all(pending)
  api.close()
  return {
    sent,
    failed,
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    maxMs: percentile(latencies, 1),
    failures,
  }
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort
  const stop = new AbortController()
  port.once('message', () => stop.abort())
  port.postMessage(await sendUntil(stop.signal, workerData as GetSettings))
}
