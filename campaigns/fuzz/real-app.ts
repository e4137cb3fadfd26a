// The real HTTP server inside of the fuzzing process: the Express app on a port, the real store on a folder of its own, the
// real inspect child that looks at what arrives, and the fake GPU worker of the tests. Entry: startRealApp.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fixedRing } from '../../src/access/key-ring.ts'
import { loadConfig } from '../../src/config.ts'
import { createApp } from '../../src/http/app.ts'
import { closeServer, listen } from '../../src/http/server.ts'
import { UploadGate } from '../../src/http/upload-gate.ts'
import { createService } from '../../src/jobs/create-service.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { FAKE_WORKER, NOTHING_CHANGED } from '../../test/support/start-service.ts'

export interface RealApp {
  port: number
  /** Removes models and datasets, so that the store stays small over a hundred thousand cases. */
  sweep(): Promise<void>
  /** Folders of uploads that are neither published nor removed. */
  leftovers(): string[]
  close(): Promise<void>
}

/** Small, so that cases meet them. */
const LIMITS = { uploadBytes: 64 * 1024, uploadParts: 6, jsonBytes: 4096, headerBytes: 16 * 1024 }

export async function startRealApp(): Promise<RealApp> {
  const folder = mkdtempSync(join(tmpdir(), 'app-'))
  const config = loadConfig({}, { port: 0, dataDir: join(folder, 'data') })
  config.limits = { ...config.limits, ...LIMITS, diskFloorBytes: 0 }
  const log = createLog('silent')
  const service = await createService(
    {
      dataDir: config.dataDir,
      device: 'reference',
      limits: {
        maxUploadBytes: LIMITS.uploadBytes,
        maxDatasetBytes: LIMITS.uploadBytes,
        maxModelFiles: LIMITS.uploadParts,
        minFreeBytes: 0,
        drainGraceMs: 0,
      },
    },
    { workerEntry: FAKE_WORKER, validate: async () => NOTHING_CHANGED },
  )
  const metrics = createMetrics('0.0.0-fuzz', false)
  const keys = fixedRing(null)
  const app = createApp({ config, keys, service, metrics, log, gate: new UploadGate(config.limits, metrics) })
  const { server, url } = await listen(app, config)
  return {
    port: Number(new URL(url).port),
    async sweep() {
      const page = { limit: 100, cursor: null }
      // What a queued job still uses stays until the next sweep.
      for (const { id } of (await service.models.list(page)).items) await service.models.delete(id).catch(() => {})
      for (const { id } of (await service.datasets.list(page)).items) await service.datasets.delete(id).catch(() => {})
    },
    leftovers: () => readdirSync(join(config.dataDir, 'temporary')).filter((name) => name.startsWith('upload')),
    async close() {
      await closeServer(server, 0)
      await service.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
