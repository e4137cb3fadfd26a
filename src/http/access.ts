// Who is calling and whether they may. `identifyCaller` reads the Authorization header (Bearer, or Basic with the key as the
// password) before anything of a body is read; `requireScope` stands in front of each route and answers 401 or 403. A server
// without keys takes everybody for an admin: main.ts lets it listen on loopback only.

import type { Request, RequestHandler, Response } from 'express'
import { type ApiKey, allows, type Scope } from '../access/api-key.ts'
import type { KeyRing } from '../access/key-ring.ts'
import { AppError } from '../errors.ts'
import type { Route } from './route.ts'

export interface Caller {
  /** Name of the API key; null: this server has no keys. */
  name: string | null
  scopes: ApiKey['scopes']
}

const EVERYONE: Caller = { name: null, scopes: new Set<Scope>(['admin']) }

/** null: no key, or not one of ours. */
export function callerOf(response: Response): Caller | null {
  return (response.locals['caller'] as Caller | undefined) ?? null
}

/** Whether this caller may see what only `scope` is shown. */
export function mayUse(response: Response, scope: Scope): boolean {
  const caller = callerOf(response)
  return caller !== null && allows(caller, scope)
}

export function identifyCaller(keys: KeyRing): RequestHandler {
  return (request, response, next) => {
    if (!keys.required) {
      response.locals['caller'] = EVERYONE
      return next()
    }
    const secret = sentSecret(request)
    const key = secret === null ? null : keys.identify(secret)
    if (key !== null) response.locals['caller'] = { name: key.name, scopes: key.scopes } satisfies Caller
    next()
  }
}

/** Throws unauthorized and forbidden, naming the scope. Nothing that was sent is repeated. */
export function requireScope(scope: Route['scope']): RequestHandler {
  return (request, response, next) => {
    if (scope === 'open') return next()
    const caller = callerOf(response)
    if (caller === null) {
      throw new AppError(
        'unauthorized',
        `${whatWasSent(request)} This call needs a key with scope "${scope}". ${HOW}`,
        {
          scope,
        },
      )
    }
    if (!allows(caller, scope)) {
      const has = [...caller.scopes].sort()
      throw new AppError(
        'forbidden',
        `API key "${caller.name}" has the scopes ${has.join(', ')}; this call needs "${scope}". Use another key, or have the operator add the scope.`,
        { scope, key: caller.name, has },
      )
    }
    next()
  }
}

const HOW = 'Send it as "Authorization: Bearer KEY", or as the password of HTTP Basic.'

function whatWasSent(request: Request): string {
  if (request.headers.authorization === undefined) return 'No API key was sent.'
  return sentSecret(request) === null
    ? 'The Authorization header is neither Bearer nor Basic.'
    : 'The API key is not one of this server.'
}

/** null: no Authorization header, or one of another kind. Schemes are written in any case (RFC 9110). */
function sentSecret(request: Request): string | null {
  const header = request.headers.authorization ?? ''
  const bearer = /^bearer +(\S+)$/i.exec(header)?.[1]
  if (bearer !== undefined) return bearer
  const basic = /^basic +([\w+/-]+={0,2})$/i.exec(header)?.[1]
  if (basic === undefined) return null
  const pair = Buffer.from(basic, 'base64').toString('utf8')
  const colon = pair.indexOf(':')
  return colon === -1 ? null : pair.slice(colon + 1)
}
