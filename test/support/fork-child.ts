// Starts one of the children of src/jobs/protocol.ts as the product does, and speaks the protocol with it.

import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { ChildReply, ChildRequest } from '../../src/jobs/protocol.ts'

export interface ForkedChild {
  process: ChildProcess
  ready: Extract<ChildReply, { type: 'ready' }>
  send(request: ChildRequest): void
  /** Every reply about a request so far. */
  replies(id: number): ChildReply[]
  /** The final reply to a request. */
  answer(id: number): Promise<Extract<ChildReply, { type: 'done' | 'failed' }>>
  /** Closes the channel and resolves with the exit code. */
  leave(): Promise<number | null>
}

export async function forkChild(entry: 'worker' | 'inspect', args: string[] = []): Promise<ForkedChild> {
  const path = fileURLToPath(new URL(`../../src/jobs/${entry}.ts`, import.meta.url))
  const child = fork(path, args, { serialization: 'advanced', execArgv: [] })
  const received: ChildReply[] = []
  const waiting = new Set<() => void>()
  child.on('message', (reply: ChildReply) => {
    received.push(reply)
    for (const wake of [...waiting]) wake()
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))

  function find<T extends ChildReply>(matches: (reply: ChildReply) => reply is T): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = received.find(matches)
        if (found === undefined) return
        waiting.delete(look)
        resolve(found)
      }
      waiting.add(look)
      look()
      void exited.then((code) => reject(new Error(`the child ended with ${code}`)))
    })
  }

  const ready = await find((reply) => reply.type === 'ready')
  return {
    process: child,
    ready,
    send: (request) => void child.send(request),
    replies: (id) => received.filter((reply) => 'id' in reply && reply.id === id),
    answer: (id) =>
      find(
        (reply): reply is Extract<ChildReply, { type: 'done' | 'failed' }> =>
          (reply.type === 'done' || reply.type === 'failed') && reply.id === id,
      ),
    leave() {
      child.disconnect()
      return exited
    },
  }
}
