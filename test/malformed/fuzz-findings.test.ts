// What the fuzz campaign has found, each as the smallest input that showed it.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { openModel } from '../../src/formats/index.ts'
import type { ModelReader } from '../../src/tensor/model.ts'
import { openDataset } from '../../src/validate/dataset.ts'
import { externalTensor, node, onnxBytes, onnxModel, value } from '../support/build-onnx.ts'
import { buildSafetensors, f32Bytes } from '../support/build-safetensors.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { f4, writeNpz } from '../support/write-npz.ts'

async function refusal(open: Promise<ModelReader>): Promise<AppError> {
  try {
    await (await open).close()
  } catch (error) {
    assert.ok(error instanceof AppError, `an AppError, not ${error}`)
    return error
  }
  return assert.fail('the model was opened')
}

test('a refusal that quotes a name of 100,000 characters stays short', async (t) => {
  const name = 'n'.repeat(100_000)
  const bytes = onnxBytes(
    onnxModel({
      nodes: [node('MatMul', ['x', name], ['y'])],
      inputs: [value('x', [2, 2])],
      outputs: [value('y', [2, 2])],
      initializers: [externalTensor(name, [2, 2], { location: '../w' })],
    }),
  )
  const error = await refusal(openModel(writeFiles(tempFolder(t), { 'm.onnx': bytes })))
  assert.equal(error.code, 'external_data_invalid')
  assert.ok(error.detail.length < 2000, `${error.detail.length}`)
  assert.match(
    error.detail,
    /^"m\.onnx": tensor "nnnn.*n \[\.\.\. 9\d{4} characters \.\.\.\] n.*leaves the folder of the model$/,
  )
  assert.ok(JSON.stringify(error.context).length < 2000)
})

test('a byte order mark at the start of a name is part of the name', async (t) => {
  const folder = tempFolder(t)
  const tensors = ['w', '\ufeffw'].map((name, i) => ({ name, dtype: 'F32', shape: [1], data: f32Bytes([i]) }))
  const reader = await openModel(writeFiles(folder, { 'm.safetensors': buildSafetensors(tensors) }))
  t.after(() => reader.close())
  assert.deepEqual(
    reader.tensors.map(({ name }) => name),
    ['w', '\ufeffw'],
  )
  const path = join(folder, 'd.npz')
  writeNpz(path, { x: f4([1], [1]), '\ufeffx': f4([1], [2]) })
  const dataset = await openDataset(path)
  t.after(() => dataset.close())
  assert.deepEqual(
    dataset.arrays.map(({ name }) => name),
    ['x', '\ufeffx'],
  )
})
