// A receiver of webhooks on 127.0.0.1 that answers as a test wants and keeps what it got. Entry: startReceiver.

import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Received {
  method: string
  url: string
  headers: IncomingHttpHeaders
  body: string
  atMs: number
}

export interface Receiver {
  url: string
  port: number
  received: Received[]
  /** Answers the request; default: 204. */
  answer: (response: ServerResponse, index: number) => void
  /** Resolves once so many requests came; fails the test after ten seconds. */
  reached(count: number): Promise<void>
}

export async function startReceiver(t: TestContext): Promise<Receiver> {
  const receiver: Receiver = {
    url: '',
    port: 0,
    received: [],
    answer: (response) => response.writeHead(204).end(),
    async reached(count) {
      const deadline = Date.now() + 10_000
      while (receiver.received.length < count) {
        if (Date.now() > deadline) throw new Error(`${receiver.received.length} of ${count} deliveries in 10 s`)
        await sleep(5)
      }
    },
  }
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (piece: string) => {
      body += piece
    })
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      receiver.received.push({ method, url, headers, body, atMs: Date.now() })
      receiver.answer(response, receiver.received.length - 1)
    })
  })
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  receiver.port = (server.address() as AddressInfo).port
  receiver.url = `http://127.0.0.1:${receiver.port}/hook?token=s3cret`
  return receiver
}
