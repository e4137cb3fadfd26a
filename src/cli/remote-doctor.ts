// tensorpress doctor --server: whether a server can work, on which device, and what is wrong. Entry: examineServer.

import type { Readiness } from '../client/index.ts'
import { VERSION } from '../version.ts'
import type { CommandLine } from './command.ts'
import { connect, remotely } from './remote-server.ts'
import { bytesText, deviceText, printable } from './text-table.ts'

/** Resolves with 0 when the server is ready, else 1. */
export async function examineServer(args: CommandLine, server: string, signal: AbortSignal): Promise<number> {
  const client = await connect(server, args)
  const found = await remotely(() => client.readiness({ signal }))
  const lines = 'checks' in found ? detailLines(server, found) : briefLines(server, found.status)
  const text = args.given('json') ? JSON.stringify({ server, clientVersion: VERSION, ...found }) : lines.join('\n')
  process.stdout.write(`${text}\n`)
  return found.status === 'ready' ? 0 : 1
}

function detailLines(server: string, { status, checks, device, queue, store, version, ...found }: Readiness): string[] {
  const rows: [string, string][] = [
    ['server', server],
    ['version', version === VERSION ? version : `${version} (this command line is ${VERSION})`],
    ['status', status === 'ready' ? 'ready' : 'not ready'],
    ['device', device === null ? 'none' : deviceText(device.adapter, device.driver)],
    ['queue', `${queue.queued} waiting, ${queue.running} running, at most ${queue.limit} may wait`],
    ['disk', `${bytesText(store.freeBytes)} free, of which ${bytesText(store.minFreeBytes)} stay free`],
    ...(found.workerRestarts > 0
      ? [['restarts', `${found.workerRestarts} of the GPU worker`] as [string, string]]
      : []),
    ...Object.values(checks).flatMap(({ ok, detail }) => (ok ? [] : [['advice', detail] as [string, string]])),
    ...(found.referenceDevice
      ? [['advice', 'Jobs run on the reference device: the same results, much slower.'] as [string, string]]
      : []),
  ]
  return rows.map(([name, text]) => `${name.padEnd(9)} ${printable(text)}`)
}

/** What a server with keys tells who has none. */
function briefLines(server: string, status: string): string[] {
  return [
    `${'server'.padEnd(9)} ${printable(server)}`,
    `${'status'.padEnd(9)} ${status === 'ready' ? 'ready' : 'not ready'}`,
    `${'advice'.padEnd(9)} The server tells more to a key with scope "read" or "metrics": TENSORPRESS_API_KEY, --api-key-file.`,
  ]
}
