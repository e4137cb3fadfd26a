// Prometheus and promtool for tests: skipWithoutPrometheus, promtool, and startPrometheus, which scrapes a server that listens on
// this machine. scripts/setup-prometheus.mjs puts both programs into .tools.

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { stringify } from 'yaml'
import { findPrometheus } from '../../scripts/setup-prometheus.mjs'
import { tempFolder } from './temp-folder.ts'

const START_MS = 60_000

/** For `test(..., { skip })`: false where Prometheus is there; in CI it must be. */
export function skipWithoutPrometheus(): string | false {
  if (process.env['CI'] === 'true' || findPrometheus() !== null) return false
  return 'monitoring: skipped, there is no Prometheus; run npm run setup:prometheus'
}

function programs(): { prometheus: string; promtool: string } {
  const found = findPrometheus()
  if (found === null) throw new Error('there is no Prometheus; run npm run setup:prometheus')
  return found
}

export function promtool(args: string[], input = ''): { status: number | null; output: string } {
  const run = spawnSync(programs().promtool, args, { input, encoding: 'utf8' })
  return { status: run.status, output: run.stdout + run.stderr }
}

export interface Prometheus {
  /** GET of the HTTP API; the parsed answer, whatever its status. */
  api: (path: string, query?: Record<string, string>) => Promise<{ status: string; error?: string; data: unknown }>
}

/** Scrapes `target` (host:port) every second as job "tensorpress", with the rules of k8s/monitoring. It is ended with the test. */
export async function startPrometheus(t: TestContext, target: string, rules: string): Promise<Prometheus> {
  const folder = tempFolder(t)
  const config = join(folder, 'prometheus.yaml')
  const scrape = { job_name: 'tensorpress', scrape_interval: '1s', static_configs: [{ targets: [target] }] }
  const text = stringify({ global: { evaluation_interval: '1s' }, rule_files: [rules], scrape_configs: [scrape] })
  writeFileSync(config, text)
  const child = spawn(
    programs().prometheus,
    [`--config.file=${config}`, `--storage.tsdb.path=${join(folder, 'data')}`, '--web.listen-address=127.0.0.1:0'],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  t.after(async () => {
    if (child.exitCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  let log = ''
  const address = Promise.withResolvers<string>()
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    log += piece
    const found = /msg="?Listening on"? address=(127\.0\.0\.1:\d+)/.exec(log)
    if (found !== null) address.resolve(found[1]!)
  })
  child.once('exit', (code) => address.reject(new Error(`prometheus ended with ${code}:\n${log}`)))
  const timer = setTimeout(() => address.reject(new Error(`prometheus did not start:\n${log}`)), START_MS)
  try {
    const url = `http://${await address.promise}/api/v1/`
    return {
      async api(path, query = {}) {
        const response = await fetch(`${url}${path}?${new URLSearchParams(query)}`)
        return (await response.json()) as { status: string; error?: string; data: unknown }
      },
    }
  } finally {
    clearTimeout(timer)
  }
}
