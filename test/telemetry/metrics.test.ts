// From the facts of the job engine to metrics: counters move by what the report says, and labels stay bounded.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JobView } from '../../src/jobs/service.ts'
import { createMetrics, METRIC_PREFIX, METRICS } from '../../src/telemetry/metrics.ts'
import { methodLabel, serviceHooks } from '../../src/telemetry/service-hooks.ts'
import { sampleReport } from '../support/sample-report.ts'

const job = (change: Partial<JobView> = {}): JobView => ({
  id: 'j',
  state: 'succeeded',
  stage: null,
  progress: null,
  attempt: 1,
  modelId: 'm',
  datasetId: null,
  submittedBy: null,
  recipe: sampleReport().recipe,
  output: {},
  require: null,
  validate: true,
  reportSha256: null,
  artifact: null,
  artifactExpired: false,
  webhook: null,
  error: null,
  createdAt: '2026-11-22T12:00:00.000Z',
  startedAt: null,
  finishedAt: null,
  ...change,
})

async function samples(metrics: ReturnType<typeof createMetrics>): Promise<Map<string, number>> {
  const text = await metrics.registry.metrics()
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map((line) => [
      line.slice(METRIC_PREFIX.length, line.lastIndexOf(' ')),
      Number(line.slice(line.lastIndexOf(' '))),
    ]),
  )
}

test('a finished job moves durations, bytes, throughput, ratio, kernels and the requirement', async () => {
  const metrics = createMetrics('1.2.3', false)
  const hooks = serviceHooks(metrics)
  hooks.uploaded?.('model', 1200)
  hooks.jobStarted?.(job(), 2)
  hooks.jobFinished?.(job(), { seconds: 3, stageSeconds: { compress: 0.5, validate: 2 }, report: sampleReport() })
  const got = await samples(metrics)
  const expected: Record<string, number> = {
    'jobs_total{method="quantize",outcome="succeeded"}': 1,
    'job_duration_seconds_sum{method="quantize",outcome="succeeded"}': 3,
    'job_stage_duration_seconds_sum{stage="validate"}': 2,
    'job_stage_duration_seconds_sum{stage="encode"}': 0.2,
    job_attempts_total: 1,
    queue_wait_seconds_sum: 2,
    'uploaded_bytes_total{kind="model"}': 1200,
    read_bytes_total: 1200,
    written_bytes_total: 500,
    'compressed_bytes_total{method="quantize"}': 1200,
    'gpu_seconds_total{method="quantize"}': 0.01,
    'gpu_throughput_bytes_per_second_sum{method="quantize"}': 120_000,
    'gpu_kernel_seconds_total{kernel="quantize-int8",source="timestamp"}': 0.01,
    'gpu_kernel_bytes_total{kernel="quantize-int8"}': 1280,
    'gpu_kernel_dispatches_total{kernel="quantize-int8"}': 1,
    'compression_ratio_sum{method="quantize"}': 500 / 1200,
    'requirements_total{outcome="met"}': 1,
    [`build_info{version="1.2.3",node="${process.version}"}`]: 1,
  }
  for (const [name, value] of Object.entries(expected)) assert.equal(got.get(name), value, name)
  assert.ok(got.get('wall_throughput_bytes_per_second_sum{method="quantize"}')! > 0)
})

test('an artifact that is used again counts as a job, not as work', async () => {
  const metrics = createMetrics('1.2.3', false)
  const reused = job({ artifact: { files: [], requirementMet: null, reused: true } })
  serviceHooks(metrics).jobFinished?.(reused, { seconds: 0.1, stageSeconds: {}, report: sampleReport() })
  const got = await samples(metrics)
  assert.equal(got.get('jobs_cached_total'), 1)
  assert.equal(got.get('read_bytes_total'), 0)
  assert.equal(got.get('compressed_bytes_total{method="quantize"}'), undefined)
})

test('failures are counted by code; deaths and restarts of children by kind', async () => {
  const metrics = createMetrics('1.2.3', false)
  const hooks = serviceHooks(metrics)
  const error = { code: 'worker_crashed' as const, detail: '', context: {} }
  hooks.jobFinished?.(job({ state: 'failed', error }), { seconds: 1, stageSeconds: {}, report: null })
  hooks.childDied?.('gpu', 'device_lost')
  hooks.childDied?.('inference', 'crashed')
  hooks.childRestarted?.('gpu')
  hooks.childRestarted?.('inspect')
  const got = await samples(metrics)
  assert.equal(got.get('job_failures_total{code="worker_crashed"}'), 1)
  assert.equal(got.get('device_lost_total'), 1)
  assert.equal(got.get('child_deaths_total{child="inference",cause="crashed"}'), 1)
  assert.equal(got.get('worker_restarts_total'), 1)
})

test('counters with known labels are there from the start, so that the first failure is an increase', async () => {
  const got = await samples(createMetrics('1.2.3', false))
  assert.equal(got.get('job_failures_total{code="worker_crashed"}'), 0)
  assert.equal(got.get('child_deaths_total{child="inspect",cause="memory"}'), 0)
  assert.equal(got.get('requirements_total{outcome="unmet"}'), 0)
  assert.equal(got.get('device_lost_total'), 0)
})

test('the method label is made of method ids, each once', () => {
  const { steps } = sampleReport().recipe
  const prune = { ...steps[0]!, method: 'prune-magnitude' }
  assert.equal(methodLabel({ version: 1, name: 'x', steps: [prune, ...steps, ...steps] }), 'prune-magnitude+quantize')
  assert.equal(methodLabel({ version: 1, name: 'x', steps: [] }), 'none')
})

test('names follow the rules of Prometheus: base units, `_total` on counters and on nothing else', () => {
  for (const [name, row] of Object.entries(METRICS)) {
    assert.match(name, /^[a-z][a-z_]*$/)
    assert.equal(name.endsWith('_total'), row.type === 'counter', name)
    assert.ok(!/_(ms|milliseconds|kb|mb|percent)(_|$)/.test(name), name)
    assert.ok(row.labels.length <= 3, name)
    assert.match(row.help, /\.$/, name)
  }
})
