// Every metric, in one table: name, type, labels, buckets, meaning. docs/metrics.md is generated from it and proven equal by
// a test. Base units (seconds, bytes, ratio); labels are bounded (method ids, stages, kernels, route templates).
// `createMetrics` makes a registry of its own, so that two apps in one process do not share counters.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { ERROR_CODES } from '../errors.ts'

interface MetricRow {
  type: 'counter' | 'gauge' | 'histogram'
  help: string
  labels: readonly string[]
  /** Series that are there from the start, at 0: an increase from nothing to 1 is none for Prometheus. */
  starts?: readonly Record<string, string>[]
  buckets?: readonly number[]
}

/** Short calls and uploads of minutes alike. */
const HTTP_SECONDS = [0.005, 0.02, 0.1, 0.5, 1, 2.5, 10, 30, 60, 120, 300, 600]
const JOB_SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600]
/** 1 MB/s (the reference device) to 50 GB/s (a discrete GPU). */
const BYTES_PER_SECOND = [1e6, 1e7, 5e7, 1e8, 2.5e8, 5e8, 1e9, 2.5e9, 5e9, 1e10, 5e10]
const SIZE_RATIO = [0.1, 0.13, 0.2, 0.25, 0.27, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1, 1.1]
const DROP = [-0.05, -0.01, -0.001, 0, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1]
const CHILDREN = ['gpu', 'inference', 'inspect']
const EXPIRIES = ['model', 'dataset', 'artifact', 'job', 'blob'].flatMap((kind) =>
  ['age', 'quota', 'count', 'orphan'].map((reason) => ({ kind, reason })),
)
const WEBHOOK_OUTCOMES = ['delivered', 'refused', 'unreachable', 'timeout', 'forbidden', 'failed']
const DEATH_CAUSES = ['crashed', 'timeout', 'memory', 'device_lost']

export const METRICS = {
  jobs_total: {
    type: 'counter',
    labels: ['method', 'outcome'],
    help: 'Jobs that ended. method: the recipe methods joined by +; outcome: succeeded, failed, cancelled.',
  },
  jobs_cached_total: {
    type: 'counter',
    labels: [],
    help: 'Jobs answered by an artifact that was already in the store.',
  },
  job_failures_total: {
    type: 'counter',
    labels: ['code'],
    starts: Object.keys(ERROR_CODES).map((code) => ({ code })),
    help: 'Failed jobs by error code.',
  },
  job_duration_seconds: {
    type: 'histogram',
    labels: ['method', 'outcome'],
    buckets: JOB_SECONDS,
    help: 'From the start of the last attempt to the end of the job.',
  },
  job_stage_duration_seconds: {
    type: 'histogram',
    labels: ['stage'],
    buckets: JOB_SECONDS,
    help: 'Wall time by stage: compress (of which open, calibrate, encode, finish, measure) and validate.',
  },
  job_attempts_total: { type: 'counter', labels: [], help: 'Attempts started; more than jobs when a child died.' },
  ready: { type: 'gauge', labels: [], help: '1 while /readyz answers 200: jobs can be taken and done.' },
  queue_depth: { type: 'gauge', labels: [], help: 'Jobs that wait.' },
  queue_oldest_seconds: {
    type: 'gauge',
    labels: [],
    help: 'How long ago the job at the head of the queue was accepted; 0: none waits.',
  },
  jobs_running: { type: 'gauge', labels: [], help: 'Jobs in work.' },
  queue_wait_seconds: {
    type: 'histogram',
    labels: [],
    buckets: JOB_SECONDS,
    help: 'From the acceptance of a job to the start of its first attempt.',
  },
  uploaded_bytes_total: { type: 'counter', labels: ['kind'], help: 'Bytes of stored uploads. kind: model, dataset.' },
  uploads_in_progress: { type: 'gauge', labels: [], help: 'Uploads being received.' },
  read_bytes_total: { type: 'counter', labels: [], help: 'Bytes that compression read from model files.' },
  written_bytes_total: { type: 'counter', labels: [], help: 'Bytes that compression wrote to artifacts.' },
  compressed_bytes_total: { type: 'counter', labels: ['method'], help: 'Bytes of model files that jobs compressed.' },
  gpu_seconds_total: { type: 'counter', labels: ['method'], help: 'GPU time of kernels, by method.' },
  gpu_throughput_bytes_per_second: {
    type: 'histogram',
    labels: ['method'],
    buckets: BYTES_PER_SECOND,
    help: 'Bytes compressed per second of GPU time, one observation a job.',
  },
  wall_throughput_bytes_per_second: {
    type: 'histogram',
    labels: ['method'],
    buckets: BYTES_PER_SECOND,
    help: 'Bytes compressed per second of wall time (without measuring and validating), one observation a job.',
  },
  gpu_kernel_seconds_total: {
    type: 'counter',
    labels: ['kernel', 'source'],
    help: 'Time in each kernel. source: timestamp (GPU timestamp queries) or wall (adapters without them).',
  },
  gpu_kernel_bytes_total: { type: 'counter', labels: ['kernel'], help: 'Bytes that each kernel read and wrote.' },
  gpu_kernel_dispatches_total: { type: 'counter', labels: ['kernel'], help: 'Dispatches of each kernel.' },
  compression_ratio: {
    type: 'histogram',
    labels: ['method'],
    buckets: SIZE_RATIO,
    help: 'Raw bytes of the artifact over raw bytes of the model, one observation a job.',
  },
  validation_drop_ratio: {
    type: 'histogram',
    labels: ['metric'],
    buckets: DROP,
    help: 'Loss of accuracy by validation metric, original minus artifact (0.01 is one point); below 0: it gained.',
  },
  requirements_total: {
    type: 'counter',
    labels: ['outcome'],
    starts: [{ outcome: 'met' }, { outcome: 'unmet' }],
    help: 'Requirements judged. outcome: met, unmet.',
  },
  device_lost_total: { type: 'counter', labels: [], help: 'Times that the device was lost during work.' },
  worker_restarts_total: { type: 'counter', labels: [], help: 'Times that the GPU worker was started again.' },
  child_deaths_total: {
    type: 'counter',
    labels: ['child', 'cause'],
    starts: CHILDREN.flatMap((child) => DEATH_CAUSES.map((cause) => ({ child, cause }))),
    help: 'Children that ended untold. cause: crashed, timeout, memory, device_lost.',
  },
  worker_up: { type: 'gauge', labels: [], help: '1 while the GPU worker is ready.' },
  worker_start_seconds: { type: 'gauge', labels: [], help: 'How long the last start of the GPU worker took.' },
  worker_resident_memory_bytes: {
    type: 'gauge',
    labels: ['child'],
    help: 'Resident memory as the children last said. child: gpu, inference, inspect.',
  },
  device_info: {
    type: 'gauge',
    labels: ['kind', 'adapter', 'driver'],
    help: 'Always 1; the labels name the device in use.',
  },
  reference_device: { type: 'gauge', labels: [], help: '1 when kernels run on the scalar reference device.' },
  store_free_bytes: { type: 'gauge', labels: [], help: 'Free space where the data folder is.' },
  store_floor_bytes: {
    type: 'gauge',
    labels: [],
    help: 'Free space that uploads and artifacts leave untouched (diskFloorBytes): below it nothing is taken.',
  },
  store_bytes: {
    type: 'gauge',
    labels: ['kind'],
    help: 'Bytes stored. kind: model, dataset, upload (announced and not finished), artifact, document (reports, results).',
  },
  store_quota_bytes: { type: 'gauge', labels: [], help: 'Cap of the store (storeBytes); 0: none.' },
  expired_total: {
    type: 'counter',
    labels: ['kind', 'reason'],
    starts: EXPIRIES,
    help: 'Things that retention removed. kind: model, dataset, artifact, job, blob; reason: age, quota, count, orphan.',
  },
  expired_bytes_total: {
    type: 'counter',
    labels: ['kind', 'reason'],
    starts: EXPIRIES,
    help: 'Bytes that retention removed.',
  },
  webhook_attempts_total: {
    type: 'counter',
    labels: ['outcome'],
    starts: WEBHOOK_OUTCOMES.map((outcome) => ({ outcome })),
    help: 'Attempts to deliver a webhook. outcome: delivered, refused (an answer other than 2xx), unreachable, timeout, forbidden (target not allowed), failed.',
  },
  webhooks: {
    type: 'gauge',
    labels: ['state'],
    help: 'Webhooks of ended jobs that are not delivered. state: pending (due, or to be tried again), dead (given up).',
  },
  draining: { type: 'gauge', labels: [], help: '1 from the stop signal on: no new jobs are taken.' },
  insecure: {
    type: 'gauge',
    labels: [],
    help: '1 when there are no API keys and the address can be reached from other machines.',
  },
  api_keys: { type: 'gauge', labels: [], help: 'API keys in force; 0: none are required.' },
  api_keys_current: {
    type: 'gauge',
    labels: [],
    help: '0 when the file of API keys changed to something that cannot be read: the keys before it stay in force.',
  },
  http_request_duration_seconds: {
    type: 'histogram',
    labels: ['method', 'route', 'status'],
    buckets: HTTP_SECONDS,
    help: 'From the header lines to the last byte. route: the template; status 499: the client left.',
  },
  http_requests_in_work: { type: 'gauge', labels: [], help: 'Requests being answered, without probes and /metrics.' },
  connections_open: { type: 'gauge', labels: [], help: 'Open connections.' },
  connections_cut_total: {
    type: 'counter',
    labels: ['cause'],
    help: 'Connections closed at the limit. cause: idle (the longest idle made way), refused (none was idle).',
  },
  slow_clients_total: {
    type: 'counter',
    labels: ['phase'],
    help: 'Requests given up because the client was too slow or gone. phase: body, answer.',
  },
  event_streams_open: { type: 'gauge', labels: [], help: 'Event streams being followed.' },
  log_failures_total: {
    type: 'counter',
    labels: [],
    help: 'Writes of log lines that failed: the disk is full, or whoever read them went away.',
  },
  build_info: { type: 'gauge', labels: ['version', 'node'], help: 'Always 1; the labels name the versions.' },
} as const satisfies Record<string, MetricRow>

export const METRIC_PREFIX = 'tensorpress_'

type Name = keyof typeof METRICS
type Camel<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<Camel<Tail>>}` : S
type Labels<N extends Name> = (typeof METRICS)[N]['labels'][number]
type Instrument<N extends Name> = (typeof METRICS)[N]['type'] extends 'counter'
  ? Counter<Labels<N>>
  : (typeof METRICS)[N]['type'] extends 'gauge'
    ? Gauge<Labels<N>>
    : Histogram<Labels<N>>

/** One instrument per row: http_request_duration_seconds is metrics.httpRequestDurationSeconds. */
export type Metrics = { [N in Name as Camel<N>]: Instrument<N> } & { registry: Registry }

function memberName(name: string): string {
  return name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
}

function startedCounter(counter: Counter, starts: readonly Record<string, string>[]): Counter {
  for (const labels of starts) counter.inc(labels, 0)
  return counter
}

/** Node's own figures (CPU, memory, event loop delay) come along under the same prefix when `processFigures` is set. */
export function createMetrics(version: string, processFigures = true): Metrics {
  const registry = new Registry()
  const instruments: Record<string, unknown> = {}
  for (const [name, row] of Object.entries(METRICS) as [Name, MetricRow][]) {
    const common = { name: METRIC_PREFIX + name, help: row.help, labelNames: [...row.labels], registers: [registry] }
    instruments[memberName(name)] =
      row.type === 'counter'
        ? startedCounter(new Counter(common), row.starts ?? [])
        : row.type === 'gauge'
          ? new Gauge(common)
          : new Histogram({ ...common, buckets: [...(row.buckets ?? [])] })
  }
  if (processFigures) collectDefaultMetrics({ prefix: METRIC_PREFIX, register: registry })
  const metrics = { ...instruments, registry } as Metrics
  metrics.buildInfo.set({ version, node: process.version }, 1)
  return metrics
}
