// What the kernel says about a process (Linux' /proc), and what the server says about itself on /metrics. Entries: openFiles,
// processesWith, childKind, readMetrics.

import { readdirSync, readFileSync } from 'node:fs'
import type { ChildKind } from '../src/jobs/service.ts'
import type { ApiClient } from './api-client.ts'

/** Open file descriptors; null when the process has gone. */
export function openFiles(pid: number): number | null {
  try {
    return readdirSync(`/proc/${pid}/fd`).length
  } catch {
    return null
  }
}

/** Live processes that were started with this environment variable set so, whoever their parent is by now. */
export function processesWith(variable: string, value: string): { pid: number; command: string }[] {
  const wanted = `${variable}=${value}`
  const found: { pid: number; command: string }[] = []
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue
    try {
      // A zombie has an empty environment, so only processes that still run are found.
      if (!readFileSync(`/proc/${name}/environ`, 'latin1').split('\0').includes(wanted)) continue
      const command = readFileSync(`/proc/${name}/cmdline`, 'latin1').replaceAll('\0', ' ').trim()
      found.push({ pid: Number(name), command })
    } catch {
      // it ended meanwhile
    }
  }
  return found
}

/** Samples of /metrics by name with labels, such as `tensorpress_worker_up` or `tensorpress_jobs_total{...}`. */
export async function readMetrics(api: ApiClient): Promise<Map<string, number>> {
  const { status, body } = await api.send('GET', '/metrics')
  if (status !== 200) throw new Error(`GET /metrics: ${status}`)
  const samples = new Map<string, number>()
  for (const line of body.toString('utf8').split('\n')) {
    const end = line.lastIndexOf(' ')
    if (!line.startsWith('#') && end > 0) samples.set(line.slice(0, end), Number(line.slice(end + 1)))
  }
  return samples
}

/** What a child of the server is, by its command line; null for anything else, and when it has gone. */
export function childKind(pid: number): ChildKind | null {
  let command: string
  try {
    command = readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return null
  }
  if (/jobs\/worker\.[jt]s/.test(command)) return 'gpu'
  if (/jobs\/inspect\.[jt]s/.test(command)) return 'inspect'
  return /validate\/inference\.[jt]s/.test(command) ? 'inference' : null
}
