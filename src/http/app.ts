// The Express app: middleware in order, every route from the lists, then 405, 404 and the problem documents. Entries:
// createApp (for the server and for supertest) and listRoutes (also for the OpenAPI generator).

import express, { type Express, type RequestHandler } from 'express'
import { AppError } from '../errors.ts'
import { VERSION } from '../version.ts'
import { identifyCaller, requireScope } from './access.ts'
import { artifactRoutes } from './artifacts.ts'
import { audit } from './audit.ts'
import { compressRoutes } from './compress.ts'
import { datasetRoutes } from './datasets.ts'
import type { HttpDeps } from './deps.ts'
import { allowBody } from './expect-continue.ts'
import { jobEventRoutes } from './job-events.ts'
import { jobRoutes } from './jobs.ts'
import { modelRoutes } from './models.ts'
import { operationRoutes } from './operation.ts'
import { pageRoutes } from './pages.ts'
import { planRoutes } from './plans.ts'
import { problemHandler, sendProblem } from './problem-json.ts'
import { reportRoutes } from './reports.ts'
import { requestContext, routeOf, setRoute } from './request-context.ts'
import { RequestGate } from './request-gate.ts'
import { expressPath, type Route } from './route.ts'
import { originGuard, securityHeaders } from './security-headers.ts'
import { slowBodyGuard, slowReaderGuard } from './slow-clients.ts'
import { uploadRoutes } from './uploads.ts'

export function listRoutes(deps: HttpDeps): Route[] {
  const routes: Route[] = []
  routes.push(
    ...compressRoutes(deps),
    ...modelRoutes(deps),
    ...datasetRoutes(deps),
    ...uploadRoutes(deps),
    ...planRoutes(deps),
    ...jobRoutes(deps),
    ...jobEventRoutes(deps),
    ...reportRoutes(deps),
    ...artifactRoutes(deps),
    ...operationRoutes(deps, VERSION),
    ...pageRoutes(deps, VERSION, () => routes),
  )
  return routes
}

export function createApp(deps: HttpDeps): Express {
  const { config, log, metrics } = deps
  const { limits } = config
  const app = express()
  app.disable('x-powered-by')
  // ETags are the content's SHA-256 where there is one; others would cost a hash of every answer.
  app.disable('etag')
  app.set('query parser', 'simple')
  app.set('case sensitive routing', true)

  app.use(requestContext(log, metrics))
  app.use(audit(log))
  app.use(securityHeaders())
  app.use(originGuard(config))
  app.use(identifyCaller(deps.keys))
  app.use(
    slowBodyGuard(limits, (response) => {
      metrics.slowClientsTotal.inc({ phase: 'body' })
      const allowed = limits.uploadBytesPerSecond
      const detail = `The body arrives slower than limit uploadBytesPerSecond (${allowed}) allows.`
      sendProblem(response, new AppError('request_timeout', detail, { limit: 'uploadBytesPerSecond', allowed }))
    }),
  )

  app.use(slowReaderGuard(limits, () => metrics.slowClientsTotal.inc({ phase: 'answer' })))

  const routes = listRoutes(deps)
  const requests = new RequestGate(limits, metrics, deps.keys.required)
  const parseJson = express.json({ limit: limits.jsonBytes, strict: true })
  for (const route of routes) {
    const takesJson = route.body !== undefined && 'application/json' in route.body.content
    app[route.method](
      expressPath(route),
      (_request, response, next) => {
        setRoute(response, route)
        next()
      },
      // Before any body is read, and before a client that asked whether to send one is told to.
      requireScope(route.scope),
      ...(route.probe ? [] : [requests.admit]),
      allowBody,
      ...(takesJson ? [requireJson, parseJson] : []),
      // Express awaits the promise and hands a rejection to the problem handler.
      (request, response) => route.handle(request, response),
    )
  }
  for (const [path, methods] of methodsByPath(routes)) app.all(path, otherMethod(methods))
  app.use((request) => {
    throw new AppError('not_found', `There is no ${request.path}; /docs lists every path.`)
  })
  app.use(
    problemHandler(limits, (error, cause, response) => {
      log.error(
        { err: cause, request_id: response.locals['requestId'], route: routeOf(response)?.path, code: error.code },
        'request failed',
      )
    }),
  )
  return app
}

const requireJson: RequestHandler = (request, _response, next) => {
  if (!request.is('application/json')) {
    throw new AppError(
      'content_type_unsupported',
      `This call takes application/json, not ${request.get('content-type') ?? 'a body without Content-Type'}.`,
      { allowed: ['application/json'] },
    )
  }
  next()
}

function methodsByPath(routes: readonly Route[]): Map<string, string[]> {
  const byPath = new Map<string, string[]>()
  for (const route of routes) {
    const path = expressPath(route)
    const methods = route.method === 'get' ? ['GET', 'HEAD'] : [route.method.toUpperCase()]
    byPath.set(path, [...new Set([...(byPath.get(path) ?? []), ...methods])])
  }
  return byPath
}

function otherMethod(allowed: string[]): RequestHandler {
  return (request, response) => {
    if (request.method === 'OPTIONS') {
      response
        .set('Allow', [...allowed, 'OPTIONS'].join(', '))
        .status(204)
        .end()
      return
    }
    throw new AppError(
      'method_not_allowed',
      `${request.path} does not take ${request.method}; it takes ${allowed.join(', ')}.`,
      { allowed, found: request.method },
    )
  }
}
