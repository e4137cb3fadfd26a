// For whoever runs the server: /healthz (the process answers), /readyz (work can be done, and by what), /metrics.

import { z } from 'zod'
import type { Health } from '../jobs/service.ts'
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
    version: z.string(),
  }),
)

/** Also sets the gauges that are read rather than counted. */
export function readinessBody(health: Health, version: string): z.output<typeof readinessSchema> {
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
    queue,
    store: { freeBytes: store.freeBytes, minFreeBytes: store.minFreeBytes },
    workerRestarts: worker.restarts,
    version,
  }
}

export function operationRoutes(deps: HttpDeps, version: string): Route[] {
  const { service, metrics } = deps
  return [
    {
      method: 'get',
      path: '/healthz',
      operationId: 'health',
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
      tag: 'Operation',
      summary: 'Can work be done, and on which device',
      responses: {
        200: { description: 'Ready.', content: { 'application/json': { schema: readinessSchema } } },
        503: {
          description: 'Not ready; `checks` says why.',
          content: { 'application/json': { schema: readinessSchema } },
        },
      },
      errors: [],
      async handle(_request, response) {
        const health = await service.health()
        sendJson(response, health.ready ? 200 : 503, readinessBody(health, version))
      },
    },
    {
      method: 'get',
      path: '/metrics',
      operationId: 'metrics',
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

function setHealthGauges({ metrics }: HttpDeps, health: Health): void {
  const { worker, store, queue } = health
  metrics.queueDepth.set(queue.queued)
  metrics.jobsRunning.set(queue.running)
  metrics.workerUp.set(worker.up ? 1 : 0)
  if (worker.startSeconds !== null) metrics.workerStartSeconds.set(worker.startSeconds)
  metrics.storeFreeBytes.set(store.freeBytes)
  metrics.draining.set(health.draining ? 1 : 0)
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
