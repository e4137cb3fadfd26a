// The data folder: layout, lock, sweeping of what a crash left.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { openDataFolder } from '../../src/store/data-folder.ts'
import { keptLog, startService, tinyModel, uploadModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

const HOLDER = `
  const { openDataFolder } = await import(process.argv[1])
  globalThis.kept = await openDataFolder(process.argv[2])
  console.log('locked')
  setInterval(() => {}, 1000)
`

test('the lock ends with the process that holds it, even by SIGKILL', async (t) => {
  const path = tempFolder(t)
  const module = new URL('../../src/store/data-folder.ts', import.meta.url).href
  const holder = spawn(process.execPath, ['--input-type=module', '-e', HOLDER, module, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => holder.kill('SIGKILL'))
  await once(holder.stdout, 'data')
  await assert.rejects(openDataFolder(path), (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'conflict')
    assert.match(error.detail, new RegExp(`process ${holder.pid}`))
    return true
  })
  holder.kill('SIGKILL')
  await once(holder, 'exit')
  const data = await openDataFolder(path)
  data.close()
})

test('a folder several levels deep is made, and one that cannot be is refused', async (t) => {
  const data = await openDataFolder(join(tempFolder(t), 'a', 'b', 'c'))
  data.close()
  if (process.platform !== 'linux') return
  await assert.rejects(openDataFolder('/proc/no/such'), (error) => AppError.from(error).code === 'store_failed')
})

test('a path that is a file is refused with store_failed', async (t) => {
  const path = join(tempFolder(t), 'file')
  writeFileSync(path, '')
  await assert.rejects(openDataFolder(path), (error) => error instanceof AppError && error.code === 'store_failed')
})

test('temporary folders are private, and gone after a start', async (t) => {
  const path = tempFolder(t)
  const first = await openDataFolder(path)
  const made = [await first.makeTemporary('job-1-attempt-1'), await first.makeTemporary('job-1-attempt-1')]
  assert.notEqual(made[0], made[1])
  assert.ok(made.every((folder) => statSync(folder).isDirectory() && /job-1-attempt-1-/.test(folder)))
  first.close()
  const second = await openDataFolder(path)
  t.after(() => second.close())
  assert.deepEqual(readdirSync(join(path, 'temporary')), [])
})

test('free space is compared with need and floor', async (t) => {
  const data = await openDataFolder(tempFolder(t))
  t.after(() => data.close())
  const free = await data.freeBytes()
  await data.requireFree(0, 0)
  await assert.rejects(data.requireFree(free, 2 ** 40), (error) => {
    assert.ok(error instanceof AppError)
    assert.deepEqual(
      [error.code, error.context['limit'], error.context['requested']],
      ['disk_full', 'diskFloorBytes', free],
    )
    return true
  })
})

test('the bytes of an upload that became a model are removed at start where a crash left them', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const bytes = Buffer.from(tinyModel())
  const upload = await service.uploads.create({
    id: 'u-1',
    kind: 'model',
    fileName: 'm.safetensors',
    set: null,
    sizeBytes: bytes.byteLength,
    expectedSha256: null,
    metadata: {},
    submittedBy: null,
  })
  await service.uploads.append(upload.id, 0, Readable.from([bytes]))
  assert.equal((await service.uploads.finish(upload.id)).state, 'finished')
  await service.close()
  const left = join(dataDir, 'uploads', upload.id)
  assert.equal(existsSync(left), false)
  writeFileSync(left, bytes)
  const next = await startService(t, { dataDir })
  assert.equal(existsSync(left), false)
  assert.equal((await next.uploads.get(upload.id)).state, 'finished')
})

test('folders, datasets and blobs without a row are removed at start; those with one stay', async (t) => {
  const dataDir = tempFolder(t)
  const service = await startService(t, { dataDir })
  const model = await uploadModel(service)
  const { job } = await service.jobs.create({ modelId: model.id, recipe: 'int8' })
  await service.jobs.wait(job.id, 10_000)
  await service.close()

  const orphans = ['models/feed', 'blobs/fe/feed', 'datasets/feed.npz'].map((name) => join(dataDir, name))
  mkdirSync(join(orphans[0]!, 'files'), { recursive: true })
  mkdirSync(join(dataDir, 'blobs/fe'), { recursive: true })
  for (const path of orphans.slice(1)) writeFileSync(path, 'x')
  const next = await startService(t, { dataDir })
  assert.deepEqual(
    orphans.map((path) => existsSync(path)),
    [false, false, false],
  )
  assert.equal((await next.models.get(model.id)).id, model.id)
  const [file] = await next.jobs.artifactFiles(job.id)
  assert.equal(statSync(file!.path).size, file!.sizeBytes)
})

test('what somebody put among the blobs stops no start, is left alone and is told', async (t) => {
  const dataDir = tempFolder(t)
  await (await startService(t, { dataDir })).close()
  const strays = ['blobs/notes.txt', 'blobs/lost+found', 'blobs/fe/.DS_Store', 'blobs/fe/feed'].map((name) =>
    join(dataDir, name),
  )
  mkdirSync(strays[1]!)
  mkdirSync(strays[3]!, { recursive: true })
  writeFileSync(strays[0]!, 'x')
  writeFileSync(strays[2]!, 'x')
  const { log, lines } = keptLog()
  await startService(t, { dataDir, log })
  assert.deepEqual(
    strays.map((path) => existsSync(path)),
    [true, true, true, true],
  )
  const told = lines.filter(({ message }) => /left alone/.test(message))
  assert.deepEqual(
    told.map(({ level, fields }) => [level, (fields as { strays: number }).strays]),
    [['warn', 4]],
  )
})
