// What happens on a small disk, step by step. Run by test/crash/disk-full.test.ts in a mount namespace of its own, where the
// folder given as argument is a tmpfs of 12 MiB; exits 0 when every step went as it should.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { AppError } from '../../src/errors.ts'
import { createService } from '../../src/jobs/create-service.ts'
import type { Service } from '../../src/jobs/service.ts'
import { tinyModel } from './start-service.ts'

const MIB = 1024 * 1024
const disk = process.argv[2]!
const dataDir = join(disk, 'data')
const filler = join(disk, 'filler')
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'no error',
    (error: unknown) => AppError.from(error).code,
  )

/** Takes all space but `leaveBytes`. */
function fill(leaveBytes: number): void {
  rmSync(filler, { force: true })
  const { bavail, bsize } = statfsSync(disk)
  try {
    writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - leaveBytes)))
  } catch (error) {
    assert.match(String(error), /ENOSPC/) // somebody else wrote meanwhile: full as well
  }
}

async function upload(service: Service, bytes: Uint8Array): Promise<string> {
  const staged = service.models.beginUpload()
  try {
    await staged.addFile('m.safetensors', Readable.from([Buffer.from(bytes)]), null)
    return (await staged.commit()).view.id
  } finally {
    await staged.discard()
  }
}

const service = await createService({ dataDir, device: 'reference', limits: { minFreeBytes: 0, drainGraceMs: 0 } })
const twoMegabytes = tinyModel(1, 512 * 1024)
const modelId = await upload(service, twoMegabytes)

fill(MIB)
assert.equal(await codeOf(upload(service, tinyModel(2, 512 * 1024))), 'disk_full', 'an upload that does not fit')
assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [])
assert.deepEqual(readdirSync(join(dataDir, 'models')), [modelId])

const early = await service.jobs.create({ modelId, recipe: 'prune-50' })
const refused = await service.jobs.wait(early.job.id, 20_000)
assert.equal(refused.error?.code, 'disk_full', 'a job whose artifact cannot fit')

rmSync(filler)
// Room for the check at the start, not for artifact, report and measurement: the disk fills under the job.
const running = await service.jobs.create({ modelId, recipe: 'prune-50' })
for await (const event of service.jobs.events(running.job.id, null, AbortSignal.timeout(20_000))) {
  if (event.job.progress !== null) break
}
fill(0)
const failed = await service.jobs.wait(running.job.id, 20_000)
assert.equal(failed.error?.code, 'disk_full', `a disk that fills under the job: ${JSON.stringify(failed)}`)
rmSync(filler)
assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [])

const after = await service.jobs.create({ modelId, recipe: 'prune-50' })
assert.equal((await service.jobs.wait(after.job.id, 20_000)).state, 'succeeded', 'the next job, with space again')

// The catalogue itself finds no space: nothing is acknowledged, nothing is in the list, and later it works again.
fill(0)
const jobIds = async () => (await service.jobs.list({ limit: 1000, cursor: null })).items.map(({ id }) => id)
const known = await jobIds()
let commits = 0
let refusal = 'no error'
// The write-ahead log has some room of its own: enqueue until it must grow.
while (refusal === 'no error' && commits < 2000) {
  const names = Array.from({ length: 400 }, (_, index) => `${'x'.repeat(200)}${commits}.${index}`)
  commits++
  const recipe = { steps: [{ method: 'cast', dtype: 'fp16', select: { names } }] }
  refusal = await codeOf(
    service.jobs.create({ modelId, recipe }).then(({ job }) => {
      known.push(job.id)
    }),
  )
}
assert.equal(refusal, 'disk_full', 'a catalogue that cannot grow')
assert.deepEqual(new Set(await jobIds()), new Set(known), 'exactly what was acknowledged is there')
rmSync(filler)
// Their reports alone would fill this disk again.
for (const id of known) await codeOf(service.jobs.cancel(id))
const fresh = await service.jobs.create({ modelId, recipe: 'prune-50' })
assert.equal((await service.jobs.wait(fresh.job.id, 20_000)).state, 'succeeded', 'the catalogue, with space again')

// SQLite holds its files open, so only the part that uploads and jobs write to becomes read-only.
const temporary = join(dataDir, 'temporary')
execFileSync('mount', ['--bind', temporary, temporary])
execFileSync('mount', ['-o', 'remount,bind,ro', temporary])
assert.equal(await codeOf(upload(service, tinyModel(3))), 'store_failed', 'an upload to a read-only disk')
const stuck = await service.jobs.create({ modelId, recipe: 'int8' })
assert.equal((await service.jobs.wait(stuck.job.id, 20_000)).error?.code, 'store_failed', 'a job on a read-only disk')
const health = await service.health()
assert.deepEqual([health.ready, health.store.writable], [false, false])
execFileSync('umount', [temporary])
assert.equal((await service.health()).ready, true)
const last = await service.jobs.create({ modelId, recipe: 'int8' })
assert.equal((await service.jobs.wait(last.job.id, 20_000)).state, 'succeeded', 'the next job, writable again')
await service.close()

// The whole folder read-only: the next server says so and does not start.
execFileSync('mount', ['-o', 'remount,ro', disk])
const start = createService({ dataDir, device: 'reference', limits: { minFreeBytes: 0 } })
await assert.rejects(start, (error) => {
  const { code, detail } = AppError.from(error)
  return code === 'store_failed' && detail.includes(dataDir) && /read-?only/i.test(detail)
})
