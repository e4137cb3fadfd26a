// The listening server around the app: header limits and time-outs, problem documents for what Node's parser refuses, and an
// end that neither cuts answers off nor waits for idle connections. Entries: listen, closeServer.

import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { limitConnections } from './connection-limit.ts'
import { expectContinue } from './expect-continue.ts'
import { rawProblem } from './problem-json.ts'
import { newRequestId } from './request-context.ts'

/** How often Node looks for requests whose header lines take too long. */
const CHECK_INTERVAL_MS = 1000
/** Idle time of a kept-alive connection: longer than the polling interval of clients that wait for a job. */
const KEEP_ALIVE_MS = 10_000
/** Silence on the wire after which the kernel asks whether the other side is still there. */
const VANISHED_AFTER_MS = 30_000
/** Connections that the kernel completes while this thread is busy; it lowers this to net.core.somaxconn. */
const BACKLOG = 4096
/** What answers in progress get at the end before their connections are cut. */
const CLOSE_GRACE_MS = 3000

/** Resolves when it listens. Throws `usage` when the address cannot be had. */
export async function listen(
  app: RequestListener,
  config: Config,
  metrics: Metrics | null = null,
  vanishedAfterMs = VANISHED_AFTER_MS,
): Promise<{ server: Server; url: string }> {
  const { limits } = config
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headerSeconds * 1000,
      // A whole upload may take hours; slowBodyGuard judges its rate instead.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
      // Ends connections whose client vanished without a word while a call waits: probes every second, ten of them.
      keepAlive: true,
      keepAliveInitialDelay: vanishedAfterMs,
      // The app refuses such a request itself, with a problem document.
      requireHostHeader: false,
    },
    app,
  )
  limitConnections(server, limits.connections, metrics)
  // A client that asks before it sends (curl does, from 1 MB on) hears at once when its body would be refused for its size; the
  // app tells others to go on when it knows that they may (expect-continue.ts).
  server.on('checkContinue', (request, response) => {
    if (!(Number(request.headers['content-length']) > limits.uploadBytes)) expectContinue(request)
    app(request, response)
  })
  // RFC 9110 leaves it to the server whether it minds an expectation that it does not know; Node's own 417 has no body.
  server.on('checkExpectation', app)
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable) socket.destroy()
    else socket.end(rawProblem(error.code, limits, newRequestId()))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(explain(error, config)))
    server.listen({ port: config.port, host: config.host, backlog: BACKLOG }, resolve)
  })
  const { address, family, port } = server.address() as AddressInfo
  const host = family === 'IPv6' ? `[${address}]` : address
  return { server, url: `http://${host}:${port}` }
}

function explain(error: NodeJS.ErrnoException, { host, port }: Config): AppError {
  const context = { host, port }
  switch (error.code) {
    case 'EADDRINUSE':
      return new AppError(
        'usage',
        `port ${port} on ${host} is in use by another program; choose another with --port (0: any free one)`,
        context,
        error,
      )
    case 'EACCES':
      return new AppError('usage', `port ${port} needs more rights than this process has; use one above 1023`, context)
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new AppError('usage', `${host} is not an address of this machine; --host takes one, or 0.0.0.0`, context)
    default:
      return new AppError('usage', `cannot listen on ${host}:${port}: ${error.message}`, context, error)
  }
}

/** No new connections; answers in progress get a moment; then every connection ends. */
export async function closeServer(server: Server, graceMs = CLOSE_GRACE_MS): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const cut = setTimeout(() => server.closeAllConnections(), graceMs)
  // A connection that becomes idle now would be kept for the next request.
  const sweep = setInterval(() => server.closeIdleConnections(), 100)
  await closed
  clearTimeout(cut)
  clearInterval(sweep)
}
