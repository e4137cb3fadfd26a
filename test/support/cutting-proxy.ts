// A TCP proxy between client and server that cuts connections: each of the first connections after so many bytes in either
// direction, later ones not. It goes on while the server behind it is killed and started on another port. Entry: cuttingProxy.

import type { AddressInfo } from 'node:net'
import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

export interface CuttingProxy {
  url: string
  /** Connections cut so far. */
  cuts(): number
  /** Where new connections go. */
  setTarget(url: string): void
  /** Cuts every open connection. */
  cutAll(): void
}

/**
 * @param cutAfterBytes one entry for each of the first connections that carry that much
 * @param bytesPerSecond of each connection, in each direction
 */
export async function cuttingProxy(
  t: TestContext,
  target: string,
  cutAfterBytes: number[] = [],
  bytesPerSecond = Number.POSITIVE_INFINITY,
): Promise<CuttingProxy> {
  const limits = [...cutAfterBytes]
  const open = new Set<Socket>()
  let port = Number(new URL(target).port)
  let cuts = 0
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1')
    let carried = 0
    const end = () => {
      client.destroy()
      upstream.destroy()
    }
    const count = (bytes: number) => {
      carried += bytes
      if (limits.length === 0 || carried < limits[0]!) return
      limits.shift()
      cuts++
      end()
    }
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(from)
      from.on('data', (chunk) => {
        from.pause()
        to.write(chunk, () => setTimeout(() => from.resume(), (chunk.length / bytesPerSecond) * 1000))
        count(chunk.length)
      })
      from.on('error', end)
      from.on('close', () => {
        open.delete(from)
        end()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cutAll = () => {
    for (const socket of open) socket.destroy()
  }
  t.after(() => {
    cutAll()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cuts: () => cuts,
    setTarget(url) {
      port = Number(new URL(url).port)
    },
    cutAll,
  }
}
