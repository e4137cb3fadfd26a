// Each storage form, on each operator it is for, written with hand-made quantization, loaded and run in onnxruntime: the
// outputs stay close to those of the original.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { ModelProto } from 'onnx-buf'
import { openModel } from '../../src/formats/index.ts'
import type { EncodePlan, ModelReader, TensorInfo } from '../../src/tensor/model.ts'
import {
  floatTensor,
  graph,
  intTensor,
  type ModelOptions,
  node,
  onnxBytes,
  onnxModel,
  value,
  weightValues,
} from '../support/build-onnx.ts'
import { encodeModel } from '../support/plan-encoding.ts'
import { floatInput, runOnnx } from '../support/run-onnx.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { writeLayout } from '../support/write-layout.ts'

/** Encodings by name, made for the tensor at hand; null where the format says that they are not legal. */
const FORMS: Record<string, (tensor: TensorInfo) => EncodePlan | null> = {
  dense: () => ({ kind: 'dense' }),
  float16: () => ({ kind: 'float16' }),
  bfloat16: ({ encodings }) => (encodings.bfloat16.ok ? { kind: 'bfloat16' } : null),
  'int8 per channel': (tensor) => scaled(tensor, 8, true, true),
  'int8 per tensor': (tensor) => scaled(tensor, 8, false, true),
  'uint8 per channel': (tensor) => scaled(tensor, 8, true, false),
  'int4 tensors': (tensor) => scaled(tensor, 4, true, true),
  'uint4 tensors': (tensor) => scaled(tensor, 4, true, false),
  'blocks of 4 bits': (tensor) => blocks(tensor, 4, 32, true),
  'blocks of 4 bits with zero points': (tensor) => blocks(tensor, 4, 16, false),
  'blocks of 8 bits': (tensor) => blocks(tensor, 8, 32, true),
  'dynamic int8': ({ encodings: { 'dynamic-int8': support } }) =>
    support.ok && support.matrix ? { kind: 'dynamic-int8', clip: { kind: 'none' }, matrix: support.matrix } : null,
}

/** Largest relative error of the outputs. int8 activations add to 4-bit and dynamic forms; `dense` prunes below 0.1. */
const TOLERANCE: Record<string, number> = {
  dense: 0.2,
  float16: 2e-3,
  bfloat16: 1e-2,
  'int8 per channel': 2e-2,
  'int8 per tensor': 2e-2,
  'uint8 per channel': 2e-2,
  'int4 tensors': 0.3,
  'uint4 tensors': 0.25,
  'blocks of 4 bits': 0.25,
  'blocks of 4 bits with zero points': 0.2,
  'blocks of 8 bits': 3e-2,
  'dynamic int8': 5e-2,
}

function scaled(tensor: TensorInfo, bits: 8 | 4, perChannel: boolean, symmetric: boolean): EncodePlan | null {
  const support = tensor.encodings[bits === 8 ? 'scaled-int8' : 'scaled-int4']
  if (!support.ok) return null
  const axis = perChannel ? support.channelAxis : null
  const granularity = axis === null ? 'tensor' : 'channel'
  return { kind: 'scaled-int', bits, granularity, axis, symmetric, clip: { kind: 'none' }, deadZone: null }
}

function blocks(tensor: TensorInfo, bits: 8 | 4, blockSize: number, symmetric: boolean): EncodePlan | null {
  const support = tensor.encodings['block-packed']
  if (!support.ok || !support.matrix) return null
  return { kind: 'block-packed', bits, blockSize, symmetric, clip: { kind: 'none' }, matrix: support.matrix }
}

interface Case {
  model: ModelProto
  feed: { dims: number[]; name: string }
  /** Names of the tensors that are weights here. */
  weights: string[]
}

const MATMUL = {
  nodes: [node('MatMul', ['x', 'w'], ['y'])],
  inputs: [value('x', [3, 80])],
  outputs: [value('y', [3, 24])],
}

function matMul(options: ModelOptions): ModelProto {
  return onnxModel({ ...MATMUL, initializers: [floatTensor('w', [80, 24], 1)] }, options)
}

function gemm(transB: boolean, beta: number, opset: number): ModelProto {
  const attributes = { transB: transB ? 1 : 0, beta: { float: beta } }
  return onnxModel(
    {
      nodes: [node('Gemm', ['x', 'w', 'c'], ['y'], attributes)],
      inputs: [value('x', [3, 80])],
      outputs: [value('y', [3, 24])],
      initializers: [floatTensor('w', transB ? [24, 80] : [80, 24], 2), floatTensor('c', [24], 3)],
    },
    { opset },
  )
}

const CASES: Record<string, Case> = {
  'MatMul at opset 7': { model: matMul({ opset: 7, ir: 3 }), feed: { name: 'x', dims: [3, 80] }, weights: ['w'] },
  'MatMul at opset 21': { model: matMul({ opset: 21, ir: 10 }), feed: { name: 'x', dims: [3, 80] }, weights: ['w'] },
  'Gemm with transB and beta 0.5': {
    model: gemm(true, 0.5, 13),
    feed: { name: 'x', dims: [3, 80] },
    weights: ['w'],
  },
  'Gemm without transB': { model: gemm(false, 1, 9), feed: { name: 'x', dims: [3, 80] }, weights: ['w'] },
  'Gemm with beta 0': { model: gemm(false, 0, 21), feed: { name: 'x', dims: [3, 80] }, weights: ['w'] },
  'MatMul behind Reshape and Transpose': {
    model: onnxModel(
      {
        nodes: [
          node('Reshape', ['w', 'shape'], ['w2']),
          node('Transpose', ['w2'], ['w3'], { perm: [1, 0] }),
          node('Identity', ['w3'], ['w4']),
          node('MatMul', ['x', 'w4'], ['y']),
        ],
        inputs: [value('x', [3, 80])],
        outputs: [value('y', [3, 24])],
        initializers: [floatTensor('w', [24, 8, 10], 4), intTensor('shape', [24, -1])],
      },
      { opset: 13 },
    ),
    feed: { name: 'x', dims: [3, 80] },
    weights: ['w'],
  },
  'a Constant node at opset 8': {
    model: onnxModel(
      { ...MATMUL, nodes: [node('Constant', [], ['w'], { value: floatTensor('', [80, 24], 5) }), ...MATMUL.nodes] },
      { opset: 8, ir: 3 },
    ),
    feed: { name: 'x', dims: [3, 80] },
    weights: ['w'],
  },
  'a Constant node at opset 21': {
    model: onnxModel(
      { ...MATMUL, nodes: [node('Constant', [], ['w'], { value: floatTensor('', [80, 24], 6) }), ...MATMUL.nodes] },
      { opset: 21, ir: 10 },
    ),
    feed: { name: 'x', dims: [3, 80] },
    weights: ['w'],
  },
  'a weight that is also an input': {
    model: onnxModel(
      { ...MATMUL, inputs: [value('x', [3, 80]), value('w', [80, 24])], initializers: [floatTensor('w', [80, 24], 7)] },
      { opset: 8, ir: 3 },
    ),
    feed: { name: 'x', dims: [3, 80] },
    weights: ['w'],
  },
  'one weight used by two products': {
    model: onnxModel(
      {
        nodes: [node('MatMul', ['x', 'w'], ['h']), node('MatMul', ['h', 'w'], ['y'])],
        inputs: [value('x', [3, 48])],
        outputs: [value('y', [3, 48])],
        initializers: [floatTensor('w', [48, 48], 8)],
      },
      { opset: 21, ir: 10 },
    ),
    feed: { name: 'x', dims: [3, 48] },
    weights: ['w'],
  },
  Conv: {
    model: onnxModel(
      {
        nodes: [node('Conv', ['x', 'w', 'b'], ['y'], { kernel_shape: [3, 3] })],
        inputs: [value('x', [1, 6, 8, 8])],
        outputs: [value('y', [1, 10, 6, 6])],
        initializers: [floatTensor('w', [10, 6, 3, 3], 9), floatTensor('b', [10], 10)],
      },
      { opset: 21, ir: 10 },
    ),
    feed: { name: 'x', dims: [1, 6, 8, 8] },
    weights: ['w'],
  },
  ConvTranspose: {
    model: onnxModel(
      {
        nodes: [node('ConvTranspose', ['x', 'w'], ['y'], { kernel_shape: [2, 2], strides: [2, 2] })],
        inputs: [value('x', [1, 6, 4, 4])],
        outputs: [value('y', [1, 10, 8, 8])],
        initializers: [floatTensor('w', [6, 10, 2, 2], 11)],
      },
      { opset: 11 },
    ),
    feed: { name: 'x', dims: [1, 6, 4, 4] },
    weights: ['w'],
  },
  'LSTM, its weights cut and joined': {
    model: onnxModel(
      {
        nodes: [
          node('Unsqueeze', ['w', 'axes'], ['w1']),
          node('LSTM', ['x', 'w1', 'r', 'b'], ['y'], { hidden_size: 12 }),
        ],
        inputs: [value('x', [5, 1, 9])],
        outputs: [value('y', [5, 1, 1, 12])],
        initializers: [
          floatTensor('w', [48, 9], 12),
          floatTensor('r', [1, 48, 12], 13),
          floatTensor('b', [1, 96], 14),
          intTensor('axes', [0]),
        ],
      },
      { opset: 14 },
    ),
    feed: { name: 'x', dims: [5, 1, 9] },
    weights: ['w', 'r'],
  },
  'branches of If, one capturing an outer weight': {
    model: onnxModel(
      {
        nodes: [
          node('ReduceSum', ['x'], ['sum'], { keepdims: 0 }),
          node('Cast', ['sum'], ['condition'], { to: 9 }),
          node('If', ['condition'], ['y'], {
            then_branch: graph({
              nodes: [
                node('Constant', [], ['w_then'], { value: floatTensor('', [80, 24], 15) }),
                node('MatMul', ['x', 'w_then'], ['part']),
                node('MatMul', ['x', 'w_outer'], ['part2']),
                node('Add', ['part', 'part2'], ['y_then']),
              ],
              outputs: [value('y_then', [3, 24])],
            }),
            else_branch: graph({
              nodes: [node('MatMul', ['x', 'w_else'], ['y_else'])],
              outputs: [value('y_else', [3, 24])],
              initializers: [floatTensor('w_else', [80, 24], 16)],
            }),
          }),
        ],
        inputs: [value('x', [3, 80])],
        outputs: [value('y', [3, 24])],
        initializers: [floatTensor('w_outer', [80, 24], 17)],
      },
      { opset: 11 },
    ),
    feed: { name: 'x', dims: [3, 80] },
    weights: ['w_outer', 'if_y.then_branch/w_then', 'if_y.else_branch/w_else'],
  },
}

function relativeError(before: ArrayLike<number>, after: ArrayLike<number>): number {
  assert.equal(after.length, before.length)
  let error = 0
  let norm = 0
  for (let i = 0; i < before.length; i++) {
    error += (before[i]! - after[i]!) ** 2
    norm += before[i]! ** 2
  }
  return Math.sqrt(error / norm)
}

async function open(t: TestContext, folder: string, model: ModelProto): Promise<ModelReader> {
  const reader = await openModel(writeFiles(folder, { 'in.onnx': onnxBytes(model) }))
  t.after(() => reader.close())
  return reader
}

for (const [what, { model, feed, weights }] of Object.entries(CASES)) {
  test(`${what}: every legal form loads and stays close`, async (t) => {
    const folder = tempFolder(t)
    const reader = await open(t, folder, model)
    for (const name of weights)
      assert.ok(
        reader.tensors.some((tensor) => tensor.name === name),
        `${name} is listed`,
      )
    const feeds = {
      [feed.name]: floatInput(
        feed.dims,
        weightValues(
          feed.dims.reduce((product, dim) => product * dim, 1),
          99,
          1,
        ),
      ),
    }
    const requests = [{ path: join(folder, 'in.onnx'), feeds }]
    const forms: string[] = []
    for (const [form, choose] of Object.entries(FORMS)) {
      for (const externalData of [false, true]) {
        const { plans, parts } = await encodeModel(reader, (tensor) =>
          weights.includes(tensor.name) ? choose(tensor) : null,
        )
        if (parts.size < weights.length) continue
        const fileName = `${forms.length}.onnx`
        const layout = reader.layout(plans, { externalData, shardBytes: null, fileName })
        const written = await writeLayout(reader, layout, (tensor, part) => parts.get(tensor)!.get(part)!)
        writeFiles(folder, Object.fromEntries(written))
        requests.push({ path: join(folder, fileName), feeds })
        forms.push(form)
      }
    }
    const [before, ...after] = await runOnnx(requests)
    for (const [index, outputs] of after.entries()) {
      const form = forms[index]!
      const error = relativeError(before!['y']!.values, outputs['y']!.values)
      assert.ok(error <= TOLERANCE[form]!, `${form}: relative error ${error}`)
    }
    t.diagnostic(`${new Set(forms).size} forms`)
  })
}
