// Headers that every answer carries, the Content-Security-Policy of each kind of page, and the guard against other sites:
// a server without keys on loopback must not be driven by whatever page the user has open (cross-site forms, DNS rebinding).

import type { RequestHandler } from 'express'
import { type Config, isLoopback } from '../config.ts'
import { AppError } from '../errors.ts'

/** JSON, problems and downloads: nothing may be loaded or run, wherever they are shown. */
const API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"
/** The front page: an inline style sheet and nothing else. */
export const PLAIN_PAGE_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
/** The report page: drawn without scripts. */
export const REPORT_PAGE_POLICY = `${PLAIN_PAGE_POLICY}; sandbox allow-popups`
/** The documentation: our script and Swagger UI's, which sets style attributes and asks this server only. */
export const DOCS_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; font-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

/** On every answer. Access-Control-* is on none: pages of other sites have no business here. */
export const SECURITY_HEADERS = {
  'Content-Security-Policy': API_POLICY,
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
} as const

export function securityHeaders(): RequestHandler {
  return (_request, response, next) => {
    response.set(SECURITY_HEADERS)
    next()
  }
}

/**
 * Refuses what a page of another site sends: browsers name the page's Origin on every cross-site write. Bound to loopback,
 * also refuses Host names that are not this machine's, which is how a rebound DNS name shows.
 */
export function originGuard({ host, allowedHosts }: Pick<Config, 'host' | 'allowedHosts'>): RequestHandler {
  const local = isLoopback(host)
  return (request, _response, next) => {
    const sent = request.get('host')
    if (sent === undefined && request.httpVersion === '1.1') {
      throw new AppError('request_invalid', 'The request has no Host header, which HTTP/1.1 asks for.', {
        path: 'header.host',
      })
    }
    const hostHeader = (sent ?? '').toLowerCase()
    const name = hostName(hostHeader)
    if (local && hostHeader !== '' && !isLoopback(name) && !allowedHosts.includes(name)) {
      throw new AppError(
        'origin_forbidden',
        `Host ${hostHeader} is not this server, which listens on ${host} only. If a proxy in front forwards that name, set TENSORPRESS_ALLOWED_HOSTS=${name}.`,
        { found: hostHeader, allowed: ['localhost', '127.0.0.1', '[::1]', ...allowedHosts] },
      )
    }
    const origin = request.get('origin')
    const reads = request.method === 'GET' || request.method === 'HEAD' || request.method === 'OPTIONS'
    if (origin !== undefined && !reads) {
      const originHost = URL.parse(origin)?.host ?? ''
      if (originHost !== hostHeader && !allowedHosts.includes(hostName(originHost))) {
        throw new AppError('origin_forbidden', `A page of ${origin} may not write here.`, {
          found: origin,
          allowed: [hostHeader, ...allowedHosts],
        })
      }
    }
    next()
  }
}

/** Without port, and without the brackets of an IPv6 address. */
function hostName(hostHeader: string): string {
  return hostHeader.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
}
