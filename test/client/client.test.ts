// The TypeScript client against the app over a real service, through a proxy that cuts connections.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { ConnectionError, createClient, type Job, modelId, TensorpressError } from '../../src/client/index.ts'
import { modelId as storedModelId } from '../../src/store/model-store.ts'
import { buildSafetensors, f32Bytes } from '../support/build-safetensors.ts'
import { cuttingProxy } from '../support/cutting-proxy.ts'
import { listening } from '../support/http-app.ts'
import { seededBytes } from '../support/seeded-random.ts'
import { fakeRecipe, tinyModel } from '../support/start-service.ts'
import { type UploadAppOptions, uploadApp } from '../support/upload-app.ts'
import { f4, npzBytes } from '../support/write-npz.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const blobOf = (bytes: Uint8Array) => new Blob([new Uint8Array(bytes)])
const source = (bytes: Uint8Array, name = 'tiny.safetensors') => ({
  name,
  content: blobOf(bytes),
  sha256: sha256(bytes),
})

async function connected(t: TestContext, options: UploadAppOptions & { cutAfterBytes?: number[] } = {}) {
  const app = await uploadApp(t, options)
  const port = await listening(t, app.app)
  const proxy = await cuttingProxy(t, `http://127.0.0.1:${port}`, options.cutAfterBytes)
  return { ...app, proxy, client: createClient({ baseUrl: proxy.url, retrySeconds: 20 }) }
}

/** One matrix of this many megabytes. */
function bigModel(megabytes: number, seed: number): Uint8Array {
  const data = seededBytes(megabytes << 20, seed)
  return buildSafetensors([{ name: 'w', dtype: 'U8', shape: [data.length], data }])
}

test('an upload goes on by itself after connections that break, and arrives whole', async (t) => {
  const { client, proxy, service } = await connected(t, { cutAfterBytes: [3_000_000, 5_000_000, 9_000_000] })
  const bytes = bigModel(40, 5)
  const seen: number[] = []
  const model = await client.uploadModel([source(bytes)], { onProgress: (done) => seen.push(done) })
  assert.equal(model.id, sha256(bytes))
  assert.equal(proxy.cuts(), 3)
  assert.equal((await service.models.get(model.id)).sizeBytes, bytes.length)
  assert.deepEqual(
    seen,
    seen.toSorted((a, b) => a - b),
    'progress never goes back: what had arrived is kept',
  )
  assert.equal(seen.at(-1), bytes.length)
  assert.ok(
    seen.some((done) => done > 0 && done % (16 << 20) !== 0 && done < bytes.length),
    'resumed inside a piece',
  )
})

test('what the server has is not sent again', async (t) => {
  const { client, service } = await connected(t)
  const bytes = tinyModel()
  await client.putModel('tiny.safetensors', blobOf(bytes))
  const create = t.mock.method(service.uploads, 'create')
  const seen: number[][] = []
  const model = await client.uploadModel([source(bytes)], { onProgress: (...figures) => seen.push(figures) })
  assert.equal(model.id, sha256(bytes))
  assert.equal(create.mock.callCount(), 0)
  assert.deepEqual(seen, [[bytes.length, bytes.length]])
})

test('the files of a sharded model are joined, and the id can be told beforehand', async (t) => {
  const { client } = await connected(t, { cutAfterBytes: [1500] })
  const shard = (name: string) =>
    buildSafetensors([{ name, dtype: 'F32', shape: [32, 32], data: f32Bytes(Array(1024).fill(name.length)) }])
  const index = { metadata: {}, weight_map: { a: 'm-1.safetensors', bb: 'm-2.safetensors' } }
  const files = [
    source(Buffer.from(JSON.stringify(index)), 'm.safetensors.index.json'),
    source(shard('a'), 'm-1.safetensors'),
    source(shard('bb'), 'm-2.safetensors'),
  ]
  const model = await client.uploadModel(files)
  assert.equal(model.tensorCount, 2)
  assert.equal(model.id, await modelId(files))
  assert.equal(
    model.id,
    storedModelId(files.map(({ name, content, sha256 }) => ({ name, sizeBytes: content.size, sha256 }))),
  )
})

test('a wrong hash, a file that is no model and an unknown id are errors with their codes, and not tried again', async (t) => {
  const { client, stored } = await connected(t)
  const wrong = { ...source(tinyModel()), sha256: 'a'.repeat(64) }
  const codes: string[] = []
  for (const attempt of [
    () => client.uploadModel([wrong]),
    () => client.uploadModel([{ name: 'a.txt', content: new Blob(['hello']) }]),
    () => client.uploadDataset({ name: 'd.npz', content: new Blob(['hello']) }),
    () => client.call('getModel', { path: { id: 'nowhere' } }),
    () => client.createJob({ model: 'a'.repeat(64), recipe: 'int8' }),
  ]) {
    await assert.rejects(attempt, (error) => {
      assert.ok(error instanceof TensorpressError, String(error))
      codes.push(error.code)
      return true
    })
  }
  assert.deepEqual(codes, ['checksum_mismatch', 'format_unrecognised', 'dataset_invalid', 'not_found', 'not_found'])
  assert.deepEqual(stored(), [])
})

test('compress: upload, job, every change of it, and the artifact in spite of broken connections', async (t) => {
  const { client, proxy } = await connected(t)
  const dataset = npzBytes({ x: f4([2, 3], [1, 2, 3, 4, 5, 6]) })
  const states: string[] = []
  const { model, job } = await client.compress([source(tinyModel())], {
    recipe: { ...fakeRecipe('ok') },
    onJob(seen: Job) {
      if (states.at(-1) !== seen.state) states.push(seen.state)
      if (seen.state === 'running') proxy.cutAll()
    },
  })
  assert.equal(model.id, sha256(tinyModel()))
  assert.equal(job.state, 'succeeded')
  assert.equal(states.at(-1), 'succeeded')
  const [file] = await client.artifacts(job.id)
  const pieces: Uint8Array[] = []
  for await (const piece of client.download(file!)) pieces.push(piece)
  assert.equal(sha256(Buffer.concat(pieces)), file!.sha256)
  const report = await client.report(job.id)
  assert.equal(report.jobId, job.id)
  assert.match(await client.reportPage(job.id), /^<!doctype html>/i)
  assert.equal((await client.uploadDataset(source(dataset, 'd.npz'))).id, sha256(dataset))
})

test('a download that breaks goes on where it was, of the same file only', async (t) => {
  const bytes = seededBytes(3 << 20, 6)
  const ranges: (string | undefined)[] = []
  let etag = sha256(bytes)
  const server = createServer((request, response) => {
    ranges.push(request.headers.range)
    const from = Number(/\d+/.exec(request.headers.range ?? '0')![0])
    if (from > 0 && request.headers['if-match'] !== `"${etag}"`) return void response.writeHead(412).end()
    response.writeHead(from > 0 ? 206 : 200, { 'Content-Length': bytes.length - from })
    response.write(bytes.subarray(from, from + (1 << 20)), () => {
      if (from + (1 << 20) >= bytes.length) response.end()
      else response.destroy()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const client = createClient({ baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  const file = { url: '/v1/jobs/j/artifacts/a', sizeBytes: bytes.length, sha256: etag }
  const pieces: Uint8Array[] = []
  for await (const piece of client.download(file)) pieces.push(piece)
  assert.ok(Buffer.concat(pieces).equals(bytes))
  assert.equal(ranges[0], undefined)
  assert.ok(
    ranges.slice(1).every((range) => /^bytes=\d+-$/.test(range ?? '')),
    ranges.join(),
  )
  etag = 'another'
  const again = async () => {
    for await (const piece of client.download(file)) assert.ok(piece.byteLength > 0)
  }
  await assert.rejects(again, (error) => {
    assert.ok(error instanceof ConnectionError)
    assert.equal(error.status, 412)
    return true
  })
})

test('patience ends: a server that stays away is reported, and soon when nobody waits', async () => {
  const client = createClient({ baseUrl: 'http://127.0.0.1:9', retrySeconds: 1 })
  const start = Date.now()
  await assert.rejects(client.uploadModel([source(tinyModel())]), (error) => {
    assert.ok(error instanceof ConnectionError)
    assert.match(error.message, /http:\/\/127\.0\.0\.1:9 cannot be reached/)
    return true
  })
  assert.ok(Date.now() - start < 5000)
})

test('aborting ends an upload at once and frees its space', async (t) => {
  const { client, stored } = await connected(t)
  const controller = new AbortController()
  const reason = new Error('enough')
  const upload = client.uploadModel([source(bigModel(40, 9))], {
    signal: controller.signal,
    onProgress: (done) => {
      if (done > 0) controller.abort(reason)
    },
  })
  await assert.rejects(upload, reason)
  assert.deepEqual(stored(), [])
})

test('an answer that is not from Tensorpress is told as such', async (t) => {
  const server = createServer((_request, response) => response.writeHead(404).end('<html>nginx</html>'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const client = createClient({ baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` })
  await assert.rejects(client.call('listModels'), /answered 404, and not as Tensorpress does/)
})

test('an answer that breaks off in the middle of its JSON is asked for again', async (t) => {
  let asked = 0
  const body = JSON.stringify({ items: [], next: null, padding: 'x'.repeat(100_000) })
  const server = createServer((_request, response) => {
    asked++
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length })
    if (asked > 1) response.end(body)
    else response.write(body.slice(0, 50_000), () => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const client = createClient({ baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  assert.deepEqual((await client.call('listModels')).items, [])
  assert.equal(asked, 2)
})
