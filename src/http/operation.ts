// For whoever runs the server: /healthz (the process answers), /readyz (work can be done, and by what), /metrics.

import { z } from 'zod'
import { type Exposure, exposureOf } from '../config.ts'
import type { Health } from '../jobs/service.ts'
import { mayUse } from './access.ts'
import { bytes, component, deviceSchema } from './components.ts'
import type { HttpDeps } from './deps.ts'
import { type Route, sendJson } from './route.ts'

const healthSchema = component(
  'Alive',
  'The process answers.',
  z.object({ status: z.literal('ok'), version: z.string() }),
)

const check = z.object({ ok: z.boolean(), detail: z.string() })

const readinessSchema = component(
  'Readiness',
  'Whether jobs can be taken and done, and on which device.',
  z.object({
    status: z.enum(['ready', 'not_ready']),
    checks: z.object({ worker: check, store: check, disk: check, accepting: check }),
    device: deviceSchema.nullable(),
    referenceDevice: z
      .boolean()
      .meta({ description: 'true: kernels run on the scalar reference device, exact and slow.' }),
    queue: z.object({ queued: z.int(), running: z.int(), limit: z.int() }),
    store: z.object({ freeBytes: bytes, minFreeBytes: bytes }),
    workerRestarts: z.int(),
    access: z.enum(['keys', 'loopback', 'insecure']).meta({
      description:
        '`keys`: calls need an API key. `loopback`: none, only this machine reaches the server. `insecure`: none, and others can reach it.',
    }),
    version: z.string(),
  }),
)

const briefReadinessSchema = component(
  'ReadinessBrief',
  'What callers without a key that may read are shown where keys are required: enough for a probe.',
  z.strictObject({ status: z.enum(['ready', 'not_ready']) }),
)

const readinessContent = { 'application/json': { schema: z.union([readinessSchema, briefReadinessSchema]) } }

export function readinessBody(health: Health, access: Exposure, version: string): z.output<typeof readinessSchema> {
  const { worker, store, queue } = health
  const enough = store.freeBytes >= store.minFreeBytes
  const device = worker.device
  return {
    status: health.ready ? 'ready' : 'not_ready',
    checks: {
      worker: {
        ok: worker.up,
        detail: worker.up
          ? `The GPU worker is up on ${device?.adapter ?? 'an unnamed device'}.`
          : `The GPU worker is not up${worker.lastError ? `: ${worker.lastError}` : ' yet'}.`,
      },
      store: {
        ok: store.writable,
        detail: store.writable ? 'The data folder is writable.' : `The data folder is not writable: ${store.error}.`,
      },
      disk: {
        ok: enough,
        detail: `${store.freeBytes} bytes are free; the floor (diskFloorBytes) is ${store.minFreeBytes}.`,
      },
      accepting: {
        ok: !health.draining,
        detail: health.draining ? 'The server is draining and takes no new jobs.' : 'New jobs are taken.',
      },
    },
    device,
    referenceDevice: device?.kind === 'reference',
    queue: { queued: queue.queued, running: queue.running, limit: queue.limit },
    store: { freeBytes: store.freeBytes, minFreeBytes: store.minFreeBytes },
    workerRestarts: worker.restarts,
    access,
    version,
  }
}

export function operationRoutes(deps: HttpDeps, version: string): Route[] {
  const { service, metrics, config, keys } = deps
  return [
    {
      method: 'get',
      path: '/healthz',
      operationId: 'health',
      scope: 'open',
      probe: true,
      tag: 'Operation',
      summary: 'Is the process alive',
      responses: { 200: { description: 'Yes.', content: { 'application/json': { schema: healthSchema } } } },
      errors: [],
      handle(_request, response) {
        sendJson(response, 200, { status: 'ok', version })
      },
    },
    {
      method: 'get',
      path: '/readyz',
      operationId: 'readiness',
      scope: 'open',
      probe: true,
      tag: 'Operation',
      summary: 'Can work be done, and on which device',
      description:
        'Open to probes. Where keys are required, device, queue, store and reasons are shown with scope `read` or `metrics` only.',
      responses: {
        200: { description: 'Ready.', content: readinessContent },
        503: { description: 'Not ready; `checks` says why.', content: readinessContent },
      },
      errors: [],
      async handle(_request, response) {
        const health = await service.health()
        const whole = mayUse(response, 'read') || mayUse(response, 'metrics')
        const body = whole
          ? readinessBody(health, exposureOf(config, keys.required), version)
          : { status: health.ready ? 'ready' : 'not_ready' }
        sendJson(response, health.ready ? 200 : 503, body)
      },
    },
    {
      method: 'get',
      path: '/metrics',
      operationId: 'metrics',
      scope: 'metrics',
      probe: true,
      tag: 'Operation',
      summary: 'Prometheus metrics',
      description: 'docs/metrics.md lists every name.',
      responses: {
        200: {
          description: 'Text exposition format.',
          content: { 'text/plain': { schema: null, example: 'tensorpress_queue_depth 0\n' } },
        },
      },
      errors: [],
      async handle(_request, response) {
        setHealthGauges(deps, await service.health())
        response.set('Cache-Control', 'no-store').type(metrics.registry.contentType)
        response.send(await metrics.registry.metrics())
      },
    },
  ]
}

function setHealthGauges({ metrics, config, keys }: HttpDeps, health: Health): void {
  const { worker, store, queue } = health
  metrics.ready.set(health.ready ? 1 : 0)
  metrics.queueDepth.set(queue.queued)
  metrics.queueOldestSeconds.set(queue.oldestSeconds)
  metrics.jobsRunning.set(queue.running)
  metrics.workerUp.set(worker.up ? 1 : 0)
  if (worker.startSeconds !== null) metrics.workerStartSeconds.set(worker.startSeconds)
  metrics.storeFreeBytes.set(store.freeBytes)
  metrics.storeFloorBytes.set(store.minFreeBytes)
  const { modelBytes, datasetBytes, uploadBytes, artifactBytes, documentBytes } = store.usage
  metrics.storeBytes.set({ kind: 'model' }, modelBytes)
  metrics.storeBytes.set({ kind: 'dataset' }, datasetBytes)
  metrics.storeBytes.set({ kind: 'upload' }, uploadBytes)
  metrics.storeBytes.set({ kind: 'artifact' }, artifactBytes)
  metrics.storeBytes.set({ kind: 'document' }, documentBytes)
  metrics.storeQuotaBytes.set(store.quotaBytes ?? 0)
  metrics.webhooks.set({ state: 'pending' }, health.webhooks.pending)
  metrics.webhooks.set({ state: 'dead' }, health.webhooks.dead)
  metrics.draining.set(health.draining ? 1 : 0)
  metrics.insecure.set(exposureOf(config, keys.required) === 'insecure' ? 1 : 0)
  metrics.apiKeys.set(keys.count)
  metrics.apiKeysCurrent.set(keys.current ? 1 : 0)
  metrics.referenceDevice.set(worker.device?.kind === 'reference' ? 1 : 0)
  metrics.deviceInfo.reset()
  if (worker.device) {
    const { kind, adapter, driver } = worker.device
    metrics.deviceInfo.set({ kind, adapter, driver }, 1)
  }
  const resident = { gpu: 0, inspect: 0, inference: 0 }
  for (const child of health.children) resident[child.kind] += child.rssBytes
  for (const [child, rssBytes] of Object.entries(resident)) metrics.workerResidentMemoryBytes.set({ child }, rssBytes)
}
