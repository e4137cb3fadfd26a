// Runs bin/tensorpress as a user would, in a folder of the test, and collects what it says.

import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'

export interface CliResult {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface CliRun {
  child: ChildProcess
  /** What it has written to standard error so far. */
  stderrSoFar(): string
  result: Promise<CliResult>
}

const BIN = join(import.meta.dirname, '..', '..', 'bin', 'tensorpress')

/** Starts it with `folder` as current folder; XDG_CACHE_HOME stays the user's, so that compiled shaders are reused. */
export function startCli(folder: string, ...args: string[]): CliRun {
  return startCliWith({}, folder, ...args)
}

/** The same with more variables in its environment. */
export function startCliWith(more: Record<string, string>, folder: string, ...args: string[]): CliRun {
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
  const env = { ...inherited, ...more }
  const child = spawn(process.execPath, [BIN, ...args], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const text = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      text[name] += chunk
    })
  }
  const { promise, resolve } = Promise.withResolvers<CliResult>()
  child.once('close', (status, signal) => resolve({ status, signal, ...text }))
  return { child, stderrSoFar: () => text.stderr, result: promise }
}

/** Runs it to its end. */
export function runCli(folder: string, ...args: string[]): Promise<CliResult> {
  return startCli(folder, ...args).result
}
