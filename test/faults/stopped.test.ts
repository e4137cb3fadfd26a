// SIGSTOP: a child that stands still ends as worker_timeout within its limit and the work goes on with a fresh one; a server
// that stood still blames nobody and its clients go on.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiClient, type JobBody, receive } from '../../campaigns/api-client.ts'
import { seededOnnx, seededSafetensors } from '../../campaigns/seeded-models.ts'
import { AppError } from '../../src/errors.ts'
import { createService } from '../../src/jobs/create-service.ts'
import type { ChildKind, Service } from '../../src/jobs/service.ts'
import { createInspectChild } from '../../src/jobs/worker-pool.ts'
import { validateArtifact } from '../../src/validate/validate-artifact.ts'
import { startServiceProcess } from '../support/crash-server.ts'
import { startServer } from '../support/server-process.ts'
import { uploadModel } from '../support/start-service.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'

const SILENCE_MS = 1500
const linux = process.platform === 'linux'
const skip = !linux && 'needs the signals and the procfs of Linux'

async function realService(t: TestContext, deaths: string[], validateMs?: number): Promise<Service> {
  const service = await createService(
    {
      dataDir: tempFolder(t),
      device: 'reference',
      limits: { minFreeBytes: 0, drainGraceMs: 0, childSilenceMs: SILENCE_MS },
      hooks: { childDied: (kind, cause) => deaths.push(`${kind} ${cause}`) },
    },
    validateMs === undefined
      ? {}
      : { validate: (spec, options) => validateArtifact(spec, { ...options, timeoutMs: validateMs }) },
  )
  t.after(() => service.close())
  return service
}

/** Stops the first child of this kind that is seen while a job runs. */
async function stopChild(service: Service, kind: ChildKind): Promise<number> {
  const deadline = performance.now() + 20_000
  while (performance.now() < deadline) {
    const { children, queue } = await service.health()
    const child = children.find((found) => found.kind === kind)
    if (child !== undefined && queue.running > 0) {
      process.kill(child.pid, 'SIGSTOP')
      return performance.now()
    }
    await sleep(2)
  }
  throw new Error(`no ${kind} child was seen`)
}

test('a GPU worker that stands still is killed within its limit, and the job is done by the next one', {
  skip,
}, async (t) => {
  const deaths: string[] = []
  const service = await realService(t, deaths)
  const { bytes, name } = seededSafetensors(1, 2 ** 16)
  const model = await uploadModel(service, bytes, name)
  const { job } = await service.jobs.create({ modelId: model.id, recipe: 'prune-50+int8' })
  const stoppedMs = await stopChild(service, 'gpu')
  while (deaths.length === 0 && performance.now() < stoppedMs + 20_000) await sleep(10)
  const tookMs = performance.now() - stoppedMs
  assert.deepEqual(deaths, ['gpu timeout'])
  assert.ok(tookMs < SILENCE_MS + 2500, `${tookMs} ms`)
  const done = await service.jobs.wait(job.id, 60_000)
  assert.deepEqual([done.state, done.attempt], ['succeeded', 2], JSON.stringify(done.error))
})

test('an inference child that stands still ends as worker_timeout when the time of the validation is up', {
  skip,
}, async (t) => {
  const deaths: string[] = []
  const service = await realService(t, deaths, 5000)
  const { bytes, name } = seededOnnx(1)
  const model = await uploadModel(service, bytes, name)
  const { job } = await service.jobs.create({ modelId: model.id, recipe: 'int8' })
  await stopChild(service, 'inference')
  const done = await service.jobs.wait(job.id, 60_000)
  assert.equal(deaths[0], 'inference timeout')
  assert.deepEqual([done.state, done.attempt], ['succeeded', 2], JSON.stringify(done.error))
})

test('an inspect child that stands still refuses its file within its limit, and the next file is read', {
  skip,
}, async (t) => {
  const inspect = createInspectChild({ shaderCache: tempFolder(t), limits: { silenceMs: SILENCE_MS } })
  t.after(() => inspect.close())
  await inspect.start()
  process.kill(inspect.status().pid!, 'SIGSTOP')
  const files = writeFiles(tempFolder(t), { 'm.safetensors': seededSafetensors(1).bytes })
  await assert.rejects(inspect.describe(files), (error) => {
    const { code, context } = AppError.from(error)
    return code === 'format_invalid' && context['cause'] === 'timeout'
  })
  assert.equal((await inspect.describe(files)).tensorCount, 1)
})

test('a server that stood still for longer than the limits of its children does not kill them', { skip }, async (t) => {
  const server = startServiceProcess(tempFolder(t), { childStallMs: 2000 })
  t.after(() => server.kill())
  await server.ready
  const modelId = (await server.ask({ op: 'upload', seed: 1 })) as string
  // The progress of this job stays the same for 3 s, of which the server sees less than 2.
  const jobId = (await server.ask({ op: 'job', modelId, recipe: 'slow-3000', key: 'k' })) as string
  await sleep(400)
  process.kill(server.pid, 'SIGSTOP')
  await sleep(2300)
  process.kill(server.pid, 'SIGCONT')
  const job = (await server.ask({ op: 'wait', jobId })) as { state: string; attempt: number }
  assert.deepEqual([job.state, job.attempt], ['succeeded', 1])
})

test('clients of a server that stands still for seconds get their answers when it goes on', { skip }, async (t) => {
  const server = await startServer(t, tempFolder(t), ['--device', 'reference'])
  const api = new ApiClient(server.url)
  t.after(() => api.close())
  await api.ready()
  const { bytes, name } = seededSafetensors(1, 2 ** 16)
  const { id } = await api.json<{ id: string }>('PUT', `/v1/models/${name}`, bytes)
  const job = await api.json<JobBody>('POST', '/v1/jobs', { model: id, recipe: 'int8' })
  const events = api.send('GET', `/v1/jobs/${job.id}/events`)
  const half = seededSafetensors(2, 2 ** 14)
  const put = api.open('PUT', `/v1/models/${half.name}`, { 'content-length': half.bytes.byteLength })
  const uploaded = receive(put)
  put.write(half.bytes.subarray(0, 1000))
  await sleep(50)
  server.process.kill('SIGSTOP')
  const asked = Array.from({ length: 8 }, () => api.send('GET', '/healthz'))
  put.end(half.bytes.subarray(1000))
  await sleep(3000)
  server.process.kill('SIGCONT')
  for (const { status } of await Promise.all(asked)) assert.equal(status, 200)
  assert.equal((await api.waitForJob(job.id)).state, 'succeeded')
  assert.match((await events).body.toString('utf8'), /event: end/)
  assert.equal((await uploaded).status, 201)
})
