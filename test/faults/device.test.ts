// The device goes away, was never there, or has no memory: a lost adapter in mid-job, no Vulkan driver, a worker that cannot
// allocate. Each costs attempts at most, and everything that names a device tells the truth.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiClient, type JobBody } from '../../campaigns/api-client.ts'
import { readMetrics } from '../../campaigns/process-figures.ts'
import { seededSafetensors } from '../../campaigns/seeded-models.ts'
import { requestGpuDevice } from '../../src/compute/webgpu-device.ts'
import { createService } from '../../src/jobs/create-service.ts'
import type { Service } from '../../src/jobs/service.ts'
import { startServer } from '../support/server-process.ts'
import { uploadModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

const LOSING_WORKER = join(import.meta.dirname, '..', 'support', 'losing-worker.ts')
const gpu = await requestGpuDevice('auto')
gpu?.device.destroy()

async function service(t: TestContext, deaths: string[], workerEntry?: string): Promise<Service> {
  const made = await createService(
    {
      dataDir: tempFolder(t),
      device: workerEntry === undefined ? 'reference' : 'auto',
      limits: { minFreeBytes: 0, drainGraceMs: 0 },
      hooks: { childDied: (kind, cause) => deaths.push(`${kind} ${cause}`) },
    },
    workerEntry === undefined ? {} : { workerEntry },
  )
  t.after(() => made.close())
  return made
}

async function untilEncoding(made: Service, jobId: string): Promise<number> {
  for await (const { job } of made.jobs.events(jobId, null, AbortSignal.timeout(20_000))) {
    if (job.stage === 'encoding' || job.stage === 'calibrating' || job.stage === 'measuring') break
  }
  const { children } = await made.health()
  return children.find(({ kind }) => kind === 'gpu')!.pid
}

test('a device that is lost in mid-job costs one attempt and changes no byte', {
  skip: gpu === null && 'gpu: skipped, there is no adapter',
}, async (t) => {
  const deaths: string[] = []
  const made = await service(t, deaths, LOSING_WORKER)
  const { bytes, name } = seededSafetensors(1, 2 ** 15)
  const model = await uploadModel(made, bytes, name)
  const { job } = await made.jobs.create({ modelId: model.id, recipe: 'prune-50+int8' })
  process.kill(await untilEncoding(made, job.id), 'SIGUSR2')
  const done = await made.jobs.wait(job.id, 60_000)
  assert.deepEqual([done.state, done.attempt], ['succeeded', 2], JSON.stringify(done.error))
  assert.deepEqual(deaths, ['gpu device_lost'])
  assert.equal((await made.health()).worker.restarts, 1)

  const quiet = await service(t, [])
  const again = await uploadModel(quiet, bytes, name)
  const undisturbed = await quiet.jobs.create({ modelId: again.id, recipe: 'prune-50+int8' })
  await quiet.jobs.wait(undisturbed.job.id, 60_000)
  const hash = async (from: Service, id: string) => (await from.jobs.artifactFiles(id))[0]!.sha256
  assert.equal(await hash(made, job.id), await hash(quiet, undisturbed.job.id))
})

test('without a Vulkan driver the server works on the reference device and says so wherever it names one', async (t) => {
  const nowhere = join(tempFolder(t), 'no-driver.json')
  const server = await startServer(t, tempFolder(t), [], {
    env: { VK_ICD_FILENAMES: nowhere, VK_DRIVER_FILES: nowhere },
  })
  const api = new ApiClient(server.url)
  t.after(() => api.close())
  const readiness = await api.json<{ status: string; referenceDevice: boolean; device: { kind: string } }>(
    'GET',
    '/readyz',
  )
  assert.deepEqual([readiness.status, readiness.referenceDevice, readiness.device.kind], ['ready', true, 'reference'])
  while (!server.output().includes('Device: ')) await sleep(20)
  assert.match(server.output(), /Device: reference \(no GPU adapter is in use/)
  const metrics = await readMetrics(api)
  assert.equal(metrics.get('tensorpress_reference_device'), 1)
  const { bytes, name } = seededSafetensors(1)
  const { id } = await api.json<{ id: string }>('PUT', `/v1/models/${name}`, bytes)
  const job = await api.waitForJob((await api.json<JobBody>('POST', '/v1/jobs', { model: id, recipe: 'int8' })).id)
  const report = await api.json<{ device: { kind: string } }>('GET', job.links.report!, null, {
    accept: 'application/json',
  })
  assert.equal(report.device.kind, 'reference')
})

const limits = spawnSync('prlimit', ['--version']).status === 0

test('a worker that the system gives no more memory ends its attempts clearly, and the next worker does the job', {
  skip: !limits && 'needs prlimit of util-linux',
}, async (t) => {
  const deaths: string[] = []
  const made = await service(t, deaths)
  const { bytes, name } = seededSafetensors(1, 2 ** 16)
  const model = await uploadModel(made, bytes, name)
  const { children } = await made.health()
  const { pid } = children.find(({ kind }) => kind === 'gpu')!
  const virtual = /^VmSize:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]
  assert.equal(spawnSync('prlimit', ['--pid', String(pid), `--as=${Number(virtual) * 1024 + 4 * 2 ** 20}`]).status, 0)
  const { job } = await made.jobs.create({ modelId: model.id, recipe: 'prune-50+int8' })
  const done = await made.jobs.wait(job.id, 60_000)
  assert.deepEqual([done.state, done.attempt], ['succeeded', 2], JSON.stringify([done.error, deaths]))
})
