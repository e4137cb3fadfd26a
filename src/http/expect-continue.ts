// `Expect: 100-continue` (RFC 9110, section 10.1.1): a client asks before it sends a body. server.ts marks such requests, and
// `allowBody` stands behind the check of the API key, so that whoever may not call never sends their body.

import type { IncomingMessage } from 'node:http'
import type { RequestHandler } from 'express'

const waiting = new WeakSet<IncomingMessage>()

/** Notes that the client waits for 100 Continue. */
export function expectContinue(request: IncomingMessage): void {
  waiting.add(request)
}

/** Tells a client that waits to send its body. */
export const allowBody: RequestHandler = (request, response, next) => {
  if (waiting.delete(request)) response.writeContinue()
  next()
}
