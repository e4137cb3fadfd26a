// The wall clock jumps by a day, forwards and backwards, under a running job and over a restart: no child is blamed for it, no
// job is lost, no duration is negative, and followers hear of the end.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ApiClient, type JobBody } from '../../campaigns/api-client.ts'
import { isComplete } from '../../campaigns/event-followers.ts'
import { readMetrics } from '../../campaigns/process-figures.ts'
import { seededOnnx, seededSafetensors } from '../../campaigns/seeded-models.ts'
import { createJobEvents } from '../../src/jobs/job-events.ts'
import { type ServerExtras, startServer } from '../support/server-process.ts'
import { tempFolder } from '../support/temp-folder.ts'

const DAY_MS = 86_400_000
const SHIFT_CLOCK = join(import.meta.dirname, '..', 'support', 'shift-clock.mjs')

const shifted = (ms: number): ServerExtras => ({
  nodeOptions: ['--import', SHIFT_CLOCK],
  env: { TENSORPRESS_TEST_CLOCK_SHIFT_MS: String(ms) },
})

async function start(t: TestContext, dataDir: string, shiftMs: number) {
  const server = await startServer(t, dataDir, ['--device', 'reference'], shifted(shiftMs))
  const api = new ApiClient(server.url)
  t.after(() => api.close())
  await api.ready()
  return { ...server, api }
}

async function startJob(api: ApiClient, seed: number, rows: number): Promise<JobBody> {
  const model = seededSafetensors(seed, rows)
  const { id } = await api.json<{ id: string }>('PUT', `/v1/models/${model.name}`, model.bytes)
  return api.json<JobBody>('POST', '/v1/jobs', { model: id, recipe: 'prune-50+int8' })
}

async function untilRunning(api: ApiClient, id: string): Promise<void> {
  for (;;) {
    const { state } = await api.json<JobBody>('GET', `/v1/jobs/${id}`)
    if (state === 'running') return
    assert.equal(state, 'queued', 'the job ended before the clock was moved')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

for (const [direction, shiftMs] of [
  ['forwards', DAY_MS],
  ['backwards', -DAY_MS],
] as const) {
  test(`a clock that jumps a day ${direction} under a job costs no attempt and makes no negative time`, async (t) => {
    const dataDir = tempFolder(t)
    const { api, process: child } = await start(t, dataDir, shiftMs)
    // Two jobs, so that one waits over the jump; the first is a second's work.
    const first = await startJob(api, 1, 2 ** 15)
    const second = await startJob(api, 2, 64)
    await untilRunning(api, first.id)
    const events = api.send('GET', `/v1/jobs/${second.id}/events`)
    child.kill('SIGUSR2')
    const jobs = [await api.waitForJob(first.id), await api.waitForJob(second.id)]
    for (const job of jobs) {
      assert.deepEqual([job.state, job.attempt], ['succeeded', 1], JSON.stringify(job.error))
      const times = [job.createdAt, job.startedAt!, job.finishedAt!]
      assert.deepEqual(times, times.toSorted())
    }
    assert.ok(isComplete((await events).body.toString('utf8')))
    const metrics = await readMetrics(api)
    assert.equal(metrics.get('tensorpress_worker_restarts_total'), 0)
    const negative = [...metrics].filter(([name, value]) => /seconds(_sum|_total)?(\{|$)/.test(name) && value < 0)
    assert.deepEqual(negative, [])
  })
}

test('a server that starts a day before its own rows has them all, and works on', async (t) => {
  const dataDir = tempFolder(t)
  const ahead = await start(t, dataDir, DAY_MS)
  ahead.process.kill('SIGUSR2')
  const early = await startJob(ahead.api, 1, 64)
  await ahead.api.waitForJob(early.id)
  const waiting = await startJob(ahead.api, 2, 2 ** 15)
  ahead.process.kill('SIGKILL')
  await ahead.ended

  const { api } = await start(t, dataDir, 0)
  assert.equal((await api.json<JobBody>('GET', `/v1/jobs/${early.id}`)).state, 'succeeded')
  const artifact = await api.send('GET', `/v1/jobs/${early.id}/artifact`)
  assert.equal(artifact.status, 200)
  const done = await api.waitForJob(waiting.id)
  assert.deepEqual([done.state, done.attempt], ['succeeded', 1])
  assert.ok(done.createdAt <= done.startedAt! && done.startedAt! <= done.finishedAt!, JSON.stringify(done))
  const onnx = seededOnnx(3)
  const { id } = await api.json<{ id: string }>('PUT', `/v1/models/${onnx.name}`, onnx.bytes)
  const later = await api.json<JobBody>('POST', '/v1/jobs', { model: id, recipe: 'int8' })
  assert.equal((await api.waitForJob(later.id)).state, 'succeeded')
})

test('a follower that comes back with a number from before the clock was set back hears of the end', async () => {
  const events = createJobEvents()
  const job = { id: 'j', state: 'running', createdAt: '2026-01-01T00:00:00.000Z', startedAt: null, finishedAt: null }
  const view = (state: string) => ({ ...job, state }) as unknown as Parameters<typeof events.publish>[1]
  const seen: string[] = []
  const following = (async () => {
    for await (const event of events.follow('j', Date.now() + DAY_MS, null, async () => view('running'))) {
      seen.push(event.job.state)
    }
  })()
  await new Promise((resolve) => setTimeout(resolve, 10))
  events.publish('state', view('succeeded'))
  await following
  assert.deepEqual(seen, ['running', 'succeeded'])
})
