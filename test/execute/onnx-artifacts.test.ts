// Planner, executor and ONNX writer together on one model that hides its weights in every place they can be: each preset's
// artifact runs in onnxruntime, keeps what it should, and is the same bytes every time.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { openModel } from '../../src/formats/index.ts'
import { compressModel } from '../../src/jobs/compress-job.ts'
import type { CompressionResult } from '../../src/jobs/protocol.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import type { ModelReader, OutputOptions, TensorInfo } from '../../src/tensor/model.ts'
import {
  externalTensor,
  floatTensor,
  graph,
  intTensor,
  node,
  ONNX,
  onnxBytes,
  onnxModel,
  rawTensor,
  value,
  weightValues,
} from '../support/build-onnx.ts'
import { floatInput, type RunRequest, runOnnx } from '../support/run-onnx.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { referenceDevice } from '../support/with-device.ts'

const EXTERNAL = (name: string) => externalTensor(name, [32, 32], { location: 'w.bin', offset: '128', length: '4096' })

const MODEL = onnxBytes(
  onnxModel(
    {
      nodes: [
        node('Reshape', ['folded', 'folded_shape'], ['folded_kn']),
        node('MatMul', ['x', 'folded_kn'], ['a']),
        node('Gemm', ['a', 'linear', 'bias'], ['b'], { transB: 1, beta: { float: 0.25 } }),
        node('Constant', [], ['inner'], { value: floatTensor('', [32, 32], 3) }),
        node('MatMul', ['b', 'inner'], ['c']),
        node('MatMul', ['c', 'tied_1'], ['d']),
        node('MatMul', ['d', 'tied_2'], ['e']),
        node('Gather', ['table', 'ids'], ['rows']),
        node('Transpose', ['table'], ['table_t'], { perm: [1, 0] }),
        node('MatMul', ['rows', 'table_t'], ['scores']),
        node('If', ['flag'], ['f'], {
          then_branch: graph({
            nodes: [node('MatMul', ['e', 'branch'], ['t'])],
            outputs: [value('t', [2, 32])],
            initializers: [floatTensor('branch', [32, 32], 5)],
          }),
          else_branch: graph({
            nodes: [node('MatMul', ['e', 'captured'], ['u'])],
            outputs: [value('u', [2, 32])],
          }),
        }),
        node('Cast', ['half'], ['half32'], { to: 1 }),
        node('MatMul', ['f', 'half32'], ['g']),
        node('Reshape', ['g', 'image_shape'], ['image']),
        node('Conv', ['image', 'kernel'], ['y'], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
      ],
      inputs: [value('x', [2, 48]), value('ids', [3], ONNX.i64), value('flag', [], 9), value('folded', [6, 8, 40])],
      outputs: [value('y', [1, 6, 4, 4]), value('scores', [3, 20])],
      initializers: [
        floatTensor('folded', [6, 8, 40], 1),
        intTensor('folded_shape', [48, 40]),
        floatTensor('linear', [32, 40], 2),
        floatTensor('bias', [32], 6),
        EXTERNAL('tied_1'),
        EXTERNAL('tied_2'),
        floatTensor('table', [20, 12], 4),
        floatTensor('captured', [32, 32], 7),
        rawTensor('half', ONNX.f16, [32, 32], new Float16Array(weightValues(1024, 8))),
        intTensor('image_shape', [1, 4, 4, 4]),
        floatTensor('kernel', [6, 4, 3, 3], 9),
      ],
    },
    { opset: 13 },
  ),
)
const DATA = new Uint8Array(weightValues(32 + 1024, 10).buffer)

/** Least cosine of the outputs; products in a row add up the error of 4-bit weights. */
const PRESETS: Record<string, number> = {
  int8: 0.999,
  'int8-dynamic': 0.99,
  int4: 0.9,
  'int4-asym-b128': 0.9,
  fp16: 0.9999,
  bf16: 0.999,
  'prune-50+int8': 0.3,
  'deadzone-8': 0.3,
}

const device = referenceDevice()
after(() => device.close())

async function bytesOf(reader: ModelReader, { data }: TensorInfo): Promise<Buffer> {
  const bytes = Buffer.alloc(data.kind === 'file' ? data.lengthBytes : data.bytes.length)
  await reader.read(data, 0, bytes)
  return bytes
}

async function compress(
  t: TestContext,
  folder: string,
  preset: string,
  output: Partial<OutputOptions> = {},
): Promise<{ result: CompressionResult; reader: ModelReader; artifact: ModelReader; path: string }> {
  const reader = await openModel(writeFiles(folder, { 'm.onnx': MODEL, 'w.bin': DATA }))
  t.after(() => reader.close())
  const outputDir = join(folder, `${preset}-${Object.values(output).join()}`)
  mkdirSync(outputDir)
  const options: OutputOptions = { externalData: 'auto', shardBytes: null, fileName: 'out.onnx', ...output }
  const result = await compressModel(
    reader,
    { recipe: resolveRecipe(preset).recipe, output: options, outputDir, measure: true },
    device,
    { signal: new AbortController().signal, progress: () => undefined },
  )
  const files = result.files.map(({ name }) => {
    const path = join(outputDir, name)
    return { name, path, sizeBytes: statSync(path).size }
  })
  const artifact = await openModel(files)
  t.after(() => artifact.close())
  return { result, reader, artifact, path: join(outputDir, 'out.onnx') }
}

function runOf(path: string, flag: boolean): RunRequest {
  return {
    path,
    feeds: {
      x: floatInput([2, 48], weightValues(96, 20, 1)),
      ids: { dtype: 'i64', dims: [3], data: new Uint8Array(BigInt64Array.of(0n, 7n, 19n).buffer) },
      flag: { dtype: 'bool', dims: [], data: Uint8Array.of(flag ? 1 : 0) },
    },
  }
}

function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [dot, left, right] = [0, 0, 0]
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!
    left += a[i]! ** 2
    right += b[i]! ** 2
  }
  return dot / Math.sqrt(left * right)
}

for (const [preset, least] of Object.entries(PRESETS)) {
  test(`${preset}: the artifact runs in onnxruntime, close to the original, on both branches`, async (t) => {
    const folder = tempFolder(t)
    const { result, reader, artifact, path } = await compress(t, folder, preset)
    const row = (name: string) => result.tensors.find((tensor) => tensor.name === name)!
    for (const name of [
      'folded',
      'linear',
      'inner',
      'tied_1',
      'tied_2',
      'table',
      'captured',
      'if_f.then_branch/branch',
    ]) {
      assert.equal(row(name).action, 'compress', `${name}: ${row(name).detail}`)
    }
    assert.deepEqual(
      ['bias', 'half', 'folded_shape'].map((name) => row(name).reason),
      ['bias', 'already_compressed', 'not_float'],
    )
    assert.deepEqual({ ...row('tied_2').measure, name: '' }, { ...row('tied_1').measure, name: '' })
    for (const tensor of result.tensors.filter(({ action }) => action === 'keep')) {
      const before = reader.tensors.find(({ name }) => name === tensor.name)!
      const after = artifact.tensors.find(({ name }) => name === tensor.name)!
      assert.ok((await bytesOf(reader, before)).equals(await bytesOf(artifact, after)), `${tensor.name} is unchanged`)
    }
    assert.equal(artifact.summary.opset, 13)
    assert.deepEqual(artifact.summary.inputs, reader.summary.inputs)
    assert.deepEqual(artifact.summary.outputs, reader.summary.outputs)
    const original = join(folder, 'm.onnx')
    const [yes, no, yesAfter, noAfter] = await runOnnx([
      runOf(original, true),
      runOf(original, false),
      runOf(path, true),
      runOf(path, false),
    ])
    for (const output of ['y', 'scores']) {
      const found = [
        cosine(yes![output]!.values, yesAfter![output]!.values),
        cosine(no![output]!.values, noAfter![output]!.values),
      ]
      assert.ok(Math.min(...found) >= least, `${output}: cosine ${found}`)
    }
  })
}

test('the same model and recipe give the same bytes, inline and external', async (t) => {
  const folder = tempFolder(t)
  for (const externalData of [true, false] as const) {
    const read = ({ result, path }: { result: CompressionResult; path: string }) =>
      result.files.map(({ name }) => readFileSync(join(path, '..', name)).toString('base64'))
    const first = read(await compress(t, folder, 'int4', { externalData }))
    const again = tempFolder(t)
    assert.deepEqual(read(await compress(t, again, 'int4', { externalData })), first)
    assert.equal(first.length, externalData ? 2 : 1)
  }
})
