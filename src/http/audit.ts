// One log line for each change that somebody asked for, and for each attempt that was refused: who, what, on what, how it ended.
// Entry: audit. They hold names, ids and addresses;
// never a key, a header, a query or anything of a model.

import type { RequestHandler } from 'express'
import { auditLog, type Log } from '../telemetry/log.ts'
import { callerOf } from './access.ts'
import { requestIdOf, routeOf } from './request-context.ts'
import { changesSomething } from './route.ts'

/** Longer paths are nobody's id. */
const MAX_TARGET_CHARACTERS = 300

export function audit(log: Log): RequestHandler {
  const lines = auditLog(log)
  return (request, response, next) => {
    // A connection that is gone has no address any more.
    const client = request.socket.remoteAddress ?? null
    response.once('close', () => {
      const route = routeOf(response)
      const status = response.writableFinished ? response.statusCode : 499
      const refused = status === 401 || status === 403
      if (!refused && (route === null || !changesSomething(route))) return
      // What was made is named by Location, what was asked for by the path.
      const target = response.get('location') ?? request.originalUrl.split('?', 1)[0]!
      lines.info(
        {
          who: callerOf(response)?.name ?? null,
          action: route?.operationId ?? null,
          target: target.slice(0, MAX_TARGET_CHARACTERS),
          outcome: refused ? 'refused' : status === 499 ? 'abandoned' : status < 400 ? 'done' : 'failed',
          status,
          code: response.locals['errorCode'] ?? null,
          request_id: requestIdOf(response),
          client,
        },
        'audit',
      )
    })
    next()
  }
}
