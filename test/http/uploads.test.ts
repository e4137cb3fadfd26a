// /v1/uploads over a real service: the tus 1.0 protocol, what becomes of a complete upload, sets, limits, and hostile requests.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import * as tus from 'tus-js-client'
import { parseApiKeys } from '../../src/access/api-key.ts'
import { fixedRing } from '../../src/access/key-ring.ts'
import type { Service } from '../../src/jobs/service.ts'
import { buildSafetensors, f32Bytes } from '../support/build-safetensors.ts'
import { listening } from '../support/http-app.ts'
import { tinyModel } from '../support/start-service.ts'
import { metadataOf, uploadApp } from '../support/upload-app.ts'
import { f4, npzBytes } from '../support/write-npz.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const NAME = { filename: 'tiny.safetensors' }

test('the last byte makes the model, and every later question finds it', async (t) => {
  const { create, send, call, stored } = await uploadApp(t)
  const bytes = tinyModel()
  const path = await create(bytes.length, { ...NAME, note: 'größe' })
  assert.match(path, /^\/v1\/uploads\/[0-9a-f-]{36}$/)
  const first = await send(path, 0, bytes.subarray(0, 100)).expect(204)
  assert.equal(first.headers['upload-offset'], '100')
  assert.ok(Date.parse(first.headers['upload-expires']!) > Date.now() + 80_000_000)
  assert.equal(first.headers['tensorpress-result'], undefined)

  const between = await call('head', path).expect(200)
  assert.equal(between.headers['upload-offset'], '100')
  assert.equal(between.headers['upload-length'], String(bytes.length))
  assert.equal(between.headers['upload-metadata'], metadataOf({ ...NAME, note: 'größe' }))
  assert.equal(between.headers['cache-control'], 'no-store')

  const last = await send(path, 100, bytes.subarray(100)).expect(204)
  const result = `/v1/models/${sha256(bytes)}`
  assert.equal(last.headers['upload-offset'], String(bytes.length))
  assert.equal(last.headers['tensorpress-result'], result)
  assert.equal((await call('head', path).expect(200)).headers['tensorpress-result'], result)
  const { body } = await call('get', path).expect(200)
  assert.equal(body.state, 'finished')
  assert.equal(body.model, sha256(bytes))
  assert.equal(body.links.result, result)
  const model = await call('get', result).expect(200)
  assert.deepEqual(model.body.files, [{ name: 'tiny.safetensors', sizeBytes: bytes.length, sha256: sha256(bytes) }])
  assert.deepEqual(stored(), [], 'the bytes lie in the model only')
})

test('a creation may bring the bytes along', async (t) => {
  const { call } = await uploadApp(t)
  const bytes = tinyModel(2)
  const made = await call('post', '/v1/uploads')
    .set('Upload-Length', String(bytes.length))
    .set('Upload-Metadata', metadataOf(NAME))
    .set('Content-Type', 'application/offset+octet-stream')
    .send(Buffer.from(bytes))
    .expect(201)
  assert.equal(made.headers['upload-offset'], String(bytes.length))
  assert.equal(made.headers['tensorpress-result'], `/v1/models/${sha256(bytes)}`)
})

test('kind "dataset" makes a dataset', async (t) => {
  const { create, send } = await uploadApp(t)
  const bytes = npzBytes({ x: f4([2, 3], [1, 2, 3, 4, 5, 6]) })
  const path = await create(bytes.length, { filename: 'd.npz', kind: 'dataset' })
  const last = await send(path, 0, bytes).expect(204)
  assert.equal(last.headers['tensorpress-result'], `/v1/datasets/${sha256(bytes)}`)
})

test('an announced hash that does not fit is refused, and nothing is kept', async (t) => {
  const { create, send, call, stored, dataDir } = await uploadApp(t)
  const bytes = tinyModel()
  const path = await create(bytes.length, { ...NAME, sha256: sha256(tinyModel(2)) })
  const refused = await send(path, 0, bytes).expect(422)
  assert.equal(refused.body.code, 'checksum_mismatch')
  assert.deepEqual(refused.body.context, {
    file: 'tiny.safetensors',
    expected: sha256(tinyModel(2)),
    found: sha256(bytes),
  })
  assert.deepEqual(stored(), [])
  assert.deepEqual(readdirSync(join(dataDir, 'models')), [])
  const later = await call('get', path).expect(200)
  assert.equal(later.body.state, 'refused')
  assert.equal(later.body.error.code, 'checksum_mismatch')
  await call('head', path).expect(422)
  const fits = await create(bytes.length, { ...NAME, sha256: sha256(bytes) })
  await send(fits, 0, bytes).expect(204)
})

test('a file that is no model is refused with its own code, and the reason stays to be read', async (t) => {
  const { create, send, call, stored } = await uploadApp(t)
  const path = await create(5, { filename: 'a.txt' })
  assert.equal((await send(path, 0, Buffer.from('hello')).expect(422)).body.code, 'format_unrecognised')
  assert.equal((await call('get', path).expect(200)).body.error.code, 'format_unrecognised')
  assert.equal((await send(path, 5, Buffer.from('')).expect(422)).body.code, 'format_unrecognised')
  assert.deepEqual(stored(), [])
})

/** A model of two shards with its index. */
function shards(): Record<string, Uint8Array> {
  const shard = (name: string, value: number) =>
    buildSafetensors([{ name, dtype: 'F32', shape: [4, 4], data: f32Bytes(Array(16).fill(value)) }])
  const index = { metadata: {}, weight_map: { a: 'm-1.safetensors', b: 'm-2.safetensors' } }
  return {
    'm.safetensors.index.json': Buffer.from(JSON.stringify(index)),
    'm-1.safetensors': shard('a', 1),
    'm-2.safetensors': shard('b', 2),
  }
}

test('files of one set become one model by one more call, which may be repeated', async (t) => {
  const { create, send, call, stored } = await uploadApp(t)
  const ids: string[] = []
  for (const [filename, bytes] of Object.entries(shards())) {
    const path = await create(bytes.length, { filename, set: 'checkpoint-7', sha256: sha256(bytes) })
    const last = await send(path, 0, bytes).expect(204)
    assert.equal(last.headers['tensorpress-result'], undefined)
    assert.equal((await call('get', path)).body.state, 'stored')
    ids.push(path.split('/').at(-1)!)
  }
  const made = await call('post', '/v1/upload-sets').send({ uploads: ids }).expect(201)
  assert.deepEqual(
    made.body.files.map(({ name }: { name: string }) => name),
    ['m.safetensors.index.json', 'm-1.safetensors', 'm-2.safetensors'],
  )
  assert.equal(made.body.tensorCount, 2)
  assert.deepEqual(stored(), [])
  const again = await call('post', '/v1/upload-sets').send({ uploads: ids }).expect(200)
  assert.equal(again.body.id, made.body.id)
  const part = await call('get', `/v1/uploads/${ids[1]}`).expect(200)
  assert.equal(part.body.model, made.body.id)
})

test('a set whose file is missing says so, keeps the others, and goes on when it has come', async (t) => {
  const { create, send, call } = await uploadApp(t)
  const files = shards()
  const add = async (filename: string) => {
    const path = await create(files[filename]!.length, { filename, set: 's' })
    await send(path, 0, files[filename]!).expect(204)
    return path.split('/').at(-1)!
  }
  const uploads = [await add('m.safetensors.index.json'), await add('m-1.safetensors')]
  const refused = await call('post', '/v1/upload-sets').send({ uploads }).expect(422)
  assert.match(refused.body.detail, /m-2\.safetensors/)
  uploads.push(await add('m-2.safetensors'))
  await call('post', '/v1/upload-sets').send({ uploads }).expect(201)
})

test('a file that is being joined is not deleted, and one that is being deleted is not joined; nothing is lost', async (t) => {
  const { create, send, call, service } = await uploadApp(t)
  const paths: string[] = []
  for (const [filename, bytes] of Object.entries(shards())) {
    const path = await create(bytes.length, { filename, set: 's' })
    await send(path, 0, bytes).expect(204)
    paths.push(path)
  }
  const uploads = paths.map((path) => path.split('/').at(-1)!)
  const joined = service.uploads.commitSet(uploads)
  await assert.rejects(service.uploads.remove(uploads[1]!), { code: 'conflict', context: { upload: uploads[1] } })
  const { view, created } = await joined
  assert.equal(created, true)
  await call('get', `/v1/models/${view.id}`).expect(200)

  const removed = service.uploads.remove(uploads[1]!)
  await assert.rejects(service.uploads.commitSet(uploads), { code: 'conflict' })
  await removed
  await call('get', paths[1]!).expect(404)
  await call('delete', paths[0]!).expect(204)
})

test('what became a model counts once in the store at every moment', async (t) => {
  const usages: ReturnType<Service['health']>[] = []
  const { create, send, service } = await uploadApp(t, {
    // Told when the model has its row, before anything else happens.
    hooks: { uploaded: () => usages.push(service.health()) },
  })
  const bytes = tinyModel()
  await send(await create(bytes.length, NAME), 0, bytes).expect(204)
  const ids: string[] = []
  let setBytes = 0
  for (const [filename, part] of Object.entries(shards())) {
    const path = await create(part.length, { filename, set: 's' })
    await send(path, 0, part).expect(204)
    ids.push(path.split('/').at(-1)!)
    setBytes += part.length
  }
  await service.uploads.commitSet(ids)
  const npz = npzBytes({ x: f4([1], [1]) })
  await send(await create(npz.length, { filename: 'd.npz', kind: 'dataset' }), 0, npz).expect(204)
  const found = (await Promise.all(usages)).map(({ store: { usage } }) => [
    usage.modelBytes,
    usage.datasetBytes,
    usage.uploadBytes,
  ])
  assert.deepEqual(found, [
    [bytes.length, 0, 0],
    [bytes.length + setBytes, 0, 0],
    [bytes.length + setBytes, npz.length, 0],
  ])
})

test('what does not belong together is not joined', async (t) => {
  const { create, send, call } = await uploadApp(t)
  const bytes = tinyModel()
  const id = (path: string) => path.split('/').at(-1)!
  const one = await create(bytes.length, { filename: 'a', set: 's' })
  const twin = await call('post', '/v1/uploads')
    .set('Upload-Length', '5')
    .set('Upload-Metadata', metadataOf({ filename: 'a', set: 's' }))
    .expect(409)
  assert.equal(twin.body.context.upload, id(one))
  const half = await call('post', '/v1/upload-sets')
    .send({ uploads: [id(one)] })
    .expect(409)
  assert.deepEqual(half.body.context, { upload: id(one), offset: 0, sizeBytes: bytes.length })
  await send(one, 0, bytes).expect(204)
  const other = await create(bytes.length, { filename: 'b', set: 'another' })
  await send(other, 0, bytes).expect(204)
  const alone = await create(3, { filename: 'b' })
  for (const uploads of [[id(one), id(other)], [id(alone)], [id(one), id(one)], []]) {
    const refused = await call('post', '/v1/upload-sets').send({ uploads }).expect(400)
    assert.equal(refused.body.code, 'request_invalid')
  }
  await call('post', '/v1/upload-sets')
    .send({ uploads: ['nowhere'] })
    .expect(404)
  const dataset = await call('post', '/v1/uploads')
    .set('Upload-Length', '5')
    .set('Upload-Metadata', metadataOf({ filename: 'd.npz', kind: 'dataset', set: 's' }))
    .expect(400)
  assert.equal(dataset.body.context.path, 'Upload-Metadata.set')
})

test('limits hold before bytes are taken', async (t) => {
  const { create, send, call } = await uploadApp(t, {
    limits: { uploadBytes: 2000, datasetBytes: 1000, openUploads: 3, uploadParts: 2 },
  })
  const attempt = (size: number, metadata: Record<string, string>) =>
    call('post', '/v1/uploads').set('Upload-Length', String(size)).set('Upload-Metadata', metadataOf(metadata))
  assert.equal((await attempt(2001, NAME).expect(413)).body.code, 'body_too_large')
  const dataset = await attempt(1001, { filename: 'd.npz', kind: 'dataset' }).expect(413)
  assert.deepEqual(dataset.body.context, { limit: 'datasetBytes', allowed: 1000, requested: 1001 })
  await create(1500, { filename: 'a', set: 's' })
  const sum = await attempt(501, { filename: 'b', set: 's' }).expect(413)
  assert.deepEqual(sum.body.context, { limit: 'uploadBytes', allowed: 2000, requested: 2001 })
  await create(100, { filename: 'b', set: 's' })
  const third = await attempt(1, { filename: 'c', set: 's' }).expect(413)
  assert.deepEqual(third.body.context, { limit: 'uploadParts', allowed: 2, requested: 3 })
  const path = await create(5, { filename: 'x' })
  const many = await attempt(5, { filename: 'y' }).expect(429)
  assert.deepEqual(many.body.context, { limit: 'openUploads', allowed: 3, requested: 4 })
  assert.equal(many.headers['retry-after'], '5')
  await send(path, 0, Buffer.from('12345')).expect(422)
  await create(5, { filename: 'y' })
})

test('one key may have so many uploads open; the others go on', async (t) => {
  const secret = 'A'.repeat(43)
  const keys = fixedRing(parseApiKeys(`ann:submit:${secret}1 bob:submit:${secret}2`, 'keys'))
  const { call } = await uploadApp(t, { keys, limits: { openUploads: 3, openUploadsPerKey: 1 } })
  const as = (who: number, method: Parameters<typeof call>[0], path: string) =>
    call(method, path).set('Authorization', `Bearer ${secret}${who}`)
  const begin = (who: number) =>
    as(who, 'post', '/v1/uploads').set('Upload-Length', '10').set('Upload-Metadata', metadataOf(NAME))
  const path = (await begin(1).expect(201)).headers['location']!
  const refused = await begin(1).expect(429)
  assert.equal(refused.body.code, 'too_many_uploads')
  assert.deepEqual(refused.body.context, { limit: 'openUploadsPerKey', allowed: 1, requested: 2 })
  assert.match(refused.body.detail, /"ann"/)
  await begin(2).expect(201)
  await as(1, 'delete', path).expect(204)
  await begin(1).expect(201)
})

test('a disk that cannot hold what is announced refuses it at the creation', async (t) => {
  const { call } = await uploadApp(t, { limits: { uploadBytes: 1e15 } })
  const refused = await call('post', '/v1/uploads')
    .set('Upload-Length', String(5e14))
    .set('Upload-Metadata', metadataOf(NAME))
    .expect(507)
  assert.equal(refused.body.code, 'disk_full')
})

test('DELETE gives an upload up', async (t) => {
  const { create, send, call, stored } = await uploadApp(t)
  const path = await create(100, NAME)
  await send(path, 0, Buffer.alloc(50)).expect(204)
  assert.equal(stored().length, 1)
  await call('delete', path).expect(204)
  assert.deepEqual(stored(), [])
  await call('head', path).expect(404)
  await call('delete', path).expect(404)
  await call('get', path).expect(404)
})

test('OPTIONS tells version, extensions and the largest upload; other methods are refused by name', async (t) => {
  const { call } = await uploadApp(t)
  const { headers } = await call('options', '/v1/uploads').expect(204)
  assert.equal(headers['tus-version'], '1.0.0')
  assert.equal(headers['tus-extension'], 'creation,creation-with-upload,termination,expiration')
  assert.equal(headers['tus-max-size'], String(32 * 1024 ** 3))
  const refused = await call('put', '/v1/uploads').expect(405)
  assert.equal(refused.headers['allow'], 'OPTIONS, POST')
  const one = await call('put', '/v1/uploads/x').expect(405)
  assert.equal(one.headers['allow'], 'HEAD, GET, PATCH, DELETE')
})

test('hostile requests are refused by name and leave nothing', async (t) => {
  const { create, send, call, stored, dataDir } = await uploadApp(t)
  const post = (headers: Record<string, string>) => call('post', '/v1/uploads').set(headers)
  const metadata = metadataOf(NAME)
  const cases: [Record<string, string>, number, string][] = [
    [{ 'Upload-Length': '-1', 'Upload-Metadata': metadata }, 400, 'request_invalid'],
    [{ 'Upload-Length': '1e3', 'Upload-Metadata': metadata }, 400, 'request_invalid'],
    [{ 'Upload-Length': '0x10', 'Upload-Metadata': metadata }, 400, 'request_invalid'],
    [{ 'Upload-Length': '99999999999999999999', 'Upload-Metadata': metadata }, 400, 'request_invalid'],
    [{ 'Upload-Metadata': metadata }, 400, 'request_invalid'],
    [{ 'Upload-Length': '5' }, 400, 'request_invalid'],
    [{ 'Upload-Length': '5', 'Upload-Metadata': 'filename not!base64' }, 400, 'request_invalid'],
    [{ 'Upload-Length': '5', 'Upload-Metadata': `${metadata},${metadata}` }, 400, 'request_invalid'],
    [{ 'Upload-Length': '5', 'Upload-Metadata': metadataOf({ ...NAME, kind: 'shell' }) }, 400, 'request_invalid'],
    [{ 'Upload-Length': '5', 'Upload-Metadata': metadataOf({ ...NAME, sha256: 'ABC' }) }, 400, 'request_invalid'],
    [{ 'Upload-Length': '5', 'Upload-Metadata': metadataOf({ ...NAME, set: '../x' }) }, 400, 'request_invalid'],
    [{ 'Upload-Defer-Length': '1', 'Upload-Metadata': metadata }, 422, 'feature_unsupported'],
    [{ 'Upload-Length': '5', 'Upload-Metadata': metadata, 'Upload-Concat': 'partial' }, 422, 'feature_unsupported'],
    [{ 'Upload-Length': '5', 'Upload-Metadata': metadata, 'Tus-Resumable': '0.2.2' }, 412, 'precondition_failed'],
  ]
  for (const [headers, status, code] of cases) {
    const refused = await post(headers).expect(status)
    assert.equal(refused.body.code, code, JSON.stringify(headers))
  }
  for (const filename of ['../../etc/passwd', '/etc/passwd', 'a/../b', 'a\\b', 'a\0b', '', 'x'.repeat(300)]) {
    const refused = await post({ 'Upload-Length': '5', 'Upload-Metadata': metadataOf({ filename }) }).expect(400)
    assert.equal(refused.body.code, 'request_invalid', filename)
  }
  assert.deepEqual(stored(), [])

  const path = await create(10, NAME)
  const ten = Buffer.from('0123456789')
  for (const offset of [-1, 0.5, 5, 11]) {
    const refused = await send(path, offset, ten)
    assert.ok([400, 409, 413].includes(refused.status), `${offset}: ${refused.status}`)
  }
  assert.equal((await send(path, 0, Buffer.from('01234567890')).expect(413)).body.code, 'body_too_large')
  const wrongType = await call('patch', path).set('Upload-Offset', '0').set('Content-Type', 'text/plain').send('x')
  assert.equal(wrongType.status, 415)
  const wrongBody = await post({
    'Upload-Length': '10',
    'Upload-Metadata': metadata,
    'Content-Type': 'text/plain',
  }).send('x')
  assert.equal(wrongBody.status, 415)
  const noOffset = await call('patch', path).set('Content-Type', 'application/offset+octet-stream').send(ten)
  assert.equal(noOffset.status, 400)
  for (const id of ['foreign', '..%2f..%2fcatalog.sqlite', '%00', '__proto__', 'x'.repeat(500)]) {
    await send(`/v1/uploads/${id}`, 0, ten).expect(404)
    await call('head', `/v1/uploads/${id}`).expect(404)
    await call('delete', `/v1/uploads/${id}`).expect(404)
  }
  assert.equal((await call('head', path).expect(200)).headers['upload-offset'], '0')
  assert.equal(stored().length, 1)
  assert.ok(existsSync(join(dataDir, 'catalog.sqlite')))
})

test('an upload belongs to the key that began it; to other keys it is not there', async (t) => {
  const secret = 'A'.repeat(43)
  const keys = fixedRing(
    parseApiKeys(`ann:submit:${secret}1 bob:submit,read:${secret}2 eve:read:${secret}3 ops:admin:${secret}4`, 'keys'),
  )
  const { call } = await uploadApp(t, { keys })
  const as = (who: number, method: Parameters<typeof call>[0], path: string) =>
    call(method, path).set('Authorization', `Bearer ${secret}${who}`)
  const begin = (who: number) =>
    as(who, 'post', '/v1/uploads').set('Upload-Length', '10').set('Upload-Metadata', metadataOf(NAME))
  const path = (await begin(1).expect(201)).headers['location']!
  for (const method of ['get', 'head', 'delete'] as const) await as(2, method, path).expect(404)
  const bytes = 'application/offset+octet-stream'
  await as(2, 'patch', path).set('Upload-Offset', '0').set('Content-Type', bytes).send(Buffer.from('x')).expect(404)
  await as(2, 'post', '/v1/upload-sets')
    .send({ uploads: [path.split('/').at(-1)] })
    .expect(404)
  assert.equal((await begin(3).expect(403)).body.code, 'forbidden')
  await call('get', path).expect(401)
  await as(1, 'head', path).expect(200)
  await as(4, 'delete', path).expect(204)
})

test('metadata beyond the header limit is refused before it is read', async (t) => {
  const { app } = await uploadApp(t)
  const port = await listening(t, app)
  const answer = await fetch(`http://127.0.0.1:${port}/v1/uploads`, {
    method: 'POST',
    headers: { 'Tus-Resumable': '1.0.0', 'Upload-Length': '5', 'Upload-Metadata': `filename ${'AAAA'.repeat(5000)}` },
  })
  assert.equal(answer.status, 431)
})

test('a connection that breaks keeps what has arrived', async (t) => {
  const { app, create, send, call } = await uploadApp(t)
  const port = await listening(t, app)
  const bytes = tinyModel(3, 1 << 18)
  const path = await create(bytes.length, NAME)
  const socket = createConnection(port, '127.0.0.1')
  socket.write(
    `PATCH ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: ${bytes.length}\r\n\r\n`,
  )
  await new Promise<void>((resolve) => socket.write(bytes.subarray(0, 300_000), () => resolve()))
  let offset = 0
  while (offset < 300_000) {
    // HEAD asks the open PATCH to put down what it has.
    offset = Number((await call('head', path).expect(200)).headers['upload-offset'])
    socket.destroy()
  }
  assert.equal(offset, 300_000)
  const last = await send(path, offset, bytes.subarray(offset)).expect(204)
  assert.equal(last.headers['tensorpress-result'], `/v1/models/${sha256(bytes)}`)
})

test('a stock tus client uploads a model in chunks without knowing this server', async (t) => {
  const { app, call } = await uploadApp(t)
  const port = await listening(t, app)
  const bytes = tinyModel(4, 1 << 16)
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const upload = new tus.Upload(Buffer.from(bytes), {
    endpoint: `http://127.0.0.1:${port}/v1/uploads`,
    chunkSize: 50_000,
    metadata: NAME,
    onSuccess: () => resolve(upload.url!),
    onError: reject,
  })
  upload.start()
  const { body } = await call('get', new URL(await promise).pathname).expect(200)
  assert.equal(body.model, sha256(bytes))
})
