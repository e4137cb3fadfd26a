import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { gatherModel } from '../../src/local/model-files.ts'
import { openOutput, outputTarget } from '../../src/local/output-files.ts'

const folder = await mkdtemp(join(tmpdir(), 'tensorpress-local-'))
after(() => rm(folder, { recursive: true, force: true }))

async function files(name: string, contents: Record<string, string>): Promise<string> {
  const path = join(folder, name)
  for (const [file, text] of Object.entries(contents)) {
    await mkdir(join(path, file, '..'), { recursive: true })
    await writeFile(join(path, file), text)
  }
  return path
}

const none = async () => []

async function rejectsWith(code: string, pattern: RegExp, work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error) => error instanceof AppError && error.code === code && pattern.test(error.detail))
}

test('a file is the model, and the files it names come along in the order named', async () => {
  const path = await files('onnx', { 'm.onnx': 'abc', 'weights/w.bin': '12345', 'b.bin': '1', 'stranger.bin': '' })
  const model = await gatherModel(join(path, 'm.onnx'), async () => ['weights/w.bin', 'b.bin', 'b.bin'])
  assert.deepEqual(
    model.files.map(({ name, sizeBytes }) => [name, sizeBytes]),
    [
      ['m.onnx', 3],
      ['weights/w.bin', 5],
      ['b.bin', 1],
    ],
  )
  assert.deepEqual([model.stem, model.isFolder], ['m', false])
})

test('names that leave the folder are not opened, here or by the reader', async () => {
  const path = await files('escape', { 'm.onnx': 'x' })
  await files('.', { 'secret.bin': 'secret' })
  const model = await gatherModel(join(path, 'm.onnx'), async () => ['../secret.bin', '/etc/passwd', 'a\0b'])
  assert.deepEqual(
    model.files.map(({ name }) => name),
    ['m.onnx'],
  )
})

test('external data behind a symbolic link is refused, shards may be links', async () => {
  const path = await files('links', { 'm.onnx': 'x', 'x.safetensors.index.json': '{}', 'other/real.bin': '12' })
  await symlink('other/real.bin', join(path, 'w.bin'))
  await rejectsWith(
    'external_data_invalid',
    /"w\.bin" of "m\.onnx" is a symbolic link/,
    gatherModel(join(path, 'm.onnx'), async () => ['w.bin']),
  )
  const sharded = await gatherModel(join(path, 'x.safetensors.index.json'), async () => ['w.bin'])
  assert.equal(sharded.files[1]?.sizeBytes, 2)
})

test('a folder stands for its index, or for its only model', async () => {
  const sharded = await files('llm', {
    'model.safetensors.index.json': '{}',
    'model-00001-of-00002.safetensors': 'a',
    'model-00002-of-00002.safetensors': 'b',
  })
  const model = await gatherModel(sharded, none)
  assert.equal(model.files[0]?.name, 'model.safetensors.index.json')
  assert.deepEqual([model.stem, model.isFolder], ['llm', true])
  const single = await files('single', { 'README.md': '', 'net.onnx': 'x' })
  assert.equal((await gatherModel(single, none)).files[0]?.name, 'net.onnx')
})

test('a folder with several models or none is refused with what it holds', async () => {
  const several = await files('several', { 'a.safetensors': '', 'b.safetensors': '' })
  await rejectsWith(
    'format_unrecognised',
    /holds 2 \.safetensors files \(a\.safetensors, b\.safetensors\)/,
    gatherModel(several, none),
  )
  const empty = await files('empty', { 'README.md': '' })
  await rejectsWith('format_unrecognised', /holds no model/, gatherModel(empty, none))
})

test('a missing file is named', async () => {
  await rejectsWith('not_found', /"nowhere\.onnx" does not exist/, gatherModel('nowhere.onnx', none))
})

test('the output is named after model and recipe unless -o says otherwise', async () => {
  const path = await files('target', { 'net.onnx': 'x' })
  const model = await gatherModel(join(path, 'net.onnx'), none)
  assert.equal((await outputTarget(model, 'prune-50+int8', undefined)).fileName, 'net.prune-50+int8.onnx')
  assert.deepEqual(await outputTarget(model, 'int8', join(path, 'out.onnx')), { folder: path, fileName: 'out.onnx' })
  assert.deepEqual(await outputTarget(model, 'a b/c', path), { folder: path, fileName: 'net.a-b-c.onnx' })
  assert.deepEqual(await outputTarget({ ...model, isFolder: true }, 'int8', join(path, 'dir')), {
    folder: join(path, 'dir'),
    fileName: 'net.onnx',
  })
})

test('files appear in the target only when published, and no temporary folder stays', async () => {
  const target = { folder: join(folder, 'made'), fileName: 'a.onnx' }
  const output = await openOutput(target, false)
  await writeFile(join(output.temporaryFolder, 'a.onnx'), 'A')
  await writeFile(join(output.temporaryFolder, 'a.onnx.data'), 'D')
  assert.equal(existsSync(join(target.folder, 'a.onnx')), false)
  const published = await output.publish(output.temporaryFolder, ['a.onnx.data', 'a.onnx'])
  await output.discard()
  assert.deepEqual(published, [join(target.folder, 'a.onnx.data'), join(target.folder, 'a.onnx')])
  assert.deepEqual((await readdir(target.folder)).sort(), ['a.onnx', 'a.onnx.data'])
})

test('a discarded output leaves nothing, not even the folder it made', async () => {
  const target = { folder: join(folder, 'never', 'made'), fileName: 'a.onnx' }
  const output = await openOutput(target, false)
  await writeFile(join(output.temporaryFolder, 'a.onnx'), 'half')
  await output.discard()
  assert.equal(existsSync(target.folder), false)
})

test('an existing output is kept without --force and replaced with it', async () => {
  const path = await files('existing', { 'a.onnx': 'old' })
  const target = { folder: path, fileName: 'a.onnx' }
  await rejectsWith('conflict', /exists already; use --force/, openOutput(target, false))
  const output = await openOutput(target, true)
  await writeFile(join(output.temporaryFolder, 'a.onnx'), 'new')
  await output.publish(output.temporaryFolder, ['a.onnx'])
  await output.discard()
  assert.equal(await readFile(join(path, 'a.onnx'), 'utf8'), 'new')
})

test('an output that appeared meanwhile is kept, and what was published with it is taken back', async () => {
  const path = await files('race', {})
  await mkdir(path, { recursive: true })
  const output = await openOutput({ folder: path, fileName: 'a.onnx' }, false)
  await writeFile(join(output.temporaryFolder, 'a.onnx'), 'mine')
  await writeFile(join(output.temporaryFolder, 'a.data'), 'mine')
  await writeFile(join(path, 'a.onnx'), 'theirs')
  await rejectsWith('conflict', /exists already/, output.publish(output.temporaryFolder, ['a.data', 'a.onnx']))
  await output.discard()
  assert.deepEqual(await readdir(path), ['a.onnx'])
  assert.equal(await readFile(join(path, 'a.onnx'), 'utf8'), 'theirs')
})

test('what a killed run left is cleared by the next one', async () => {
  const path = await files('left', { '.tensorpress-999999999-abc/half.onnx': 'x' })
  const output = await openOutput({ folder: path, fileName: 'a.onnx' }, false)
  await output.discard()
  assert.deepEqual(await readdir(path), [])
})
