// The HTTP app over a fake service, with limits small enough to meet, and the response schemas at hand.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import type { Express } from 'express'
import supertest, { type Test } from 'supertest'
import { fixedRing, type KeyRing } from '../../src/access/key-ring.ts'
import { type Limits, loadConfig } from '../../src/config.ts'
import { createApp, listRoutes } from '../../src/http/app.ts'
import type { Route } from '../../src/http/route.ts'
import { UploadGate } from '../../src/http/upload-gate.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.ts'
import { assertDocumented } from './assert-documented.ts'
import { createFakeService, type FakeService } from './fake-service.ts'
import { tempFolder } from './temp-folder.ts'

export interface TestApp {
  app: Express
  routes: Route[]
  /** A supertest call whose answer is also held against the route's documentation. */
  call(method: 'get' | 'post' | 'put' | 'delete' | 'head' | 'patch' | 'options', path: string): Test
  service: FakeService
  metrics: Metrics
  /** Log lines written so far, parsed. */
  lines: Record<string, unknown>[]
}

export function httpApp(
  test: TestContext,
  limits: Partial<Limits> = {},
  environment: Record<string, string> = {},
  keys: KeyRing = fixedRing(null),
): TestApp {
  const config = loadConfig(environment)
  config.limits = { ...config.limits, ...limits }
  const service = createFakeService(tempFolder(test), config.limits)
  const metrics = createMetrics('0.0.0-test', false)
  const lines: Record<string, unknown>[] = []
  const log = createLog('debug', {
    write(line: string) {
      lines.push(JSON.parse(line) as Record<string, unknown>)
    },
  })
  const deps = { config, keys, service, metrics, log, gate: new UploadGate(config.limits, metrics) }
  const app = createApp(deps)
  const routes = listRoutes(deps)
  const call: TestApp['call'] = (method, path) =>
    supertest(app)
      [method](path)
      .expect((response) => assertDocumented(routes, method, path, response))
  return { app, routes, call, service, metrics, lines }
}

/** Listens on a free port until the test ends; resolves with the port. */
export async function listening(test: TestContext, app: Express): Promise<number> {
  const server = createServer(app)
  test.after(() => {
    server.closeAllConnections()
    server.close()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}
