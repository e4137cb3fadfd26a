// Keeps room for new connections: at the limit the connection that has been without a request for longest makes way. Entry:
// limitConnections. Refusing new connections instead (`server.maxConnections` alone) would let whoever holds enough idle ones keep
// probes and Prometheus out; a request in work is never cut, and request-gate.ts bounds how many of those there are.

import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Metrics } from '../telemetry/metrics.ts'

/** Connections that arrive in one turn of the event loop are seen before those that made way for them are gone. */
const BURST = 256

export function limitConnections(server: Server, most: number, metrics: Metrics | null): void {
  /** Requests in work by connection. */
  const inWork = new Map<Socket, number>()
  /** Connections without one, the longest idle first. */
  const idle = new Set<Socket>()
  let open = 0
  server.maxConnections = most + BURST
  server.on('drop', () => metrics?.connectionsCutTotal.inc({ cause: 'refused' }))

  server.on('connection', (socket: Socket) => {
    open++
    idle.add(socket)
    metrics?.connectionsOpen.set(open)
    socket.once('close', () => {
      open--
      idle.delete(socket)
      inWork.delete(socket)
      metrics?.connectionsOpen.set(open)
    })
    if (open > most) makeRoom()
  })

  function makeRoom(): void {
    const [oldest] = idle
    if (oldest === undefined) return
    idle.delete(oldest)
    oldest.destroy()
    metrics?.connectionsCutTotal.inc({ cause: 'idle' })
  }

  function onRequest({ socket }: IncomingMessage, response: ServerResponse): void {
    idle.delete(socket)
    inWork.set(socket, (inWork.get(socket) ?? 0) + 1)
    response.once('close', () => {
      const left = (inWork.get(socket) ?? 1) - 1
      if (left > 0) {
        inWork.set(socket, left)
        return
      }
      inWork.delete(socket)
      if (!socket.destroyed) idle.add(socket)
    })
  }
  server.on('request', onRequest)
  server.on('checkContinue', onRequest)
}
