// A real server process that tests and campaigns may kill: `tensorpress serve` on a free port, without awaiting its end.
// Entry: startServer.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

export interface TestServer {
  url: string
  process: ChildProcess
  /** Resolves with exit code or signal. */
  ended: Promise<number | NodeJS.Signals>
  /** The last of what it wrote: log lines and lines for people. */
  output(): string
}

export interface ServerExtras {
  env?: Record<string, string>
  /** Options for Node itself, before the program. */
  nodeOptions?: string[]
  /** Everything it writes, as it comes. */
  onOutput?(text: string): void
}

/** Who stops the server in the end: a test, or a campaign. */
export type Owner = Pick<TestContext, 'after'>

const PROGRAM = join(import.meta.dirname, '..', '..', 'bin', 'tensorpress')
const START_MS = 60_000
/** A server that runs for an hour writes more than anybody will read. */
const KEPT_OUTPUT_CHARACTERS = 64 * 1024

/** Resolves once it listens; it is killed when its owner ends. */
export async function startServer(
  owner: Owner,
  dataDir: string,
  options: string[] = [],
  { env: extraEnv = {}, nodeOptions = [], onOutput }: ServerExtras = {},
): Promise<TestServer> {
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
  const env = { ...inherited, TENSORPRESS_SETUP: 'skip', TENSORPRESS_DISK_FLOOR_BYTES: '0', ...extraEnv }
  const args = [...nodeOptions, PROGRAM, 'serve', '--port', '0', '--data-dir', dataDir, ...options]
  const server = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  owner.after(() => server.kill('SIGKILL'))
  const ended = once(server, 'exit').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals)
  let text = ''
  let listening = false
  const url = Promise.withResolvers<string>()
  for (const stream of [server.stdout, server.stderr]) {
    stream.setEncoding('utf8').on('data', (piece: string) => {
      text = (text + piece).slice(-KEPT_OUTPUT_CHARACTERS)
      onOutput?.(piece)
      const found = listening ? null : text.match(/http:\/\/127\.0\.0\.1:\d+/)
      if (found === null) return
      listening = true
      url.resolve(found[0])
    })
  }
  void ended.then((how) => url.reject(new Error(`the server ended (${how}) before it listened:\n${text}`)))
  const timer = setTimeout(() => url.reject(new Error(`the server did not listen in time:\n${text}`)), START_MS)
  try {
    return { url: await url.promise, process: server, ended, output: () => text }
  } finally {
    clearTimeout(timer)
  }
}

/** Live processes below this one, from Linux' /proc. */
export function descendants(pid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // it ended meanwhile
    }
  }
  const below = (parent: number): number[] =>
    [...parents].filter(([, of]) => of === parent).flatMap(([child]) => [child, ...below(child)])
  return below(pid)
}
