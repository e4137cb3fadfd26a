// The parent's end of service-process.ts: start a server process, ask it, kill it with SIGKILL. Entry: startServiceProcess.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { ServiceLimits } from '../../src/jobs/service.ts'
import type { Command } from './service-process.ts'

type Body<T> = T extends unknown ? Omit<T, 'id'> : never

export interface ServiceProcess {
  readonly pid: number
  /** Rejects when the process dies before it answers. */
  ask(command: Body<Command>): Promise<unknown>
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>
}

/** Resolves at once: the first answers come when the service is up. */
export function startServiceProcess(
  dataDir: string,
  limits: Partial<ServiceLimits> = {},
): ServiceProcess & { ready: Promise<unknown> } {
  const child = fork(join(import.meta.dirname, 'service-process.ts'), [dataDir, JSON.stringify(limits)], {
    execArgv: [],
    stdio: 'inherit',
  })
  const pending = new Map<number, PromiseWithResolvers<unknown>>()
  let nextId = 1
  const wait = (id: number) => {
    const deferred = Promise.withResolvers<unknown>()
    deferred.promise.catch(() => {})
    pending.set(id, deferred)
    return deferred.promise
  }
  const ready = wait(0)
  child.on('message', (message: { id: number; result?: unknown; error?: string }) => {
    const deferred = pending.get(message.id)
    pending.delete(message.id)
    if (message.error === undefined) deferred?.resolve(message.result)
    else deferred?.reject(new Error(message.error))
  })
  const gone = once(child, 'exit').then(() => {
    for (const deferred of pending.values()) deferred.reject(new Error('the server process is gone'))
    pending.clear()
  })
  return {
    pid: child.pid!,
    ready,
    ask(command) {
      if (!child.connected) return Promise.reject(new Error('the server process is gone'))
      const id = nextId++
      child.send({ id, ...command }, () => {})
      return wait(id)
    },
    async kill() {
      child.kill('SIGKILL')
      await gone
    },
  }
}

/** Processes of the list that still live (zombies do not count). */
export async function survivors(pids: readonly number[]): Promise<number[]> {
  const { readFile } = await import('node:fs/promises')
  const states = await Promise.all(
    pids.map(async (pid) => {
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
      return / [RSDT] /.test(stat.slice(stat.lastIndexOf(')') + 1, stat.lastIndexOf(')') + 4))
    }),
  )
  return pids.filter((_, index) => states[index])
}
