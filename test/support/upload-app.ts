// The HTTP app over a real service (fake GPU worker, real inspect child), for tests of resumable uploads. Every answer is held
// against its documentation. Entry: uploadApp; `tusHeaders` and `metadataOf` say what a tus client sends.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Express } from 'express'
import supertest, { type Test } from 'supertest'
import { fixedRing, type KeyRing } from '../../src/access/key-ring.ts'
import { type Limits, loadConfig } from '../../src/config.ts'
import { createApp, listRoutes } from '../../src/http/app.ts'
import { UploadGate } from '../../src/http/upload-gate.ts'
import type { Service, ServiceHooks } from '../../src/jobs/service.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { assertDocumented } from './assert-documented.ts'
import { startService } from './start-service.ts'
import { tempFolder } from './temp-folder.ts'

type Method = 'get' | 'post' | 'head' | 'patch' | 'delete' | 'options' | 'put'

export interface UploadApp {
  app: Express
  service: Service
  dataDir: string
  call(method: Method, path: string): Test
  /** Creates an upload; resolves with its path. */
  create(sizeBytes: number, metadata: Record<string, string>): Promise<string>
  /** Sends bytes from an offset on. */
  send(path: string, offset: number, bytes: Uint8Array): Test
  /** Files of resumable uploads that lie in the data folder. */
  stored(): string[]
}

export interface UploadAppOptions {
  dataDir?: string
  limits?: Partial<Limits>
  inspectEntry?: string
  hooks?: ServiceHooks
  keys?: KeyRing
}

export async function uploadApp(test: TestContext, options: UploadAppOptions = {}): Promise<UploadApp> {
  const dataDir = options.dataDir ?? tempFolder(test)
  const config = loadConfig({})
  config.limits = { ...config.limits, diskFloorBytes: 0, ...options.limits }
  const { limits } = config
  const service = await startService(test, {
    dataDir,
    limits: {
      maxUploadBytes: limits.uploadBytes,
      maxDatasetBytes: limits.datasetBytes,
      maxModelFiles: limits.uploadParts,
      maxOpenUploads: limits.openUploads,
      maxOpenUploadsPerKey: limits.openUploadsPerKey,
      uploadExpiryMs: limits.uploadExpirySeconds * 1000,
      minFreeBytes: limits.diskFloorBytes,
    },
    ...(options.hooks === undefined ? {} : { hooks: options.hooks }),
    ...(options.inspectEntry === undefined ? {} : { internals: { inspectEntry: options.inspectEntry } }),
  })
  const metrics = createMetrics('0.0.0-test', false)
  const log = createLog('silent')
  const deps = {
    config,
    keys: options.keys ?? fixedRing(null),
    service,
    metrics,
    log,
    gate: new UploadGate(limits, metrics),
  }
  const app = createApp(deps)
  const routes = listRoutes(deps)
  const call: UploadApp['call'] = (method, path) =>
    supertest(app)
      [method](path)
      .set('Tus-Resumable', '1.0.0')
      .expect((response) => assertDocumented(routes, method, path, response))
  return {
    app,
    service,
    dataDir,
    call,
    async create(sizeBytes, metadata) {
      const response = await call('post', '/v1/uploads')
        .set('Upload-Length', String(sizeBytes))
        .set('Upload-Metadata', metadataOf(metadata))
        .expect(201)
      return response.headers['location']!
    },
    send: (path, offset, bytes) =>
      call('patch', path)
        .set('Upload-Offset', String(offset))
        .set('Content-Type', 'application/offset+octet-stream')
        .send(Buffer.from(bytes)),
    stored: () => readdirSync(join(dataDir, 'uploads')),
  }
}

/** The value of Upload-Metadata. */
export function metadataOf(metadata: Record<string, string>): string {
  return Object.entries(metadata)
    .map(([key, value]) => `${key} ${Buffer.from(value).toString('base64')}`)
    .join(',')
}
