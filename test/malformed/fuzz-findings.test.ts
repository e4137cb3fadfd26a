// What the fuzz campaign has found, each as the smallest input that showed it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { openModel } from '../../src/formats/index.ts'
import type { ModelReader } from '../../src/tensor/model.ts'
import { externalTensor, node, onnxBytes, onnxModel, value } from '../support/build-onnx.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'

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
