// Backup and restore as docs/operations.md has them: a real server is copied while it works, killed, and its copy serves
// everything that was there, and finishes the job that was in work.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildSafetensors, f32Bytes } from '../support/build-safetensors.ts'
import { runCli } from '../support/run-cli.ts'
import { startServer } from '../support/server-process.ts'
import { tempFolder } from '../support/temp-folder.ts'

const docs = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'operations.md'), 'utf8')

interface Job {
  id: string
  state: string
}

function model(elements: number): Uint8Array<ArrayBuffer> {
  const values = Array.from({ length: elements }, (_, i) => Math.sin(i))
  return new Uint8Array(
    buildSafetensors([{ name: 'w', dtype: 'F32', shape: [64, elements / 64], data: f32Bytes(values) }]),
  )
}

async function json<T>(url: string, body?: object): Promise<T> {
  const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
  const response = await fetch(url, body === undefined ? {} : post)
  assert.ok(response.ok, `${url}: ${response.status}`)
  return (await response.json()) as T
}

async function ended(url: string, id: string): Promise<Job> {
  const deadline = Date.now() + 60_000
  for (;;) {
    const job = await json<Job>(`${url}/v1/jobs/${id}`)
    if (job.state === 'succeeded' || job.state === 'failed') return job
    assert.ok(Date.now() < deadline, `job ${id} is still ${job.state}`)
    await sleep(50)
  }
}

test('a live folder is backed up as documented, restored, and served', async (t) => {
  const home = tempFolder(t)
  const dataDir = join(home, 'tensorpress')
  const first = await startServer(t, dataDir, ['--device', 'reference'])
  const upload = async (elements: number) => {
    const response = await fetch(`${first.url}/v1/models/m.safetensors`, { method: 'PUT', body: model(elements) })
    return ((await response.json()) as { id: string }).id
  }
  const small = await upload(4096)
  const done = await ended(first.url, (await json<Job>(`${first.url}/v1/jobs`, { model: small, recipe: 'int8' })).id)
  assert.equal(done.state, 'succeeded')
  const artifact = Buffer.from(await (await fetch(`${first.url}/v1/jobs/${done.id}/artifact`)).arrayBuffer())
  const large = await upload(4 * 1024 * 1024)
  const working = await json<Job>(`${first.url}/v1/jobs`, { model: large, recipe: 'int8' })

  const line = 'tensorpress backup --data-dir /srv/tensorpress /backup/tensorpress'
  assert.ok(docs.includes(line), 'the documented command')
  const args = line.replace('/srv', home).replace('/backup/', `${home}/backup-of-`).split(' ').slice(1)
  const { status, stdout, stderr } = await runCli(home, ...args)
  assert.equal(status, 0, stderr)
  assert.match(stdout, /files, .* copied now\) and the catalogue/)
  first.process.kill('SIGKILL')
  await first.ended

  renameSync(dataDir, join(home, 'lost'))
  renameSync(join(home, 'backup-of-tensorpress'), dataDir)
  const second = await startServer(t, dataDir, ['--device', 'reference'])
  const again = await fetch(`${second.url}/v1/jobs/${done.id}/artifact`)
  assert.deepEqual(Buffer.from(await again.arrayBuffer()), artifact)
  assert.equal(again.headers.get('etag'), `"${createHash('sha256').update(artifact).digest('hex')}"`)
  assert.equal((await json<{ jobId: string }>(`${second.url}/v1/jobs/${done.id}/report`)).jobId, done.id)
  assert.equal((await ended(second.url, working.id)).state, 'succeeded')
})
