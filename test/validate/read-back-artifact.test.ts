// Artifacts that the executor wrote, read back: the CPU's dequantization of the file must agree with what the compare kernels
// measured, tensor by tensor, for every preset that safetensors admits.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openModel } from '../../src/formats/index.ts'
import { compressModel } from '../../src/jobs/compress-job.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import { readBack } from '../../src/validate/read-back.ts'
import { buildSafetensors, f32Bytes, type TestTensor } from '../support/build-safetensors.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { sourceFile } from '../support/validate-spec.ts'
import { weights } from '../support/weights.ts'
import { referenceDevice } from '../support/with-device.ts'

function tensor(name: string, shape: number[]): TestTensor {
  const elements = shape.reduce((a, b) => a * b, 1)
  return { name, dtype: 'F32', shape, data: f32Bytes([...weights(elements)]) }
}

const MODEL = [
  tensor('layer.0.weight', [24, 128]),
  tensor('layer.1.weight', [40, 50]),
  tensor('conv.weight', [8, 4, 3, 3]),
  tensor('layer.0.bias', [24]),
]

for (const preset of ['int8', 'int4', 'int4-asym-b128', 'fp16', 'bf16', 'prune-50', 'prune-50+int8', 'deadzone-8']) {
  test(`reads ${preset} back with the errors that the kernels measured`, async (t) => {
    const folder = tempFolder(t)
    const outputDir = join(folder, 'out')
    mkdirSync(outputDir)
    const files = writeFiles(folder, { 'm.safetensors': buildSafetensors(MODEL, { author: 'test' }) })
    const reader = await openModel(files)
    t.after(() => reader.close())
    const output = { externalData: 'auto', shardBytes: null, fileName: 'a.safetensors' } as const
    const result = await compressModel(
      reader,
      { recipe: resolveRecipe(preset).recipe, output, outputDir, measure: true },
      referenceDevice(),
      { signal: new AbortController().signal, progress: () => undefined },
    )
    const artifact = sourceFile(join(outputDir, 'a.safetensors'))
    const found = await readBack(files, [artifact], result.tensors, () => {})
    const compressed = result.tensors.filter(({ action }) => action === 'compress')
    assert.equal(found.changedTensors, compressed.length)
    assert.ok(compressed.length >= 2)
    for (const { name, measure } of compressed) {
      const stored = found.tensors.find((row) => row.name === name)!
      assert.equal(stored.maxAbsError, measure!.maxAbsError, name)
      assert.ok(
        Math.abs(stored.sqnrDb! - measure!.sqnrDb!) < 0.01,
        `${name}: ${stored.sqnrDb} and ${measure!.sqnrDb} dB`,
      )
      assert.ok(Math.abs(stored.cosine! - measure!.cosine!) < 1e-6, name)
    }
  })
}
