// What the route files need, made once in main.ts (or a test) and handed down.

import type { KeyRing } from '../access/key-ring.ts'
import type { Config } from '../config.ts'
import type { Service } from '../jobs/service.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { UploadGate } from './upload-gate.ts'

export interface HttpDeps {
  config: Config
  keys: KeyRing
  service: Service
  metrics: Metrics
  log: Log
  gate: UploadGate
}
