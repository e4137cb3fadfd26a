// What every request gets: an id (the client's X-Request-Id when it is a plain one), a log line with its duration when it
// ends, and its place in the HTTP metrics under the route's template.

import { randomUUID } from 'node:crypto'
import type { RequestHandler, Response } from 'express'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Route } from './route.ts'

/** Client ids end up in logs: only characters that cannot break a line or a JSON reader, and few of them. */
const PLAIN_ID = /^[\w.:-]{1,100}$/

const MAX_LISTENERS = 32

export function newRequestId(): string {
  return randomUUID()
}

export function requestIdOf(response: Response): string {
  return String(response.locals['requestId'] ?? '')
}

/** The route that took the request: its template is a bounded label for metrics. */
export function setRoute(response: Response, route: Route): void {
  response.locals['route'] = route
}

export function routeOf(response: Response): Route | null {
  return (response.locals['route'] as Route | undefined) ?? null
}

export function requestContext(log: Log, metrics: Metrics): RequestHandler {
  return (request, response, next) => {
    const sent = request.get('x-request-id')
    const requestId = sent && PLAIN_ID.test(sent) ? sent : newRequestId()
    response.locals['requestId'] = requestId
    response.set('X-Request-Id', requestId)
    const startedAt = performance.now()
    // Log, audit, gates, guards and the handler each wait for the end of the response; Node warns from the eleventh on.
    response.setMaxListeners(MAX_LISTENERS)
    response.once('close', () => {
      const seconds = (performance.now() - startedAt) / 1000
      const route = routeOf(response)?.path ?? 'none'
      const status = response.writableFinished ? response.statusCode : 499
      metrics.httpRequestDurationSeconds.observe({ method: request.method, route, status: String(status) }, seconds)
      const line = {
        request_id: requestId,
        method: request.method,
        path: request.originalUrl.split('?', 1)[0],
        status,
        duration_s: Math.round(seconds * 1e6) / 1e6,
        ...(response.locals['jobId'] ? { job_id: response.locals['jobId'] } : {}),
        ...(response.locals['errorCode'] ? { code: response.locals['errorCode'] } : {}),
      }
      // Probes come every few seconds and say nothing new.
      if (route === '/healthz' || route === '/readyz' || route === '/metrics') log.debug(line, 'request')
      else log.info(line, 'request')
    })
    next()
  }
}
