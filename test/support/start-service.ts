// A service for tests: data folder of its own, the fake GPU worker, the real inspect child, and a judge that finds nothing
// to say. Entry: startService. `tinyModel` and `uploadModel` give it something to work on.

import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { TestContext } from 'node:test'
import { jobBody } from '../../src/http/jobs.ts'
import { createService, type ServiceInternals } from '../../src/jobs/create-service.ts'
import type {
  JobView,
  ModelView,
  Service,
  ServiceHooks,
  ServiceLimits,
  ServiceLog,
  ServiceOptions,
} from '../../src/jobs/service.ts'
import type { ReadBackValidation } from '../../src/validate/validation.ts'
import { buildSafetensors, f32Bytes } from './build-safetensors.ts'

export const FAKE_WORKER = join(import.meta.dirname, 'fake-worker.ts')

export interface StartOptions {
  dataDir: string
  device?: string
  limits?: Partial<ServiceLimits>
  hooks?: ServiceHooks
  log?: ServiceLog
  internals?: ServiceInternals
  retention?: ServiceOptions['retention']
  webhooks?: ServiceOptions['webhooks']
}

/** Every figure says that nothing changed. */
export const NOTHING_CHANGED: ReadBackValidation = {
  kind: 'read-back',
  tensors: [],
  identicalTensors: 0,
  identicalBytes: 0,
  changedTensors: 1,
  sqnrDb: 40,
  cosine: 0.999,
  mse: 0.001,
  worst: null,
  environment: {
    onnxruntime: null,
    node: process.versions.node,
    platform: process.platform,
    arch: process.arch,
    cpu: '',
    cpuCount: 1,
    memoryBytes: 0,
    variables: {},
  },
  seconds: { total: 0 },
  warnings: [],
}

/** A log that keeps its lines, with their level, in `lines`. */
export function keptLog(): { log: ServiceLog; lines: { level: string; message: string; fields: object }[] } {
  const lines: { level: string; message: string; fields: object }[] = []
  const at = (level: string) => (fields: object, message: string) => void lines.push({ level, message, fields })
  return { log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }, lines }
}

/** The service is closed when the test ends; close it earlier to start another one on the same folder. */
export async function startService(test: TestContext, options: StartOptions): Promise<Service> {
  const service = await createService(
    {
      dataDir: options.dataDir,
      device: options.device ?? 'reference',
      limits: { minFreeBytes: 0, drainGraceMs: 0, ...options.limits },
      ...(options.log === undefined ? {} : { log: options.log }),
      ...(options.hooks === undefined ? {} : { hooks: options.hooks }),
      ...(options.retention === undefined ? {} : { retention: options.retention }),
      ...(options.webhooks === undefined ? {} : { webhooks: options.webhooks }),
    },
    { workerEntry: FAKE_WORKER, validate: async () => NOTHING_CHANGED, ...options.internals },
  )
  test.after(() => service.close())
  return service
}

/** A safetensors file with one matrix; another `seed` gives another file. */
export function tinyModel(seed = 1, elements = 256): Uint8Array {
  const values = Array.from({ length: elements }, (_, i) => Math.sin(i * seed))
  return buildSafetensors([{ name: 'w', dtype: 'F32', shape: [16, elements / 16], data: f32Bytes(values) }])
}

export async function uploadModel(
  service: Service,
  bytes = tinyModel(),
  name = 'tiny.safetensors',
): Promise<ModelView> {
  const upload = service.models.beginUpload()
  await upload.addFile(name, Readable.from([Buffer.from(bytes)]), bytes.byteLength)
  return (await upload.commit()).view
}

/** A recipe that only the fake worker reads: `name` says what it does. */
export function fakeRecipe(name: string): object {
  return { name, steps: [{ preset: 'int8' }] }
}

/** To receivers on this machine, with short pauses. */
export const LOCAL_WEBHOOKS: NonNullable<ServiceOptions['webhooks']> = {
  secret: 'whsec-of-the-server-0',
  allow: ['127.0.0.1'],
  settings: { attempts: 50, timeoutMs: 2000, parallel: 4, firstPauseMs: 20, longestPauseMs: 50 },
  render: jobBody,
}

/** Waits for the end; fails the test after ten seconds. */
export async function ended(service: Service, id: string): Promise<JobView> {
  const job = await service.jobs.wait(id, 10_000)
  if (job.finishedAt === null) throw new Error(`job ${id} is still ${job.state} after 10 s`)
  return job
}
