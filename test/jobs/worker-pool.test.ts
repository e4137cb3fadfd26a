// The long-lived children by themselves: hostile files in the inspect child, restarts, pauses, closing.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import type { ChildLimits } from '../../src/jobs/child-process.ts'
import { createDescribingWorker, createGpuWorker, createInspectChild } from '../../src/jobs/worker-pool.ts'
import { survivors } from '../support/crash-server.ts'
import { FAKE_WORKER, tinyModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

const FRAGILE = join(import.meta.dirname, '..', 'support', 'fragile-inspect.ts')
const source = (name: string) => [{ name, path: `/nowhere/${name}`, sizeBytes: 1 }]

function fragile(t: TestContext, limits: Partial<ChildLimits> = {}) {
  const deaths: string[] = []
  const inspect = createInspectChild({
    shaderCache: '/some/cache',
    entry: FRAGILE,
    limits,
    onDeath: (cause) => deaths.push(cause),
  })
  t.after(() => inspect.close())
  return { inspect, deaths }
}

function goodModel(t: TestContext) {
  const path = join(tempFolder(t), 'm.safetensors')
  const bytes = tinyModel()
  writeFileSync(path, bytes)
  return [{ name: 'm.safetensors', path, sizeBytes: bytes.byteLength }]
}

for (const [name, limits, cause] of [
  ['crash.bin', {}, 'crashed'],
  ['exit.bin', {}, 'crashed'],
  ['hang.bin', { silenceMs: 800 }, 'timeout'],
  ['bloat.bin', { memoryBytes: 400 * 1024 * 1024 }, 'memory'],
] as const) {
  const skip = cause === 'memory' && process.platform !== 'linux'
  test(`a model that makes its reader end by ${name} is malformed, and the next one is read`, { skip }, async (t) => {
    const { inspect, deaths } = fragile(t, limits)
    await assert.rejects(inspect.describe(source(name)), (error) => {
      assert.ok(error instanceof AppError)
      assert.equal(error.code, 'format_invalid')
      assert.equal(error.context['cause'], cause)
      return true
    })
    assert.deepEqual(deaths, [cause])
    assert.equal((await inspect.describe(goodModel(t))).tensorCount, 1)
    assert.equal(inspect.status().restarts, 1)
  })
}

test('a dataset that crashes its reader is dataset_invalid', async (t) => {
  const { inspect } = fragile(t)
  await assert.rejects(
    inspect.describeDataset('/nowhere.npz'),
    (error) => AppError.from(error).code === 'dataset_invalid',
  )
})

test('an allocation that the system refuses is no bug of the program: it says that memory ran out', async (t) => {
  const { inspect, deaths } = fragile(t)
  await assert.rejects(inspect.describe(source('exhaust.bin')), (error) => {
    const { code, detail, context } = AppError.from(error)
    assert.deepEqual([code, context['cause']], ['format_invalid', 'memory'])
    assert.match(detail, /had no memory left/)
    return true
  })
  assert.deepEqual(deaths, [])
})

test('a child that somebody kills under a file says nothing about the file, unless it happens again', async (t) => {
  const { inspect, deaths } = fragile(t)
  await inspect.start()
  const [file] = goodModel(t)
  const files = [{ ...file!, name: 'linger.safetensors' }]
  const killNext = async () => {
    while (inspect.status().pid === null) await new Promise((resolve) => setTimeout(resolve, 10))
    await new Promise((resolve) => setTimeout(resolve, 200))
    process.kill(inspect.status().pid!, 'SIGKILL')
    while (inspect.status().pid !== null) await new Promise((resolve) => setTimeout(resolve, 1))
  }
  const once = inspect.describe(files)
  await killNext()
  assert.equal((await once).tensorCount, 1)
  assert.deepEqual(deaths, ['crashed'])

  const refused = assert.rejects(inspect.describe(files), (error) => AppError.from(error).code === 'format_invalid')
  await killNext()
  await killNext()
  await refused
  assert.equal((await inspect.describe(files)).tensorCount, 1)
})

test('a crash is blamed on its own file, not on those that wait behind it', async (t) => {
  const { inspect } = fragile(t)
  const files = goodModel(t)
  const outcomes = await Promise.allSettled([
    inspect.describe(files),
    inspect.describe(source('crash.bin')),
    inspect.describe(files),
  ])
  assert.deepEqual(
    outcomes.map((outcome) => outcome.status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
})

test('children find the shader cache that they were given', async (t) => {
  const { inspect } = fragile(t)
  await assert.rejects(inspect.describe(source('cache.bin')), /\/some\/cache/)
})

test('a child that cannot start fails its requests with what it said, and is not up', async (t) => {
  const worker = createGpuWorker('not-there', { shaderCache: '/some/cache', entry: FAKE_WORKER })
  t.after(() => worker.close())
  await assert.rejects(worker.start(), (error) => AppError.from(error).code === 'device_unavailable')
  assert.equal(worker.status().up, false)
  assert.equal(worker.status().lastError, 'no such adapter')
})

test('a child that dies while it starts fails with worker_crashed, naming its entry in the log', async (t) => {
  process.env['FRAGILE_START'] = 'crash'
  t.after(() => delete process.env['FRAGILE_START'])
  const { inspect } = fragile(t)
  await assert.rejects(inspect.start(), (error) => AppError.from(error).code === 'worker_crashed')
  delete process.env['FRAGILE_START']
  const deadline = Date.now() + 10_000
  while (!inspect.status().up && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(inspect.status().up, true, 'it comes back by itself')
})

test('a killed worker comes back by itself', async (t) => {
  const worker = createGpuWorker('reference', { shaderCache: '/some/cache', entry: FAKE_WORKER })
  t.after(() => worker.close())
  await worker.start()
  const { pid } = worker.status()
  process.kill(pid!, 'SIGKILL')
  const deadline = Date.now() + 10_000
  while ((!worker.status().up || worker.status().pid === pid) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.notEqual(worker.status().pid, pid)
  assert.deepEqual([worker.status().up, worker.status().restarts], [true, 1])
})

for (const [name, cause] of [
  ['crash.bin', 'crashed'],
  ['bloat.bin', 'memory'],
] as const) {
  const skip = cause === 'memory' && process.platform !== 'linux'
  test(`a model that makes a describing worker end by ${name} is malformed, and the next one is read`, {
    skip,
  }, async (t) => {
    const worker = createDescribingWorker('reference', { shaderCache: '/some/cache', entry: FRAGILE })
    t.after(() => worker.close())
    await assert.rejects(worker.describe(source(name)), (error) => {
      assert.ok(error instanceof AppError)
      assert.deepEqual([error.code, error.context['cause']], ['format_invalid', cause])
      return true
    })
    assert.equal((await worker.describe(goodModel(t))).tensorCount, 1)
  })
}

test('a describing worker reads the model before it opens its device, and one that does not open fails the job', async (t) => {
  const worker = createDescribingWorker('no adapter has this name', { shaderCache: tempFolder(t) })
  t.after(() => worker.close())
  const files = goodModel(t)
  assert.equal((await worker.describe(files)).tensorCount, 1)
  const spec = {
    jobId: 'j',
    attempt: 1,
    files,
    recipe: { version: 1 as const, name: 'none', steps: [] },
    output: { externalData: 'auto' as const, shardBytes: null, fileName: 'm.safetensors' },
    outputDir: tempFolder(t),
    measure: false,
  }
  await assert.rejects(worker.compress(spec), (error) => AppError.from(error).code === 'device_unavailable')
})

test('close ends the child, also while it starts, and refuses what comes after', async () => {
  const worker = createGpuWorker('reference', { shaderCache: '/some/cache', entry: FAKE_WORKER })
  const starting = worker.start().catch((error: unknown) => AppError.from(error).code)
  await worker.close()
  assert.ok(['cancelled', 'shutting_down', undefined].includes((await starting) as string))
  await assert.rejects(worker.start(), (error) => AppError.from(error).code === 'shutting_down')

  const other = createGpuWorker('reference', { shaderCache: '/some/cache', entry: FAKE_WORKER })
  await other.start()
  const { pid } = other.status()
  await other.close()
  assert.deepEqual(await survivors([pid!]), [])
})
