// Receiving files: hashing, limits, names, and nothing left behind.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import { type DataFolder, openDataFolder } from '../../src/store/data-folder.ts'
import { checkFileName, createStagedUpload, type UploadLimits } from '../../src/store/upload.ts'
import { tempFolder } from '../support/temp-folder.ts'

const LIMITS: UploadLimits = { maxUploadBytes: 10_000_000, sizeLimit: 'uploadBytes', maxFiles: 3, minFreeBytes: 0 }
const code = (expected: ErrorCode) => (error: unknown) => error instanceof AppError && error.code === expected

async function open(
  t: TestContext,
  limits: Partial<UploadLimits> = {},
): Promise<{ data: DataFolder; upload: Awaited<ReturnType<typeof createStagedUpload>> }> {
  const data = await openDataFolder(tempFolder(t))
  t.after(() => data.close())
  return { data, upload: await createStagedUpload(data, { ...LIMITS, ...limits }) }
}

for (const length of [0, 1, 65_536, 1_048_576, 3_000_001]) {
  test(`${length} bytes arrive as they were sent, hashed on the way`, async (t) => {
    const { upload } = await open(t)
    const bytes = randomBytes(length)
    const pieces = Array.from({ length: Math.ceil(length / 70_000) }, (_, i) =>
      bytes.subarray(i * 70_000, (i + 1) * 70_000),
    )
    const file = await upload.addFile('w.onnx', Readable.from(pieces), null)
    assert.deepEqual(file, {
      name: 'w.onnx',
      sizeBytes: length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    })
    assert.deepEqual(readFileSync(join(upload.folder, 'w.onnx')), bytes)
  })
}

test('a body that is declared too large is refused before a byte is read', async (t) => {
  const { upload } = await open(t, { maxUploadBytes: 100 })
  const stream = new PassThrough()
  await assert.rejects(upload.addFile('a', stream, 101), (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'body_too_large')
    assert.deepEqual(error.context, { limit: 'uploadBytes', allowed: 100, requested: 101 })
    return true
  })
})

test('a body that turns out too large is stopped and its file removed', async (t) => {
  const { upload } = await open(t, { maxUploadBytes: 100 })
  await upload.addFile('a', Readable.from([Buffer.alloc(60)]), null)
  await assert.rejects(upload.addFile('b', Readable.from([Buffer.alloc(41)]), null), code('body_too_large'))
  assert.deepEqual(readdirSync(upload.folder), ['a'])
})

test('a client that goes away leaves no file', async (t) => {
  const { data, upload } = await open(t)
  const stream = new PassThrough()
  stream.write(Buffer.alloc(200_000))
  setImmediate(() => stream.destroy())
  await assert.rejects(upload.addFile('a', stream, null), code('request_invalid'))
  assert.equal(existsSync(join(upload.folder, 'a')), false)
  await upload.discard()
  assert.deepEqual(readdirSync(join(data.root, 'temporary')), [])
})

test('discarding while bytes arrive ends in an error and no file', async (t) => {
  const { data, upload } = await open(t)
  const stream = new PassThrough()
  const refused = assert.rejects(upload.addFile('a', stream, null), code('request_invalid'))
  stream.write(Buffer.alloc(10))
  await upload.discard()
  stream.end()
  await refused
  assert.deepEqual(readdirSync(join(data.root, 'temporary')), [])
})

test('discarding while files are being created is no failure of the store', async (t) => {
  const { data } = await open(t)
  for (let round = 0; round < 150; round++) {
    const upload = await createStagedUpload(data, { ...LIMITS, maxFiles: 16 })
    const files = Array.from({ length: 16 }, (_, i) =>
      upload.addFile(`f${i}/w`, Readable.from([Buffer.alloc(10)]), null).catch((error: unknown) => error),
    )
    for (let turn = 0; turn < round % 12; turn++) await new Promise((resolve) => setImmediate(resolve))
    await upload.discard()
    await Promise.all(files)
    assert.equal(existsSync(upload.folder), false)
  }
})

test('more files than allowed and a name twice are refused', async (t) => {
  const { upload } = await open(t)
  const empty = () => Readable.from([Buffer.alloc(1)])
  await upload.addFile('a', empty(), null)
  await assert.rejects(upload.addFile('a', empty(), null), code('request_invalid'))
  await upload.addFile('b', empty(), null)
  await upload.addFile('c', empty(), null)
  await assert.rejects(upload.addFile('d', empty(), null), code('limit_exceeded'))
})

for (const [first, second] of [
  ['a', 'a/b'],
  ['a/b', 'a'],
  ['a/b/c', 'a/b'],
] as const) {
  test(`${JSON.stringify(second)} after ${JSON.stringify(first)} is the client's mistake, not a failure of the store`, async (t) => {
    const { upload } = await open(t)
    await upload.addFile(first, Readable.from([Buffer.alloc(1)]), null)
    await assert.rejects(upload.addFile(second, Readable.from([Buffer.alloc(1)]), null), code('request_invalid'))
    // A name that only begins alike is another one.
    assert.equal((await upload.addFile(`${first}b`, Readable.from([Buffer.alloc(1)]), null)).sizeBytes, 1)
  })
}

test('too little free space is refused before a byte is read', async (t) => {
  const { upload } = await open(t, { minFreeBytes: 2 ** 60 })
  await assert.rejects(upload.addFile('a', new PassThrough(), null), code('disk_full'))
})

for (const name of [
  '../a',
  'a/../../b',
  '/etc/passwd',
  '',
  '.',
  'a//b',
  'a\\b',
  'a\0b',
  'a\nb',
  'x'.repeat(256),
  'a/./b',
]) {
  test(`the file name ${JSON.stringify(name.slice(0, 20))} is refused`, () => {
    assert.throws(() => checkFileName(name), code('request_invalid'))
  })
}

for (const name of [
  'model.onnx',
  'onnx/model.onnx_data',
  '..data',
  'Gewichte ä.onnx',
  '模型.onnx',
  `${'x'.repeat(250)}.onnx`,
]) {
  test(`the file name ${JSON.stringify(name.slice(0, 20))} is taken`, () => {
    assert.equal(checkFileName(name), name)
  })
}
