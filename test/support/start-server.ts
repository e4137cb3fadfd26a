// A real server: bin/tensorpress as a process of its own, on a free port, with a data folder that goes away. Entry:
// startServer, which resolves once the server has said where it listens and on which device.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { tempFolder } from './temp-folder.ts'

export const ROOT = join(import.meta.dirname, '..', '..')
const PROGRAM = join(ROOT, 'bin', 'tensorpress')

export interface RunningServer {
  url: string
  child: ChildProcess
  dataDir: string
  /** What it wrote for people, on standard error. */
  banner: string[]
  /** JSON log lines so far. */
  logs(): Record<string, unknown>[]
  /** Sends the signal and resolves with the exit code (or the signal's name). */
  stop(signal?: NodeJS.Signals): Promise<number | string>
}

export async function startServer(
  test: TestContext,
  options: { dataDir?: string; args?: string[]; env?: Record<string, string> } = {},
): Promise<RunningServer> {
  const dataDir = options.dataDir ?? join(tempFolder(test), 'data')
  const args = ['serve', '--port', '0', '--data-dir', dataDir, ...(options.args ?? [])]
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    cwd: ROOT,
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit') as Promise<[number | null, string | null]>
  let out = ''
  let err = ''
  child.stdout!.on('data', (chunk) => {
    out += chunk
  })
  const announced = new Promise<void>((resolve, reject) => {
    child.stderr!.on('data', (chunk) => {
      err += chunk
      if (/^Try: .*\n/m.test(err)) resolve()
    })
    void exited.then(() => reject(new Error(`The server ended before it listened: ${err}`)))
  })
  const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal)
    const [code, name] = await exited
    return code ?? name ?? 'unknown'
  }
  test.after(async () => {
    if (child.exitCode === null && child.signalCode === null) await stop('SIGKILL')
  })
  await announced
  const url = /listens on (\S+)/.exec(err)?.[1]
  if (!url) throw new Error(`No address in: ${err}`)
  return {
    url,
    child,
    dataDir,
    banner: err.trim().split('\n'),
    logs: () =>
      out
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    stop,
  }
}
