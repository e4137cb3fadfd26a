// What the reader says of the constants of a model: where they live, how they are used, what may be done with them and why not.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { create } from '@bufbuild/protobuf'
import {
  FunctionProtoSchema,
  type ModelProto,
  OperatorSetIdProtoSchema,
  SparseTensorProtoSchema,
  type TensorProto,
  TensorProtoSchema,
} from 'onnx-buf'
import { AppError } from '../../src/errors.ts'
import { openModel } from '../../src/formats/index.ts'
import type { ModelReader, TensorInfo } from '../../src/tensor/model.ts'
import {
  floatTensor,
  graph,
  intTensor,
  node,
  ONNX,
  onnxBytes,
  onnxModel,
  rawTensor,
  sparseAttribute,
  value,
} from '../support/build-onnx.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'

async function open(t: TestContext, model: ModelProto): Promise<ModelReader> {
  const reader = await openModel(writeFiles(tempFolder(t), { 'm.onnx': onnxBytes(model) }))
  t.after(() => reader.close())
  return reader
}

function tensor(reader: ModelReader, name: string): TensorInfo {
  const found = reader.tensors.find((candidate) => candidate.name === name)
  return found ?? assert.fail(`no tensor ${name} among ${reader.tensors.map((candidate) => candidate.name)}`)
}

async function bytesOf(reader: ModelReader, info: TensorInfo): Promise<number[]> {
  const length = info.data.kind === 'file' ? info.data.lengthBytes : info.data.bytes.length
  const bytes = new Uint8Array(length)
  await reader.read(info.data, 0, bytes)
  return [...bytes]
}

test('roles follow the operators behind constant views, and channel axes are told in the stored shape', async (t) => {
  const reader = await open(
    t,
    onnxModel({
      nodes: [
        node('Reshape', ['w', 'to_matrix'], ['w_matrix']),
        node('MatMul', ['x', 'w_matrix'], ['a']),
        node('Transpose', ['turned'], ['w_kn'], { perm: [1, 0] }),
        node('MatMul', ['a', 'w_kn'], ['b']),
        node('Add', ['b', 'bias'], ['c']),
        node('LayerNormalization', ['c', 'gamma', 'beta'], ['d']),
        node('Gather', ['table', 'ids'], ['e']),
        node('Mul', ['d', 'gain'], ['y']),
        node('Add', ['e', 'position'], ['z']),
      ],
      inputs: [value('x', [2, 256]), value('ids', [2], ONNX.i64)],
      outputs: [value('y', [2, 6]), value('z', [2, 6])],
      initializers: [
        floatTensor('w', [16, 4, 4, 10], 1),
        intTensor('to_matrix', [256, 10]),
        floatTensor('turned', [6, 10], 2),
        floatTensor('bias', [6], 3),
        floatTensor('gamma', [6], 4),
        floatTensor('beta', [6], 5),
        floatTensor('table', [50, 6], 6),
        floatTensor('gain', [6], 7),
        floatTensor('position', [2, 6], 8),
      ],
    }),
  )
  const facts = reader.tensors.map(({ name, roles, channelAxis }) => [name, roles.join(), channelAxis])
  assert.deepEqual(facts, [
    ['w', 'matmul', 3],
    ['to_matrix', 'other', null],
    ['turned', 'matmul', 0],
    ['bias', 'bias', null],
    ['gamma', 'norm', null],
    ['beta', 'norm', null],
    ['table', 'gather', 0],
    ['gain', 'norm', null],
    ['position', 'other', null],
  ])
  const packed = (name: string) => tensor(reader, name).encodings['block-packed']
  assert.deepEqual(packed('w'), { ok: true, channelAxis: 3, matrix: { k: 256, n: 10, order: 'kn' } })
  assert.deepEqual(packed('turned'), { ok: true, channelAxis: 0, matrix: { k: 10, n: 6, order: 'nk' } })
  assert.deepEqual(packed('table'), {
    ok: false,
    reason: 'encoding_unsupported',
    detail: 'used by Gather, not by a MatMul or Gemm',
  })
  assert.deepEqual(tensor(reader, 'w').uses, [{ op: 'MatMul', node: 'matmul_a', inputIndex: 1 }])
})

test('an embedding tied to the output product keeps its per-row axis and is not packed', async (t) => {
  const reader = await open(
    t,
    onnxModel({
      nodes: [
        node('Gather', ['table', 'ids'], ['h']),
        node('Transpose', ['table'], ['head'], { perm: [1, 0] }),
        node('MatMul', ['h', 'head'], ['y']),
      ],
      inputs: [value('ids', [2], ONNX.i64)],
      outputs: [value('y', [2, 40])],
      initializers: [floatTensor('table', [40, 8], 1)],
    }),
  )
  const table = tensor(reader, 'table')
  assert.deepEqual(table.roles.toSorted(), ['gather', 'matmul'])
  assert.equal(table.channelAxis, 0)
  assert.equal(table.encodings['scaled-int8'].ok, true)
  const packed = table.encodings['block-packed']
  assert.equal(packed.ok ? null : packed.reason, 'shared_with_other_op')
})

test('products in index notation, joined projections and embeddings of contributed operators are weights', async (t) => {
  const contrib = { domain: 'com.microsoft' }
  const reader = await open(
    t,
    onnxModel(
      {
        nodes: [
          node('Einsum', ['x', 'heads'], ['a'], { equation: 'bsd, dhk -> bshk' }),
          node('Einsum', ['a', 'same'], ['b'], { equation: 'bshk,bshk->bs' }),
          node('Attention', ['x', 'joined', 'joined_bias'], ['c'], { num_heads: 2 }, contrib),
          node('EmbedLayerNormalization', ['ids', '', 'words', 'places', '', 'gamma', 'beta'], ['d'], {}, contrib),
        ],
        inputs: [value('x', [1, 2, 8]), value('ids', [1, 2], ONNX.i32)],
        outputs: ['b', 'c', 'd'].map((name) => value(name, ['n'])),
        initializers: [
          floatTensor('heads', [8, 2, 4], 1),
          floatTensor('same', [1, 2, 2, 4], 2),
          floatTensor('joined', [8, 24], 3),
          floatTensor('joined_bias', [24], 4),
          floatTensor('words', [50, 8], 5),
          floatTensor('places', [16, 8], 6),
          floatTensor('gamma', [8], 7),
          floatTensor('beta', [8], 8),
        ],
      },
      { domains: ['com.microsoft'] },
    ),
  )
  assert.deepEqual(
    reader.tensors.map(({ name, roles, channelAxis }) => [name, roles.join(), channelAxis]),
    [
      ['heads', 'matmul', 2],
      ['same', 'matmul', null],
      ['joined', 'matmul', 1],
      ['joined_bias', 'bias', null],
      ['words', 'gather', 0],
      ['places', 'gather', 0],
      ['gamma', 'norm', null],
      ['beta', 'norm', null],
    ],
  )
})

test('a Gemm with transA or alpha, a left operand, and a vector activation are not replaced', async (t) => {
  const reader = await open(
    t,
    onnxModel({
      nodes: [
        node('Gemm', ['x', 'a'], ['y1'], { transA: 1 }),
        node('Gemm', ['x', 'b'], ['y2'], { alpha: { float: 2 } }),
        node('MatMul', ['c', 'x'], ['y3']),
        node('MatMul', ['v', 'd'], ['y4']),
      ],
      inputs: [value('x', [8, 8]), value('v', [8])],
      outputs: ['y1', 'y2', 'y3', 'y4'].map((name) => value(name, ['n'])),
      initializers: ['a', 'b', 'c', 'd'].map((name, seed) => floatTensor(name, [8, 8], seed)),
    }),
  )
  for (const name of ['a', 'b', 'c', 'd']) {
    const packed = tensor(reader, name).encodings['block-packed']
    assert.equal(packed.ok ? null : packed.reason, 'encoding_unsupported', name)
  }
  assert.deepEqual(
    reader.tensors.map(({ channelAxis }) => channelAxis),
    [1, 1, 0, 1],
  )
})

const scanBody = graph({
  nodes: [node('MatMul', ['in', 'w_scan'], ['out']), node('MatMul', ['in', 'w_captured'], ['out2'])],
  inputs: [value('in', [4, 8])],
  outputs: [value('out', [4, 8]), value('out2', [4, 8])],
  initializers: [floatTensor('w_scan', [8, 8], 1)],
})

test('weights of Scan bodies and functions are locked; one captured by a Scan body only keeps its product', async (t) => {
  const fn = create(FunctionProtoSchema, {
    name: 'Project',
    domain: 'local',
    input: ['p'],
    output: ['q'],
    node: [node('Constant', [], ['w_fn'], { value: floatTensor('', [8, 8], 2) }), node('MatMul', ['p', 'w_fn'], ['q'])],
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 17n })],
  })
  const reader = await open(
    t,
    onnxModel(
      {
        nodes: [
          node('Scan', ['x'], ['s', 's2'], { num_scan_inputs: 1, body: scanBody }),
          node('Project', ['s'], ['y'], {}, { domain: 'local' }),
        ],
        inputs: [value('x', [3, 4, 8])],
        outputs: [value('y', [3, 4, 8]), value('s2', [3, 4, 8])],
        initializers: [floatTensor('w_captured', [8, 8], 3)],
      },
      { functions: [fn], domains: ['local'] },
    ),
  )
  assert.deepEqual(
    reader.tensors.map(({ name, locked }) => [name, locked?.reason ?? null]),
    [
      ['w_captured', null],
      ['scan_s.body/w_scan', 'inside_scan'],
      ['local.Project/w_fn', 'inside_function'],
    ],
  )
  const { encodings } = tensor(reader, 'w_captured')
  assert.equal(encodings['scaled-int8'].ok, true)
  assert.equal(encodings['block-packed'].ok ? null : encodings['block-packed'].reason, 'inside_scan')
  assert.deepEqual(reader.summary.notes, ['weights inside model-local functions are left as they are'])
})

test('sparse tensors, graph outputs and other element types are locked with their reasons', async (t) => {
  const sparse = create(SparseTensorProtoSchema, {
    values: floatTensor('s', [2], 1),
    indices: intTensor('', [1, 5]),
    dims: [8n, 8n],
  })
  const reader = await open(
    t,
    onnxModel({
      nodes: [
        node('Constant', [], ['sc'], {}, { extra: [sparseAttribute('sparse_value', sparse)] }),
        node('Cast', ['half'], ['half32'], { to: 1 }),
        node('Cast', ['bytes'], ['bytes32'], { to: 1 }),
        node('MatMul', ['x', 's'], ['a']),
        node('MatMul', ['a', 'sc'], ['b']),
        node('MatMul', ['b', 'half32'], ['c']),
        node('MatMul', ['c', 'bytes32'], ['y']),
      ],
      inputs: [value('x', [2, 8])],
      outputs: [value('y', [2, 8]), value('shown', [8, 8])],
      initializers: [
        floatTensor('shown', [8, 8], 2),
        rawTensor('half', ONNX.f16, [8, 8], new Uint16Array(64)),
        rawTensor('bytes', ONNX.i8, [8, 8], new Int8Array(64)),
        rawTensor('double', ONNX.f64, [8], new Float64Array(8)),
        rawTensor('counts', ONNX.i32, [8], new Int32Array(8)),
      ],
      sparse: [sparse],
    }),
  )
  assert.deepEqual(
    reader.tensors.map(({ name, shape, locked }) => [name, shape, locked?.reason]),
    [
      ['shown', [8, 8], 'not_a_weight'],
      ['half', [8, 8], 'already_compressed'],
      ['bytes', [8, 8], 'already_compressed'],
      ['double', [8], 'dtype_unsupported'],
      ['counts', [8], 'not_float'],
      ['s', [8, 8], 'sparse'],
      ['sc', [8, 8], 'sparse'],
    ],
  )
})

test('a model that is compressed already says how, and its values and scales are locked', async (t) => {
  const codes = rawTensor('q', ONNX.i8, [16, 16], new Int8Array(256))
  const reader = await open(
    t,
    onnxModel(
      {
        nodes: [
          node('DequantizeLinear', ['q', 'q_scale', 'q_zero'], ['w']),
          node('MatMul', ['x', 'w'], ['a']),
          node(
            'MatMulNBits',
            ['a', 'b', 'b_scale'],
            ['y'],
            { K: 16, N: 16, bits: 4, block_size: 16 },
            {
              domain: 'com.microsoft',
            },
          ),
        ],
        inputs: [value('x', [2, 16])],
        outputs: [value('y', [2, 16])],
        initializers: [
          codes,
          floatTensor('q_scale', [16], 1),
          rawTensor('q_zero', ONNX.i8, [16], new Int8Array(16)),
          rawTensor('b', ONNX.u8, [16, 1, 8], new Uint8Array(128)),
          floatTensor('b_scale', [16, 1], 2),
        ],
      },
      { domains: ['com.microsoft'] },
    ),
  )
  assert.deepEqual(reader.summary.alreadyCompressed, ['MatMulNBits 4-bit', 'int8 QDQ'])
  assert.deepEqual(
    reader.tensors.map(({ name, locked }) => [name, locked?.reason]),
    [
      ['q', 'already_compressed'],
      ['q_scale', 'not_a_weight'],
      ['q_zero', 'not_a_weight'],
      ['b', 'already_compressed'],
      ['b_scale', 'not_a_weight'],
    ],
  )
})

test('the scale and zero point of integers that are cast to float are no weights of their own', async (t) => {
  const reader = await open(
    t,
    onnxModel({
      nodes: [
        node('Cast', ['q'], ['q32'], { to: 1 }),
        node('Sub', ['q32', 'zero'], ['centred']),
        node('Mul', ['centred', 'scale'], ['w']),
        node('MatMul', ['x', 'w'], ['y']),
      ],
      inputs: [value('x', [2, 16])],
      outputs: [value('y', [2, 16])],
      initializers: [
        rawTensor('q', ONNX.u8, [16, 16], new Uint8Array(256)),
        floatTensor('zero', [1, 16], 1),
        floatTensor('scale', [1, 16], 2),
      ],
    }),
  )
  assert.deepEqual(reader.summary.alreadyCompressed, ['uint8 Cast'])
  assert.deepEqual(
    reader.tensors.map(({ name, locked }) => [name, locked?.reason]),
    [
      ['q', 'already_compressed'],
      ['zero', 'not_a_weight'],
      ['scale', 'not_a_weight'],
    ],
  )
})

function typed(name: string, dataType: number, dims: number[], fields: Partial<TensorProto>): TensorProto {
  const tensor = create(TensorProtoSchema, { name, dataType, dims: dims.map(BigInt) })
  return Object.assign(tensor, fields)
}

test('typed data fields of every kind are read as little-endian elements', async (t) => {
  const long = Array.from({ length: 600 }, (_, i) => i * 300 - 70_000)
  const reader = await open(
    t,
    onnxModel({
      nodes: [node('Identity', ['x'], ['y'])],
      inputs: [value('x', [1])],
      outputs: [value('y', [1])],
      initializers: [
        typed('f32', ONNX.f32, [2], { floatData: [1, -2] }),
        typed('f64', ONNX.f64, [1], { doubleData: [1] }),
        typed('f16', ONNX.f16, [2], { int32Data: [0x3c00, 0xc000] }),
        typed('i8', ONNX.i8, [3], { int32Data: [-1, 2, -128] }),
        typed('i4', ONNX.i4, [3], { int32Data: [0x2f, 0x01] }),
        typed('i32', ONNX.i32, [1], { int32Data: [-2] }),
        typed('i64', ONNX.i64, [2], { int64Data: [-1n, 2n ** 40n] }),
        typed('u64', 13, [1], { uint64Data: [2n ** 64n - 1n] }),
        typed('u32', 12, [1], { uint64Data: [2n ** 32n - 1n] }),
        typed('long', ONNX.i32, [600], { int32Data: long }),
        typed('empty', ONNX.f32, [0, 7], {}),
        typed('text', 8, [2], { stringData: [new Uint8Array([1]), new Uint8Array([2])] }),
      ],
    }),
  )
  const bytes = async (name: string) => bytesOf(reader, tensor(reader, name))
  assert.deepEqual(await bytes('f32'), [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0])
  assert.deepEqual(await bytes('f64'), [0, 0, 0, 0, 0, 0, 0xf0, 0x3f])
  assert.deepEqual(await bytes('f16'), [0, 0x3c, 0, 0xc0])
  assert.deepEqual(await bytes('i8'), [0xff, 2, 0x80])
  assert.deepEqual(await bytes('i4'), [0x2f, 0x01])
  assert.deepEqual(await bytes('i32'), [0xfe, 0xff, 0xff, 0xff])
  assert.deepEqual(await bytes('i64'), [...Array(8).fill(0xff), 0, 0, 0, 0, 0, 1, 0, 0])
  assert.deepEqual(await bytes('u64'), Array(8).fill(0xff))
  assert.deepEqual(await bytes('u32'), Array(4).fill(0xff))
  assert.deepEqual([...new Int32Array(Uint8Array.from(await bytes('long')).buffer)], long)
  assert.deepEqual(await bytes('empty'), [])
  assert.deepEqual(tensor(reader, 'text').locked?.reason, 'not_float')
})

test('opsets 7 to 26 open fully, older ones with nothing but pruning, newer ones not at all', async (t) => {
  const model = (opset: number, ir = 8) =>
    onnxModel(
      {
        nodes: [node('MatMul', ['x', 'w'], ['y'])],
        inputs: [value('x', [1, 8])],
        outputs: [value('y', [1, 8])],
        initializers: [floatTensor('w', [8, 8], 1)],
      },
      { opset, ir },
    )
  const legal = async (opset: number): Promise<string[]> => {
    const { encodings } = tensor(await open(t, model(opset)), 'w')
    return Object.entries(encodings).flatMap(([kind, support]) => (support.ok ? [kind] : []))
  }
  const fromSeven = ['dense', 'float16', 'scaled-int8', 'block-packed', 'dynamic-int8']
  assert.deepEqual(await legal(6), ['dense'])
  assert.deepEqual(await legal(7), fromSeven)
  assert.deepEqual(await legal(13), fromSeven.toSpliced(2, 0, 'bfloat16'))
  assert.deepEqual(await legal(26), fromSeven.toSpliced(2, 0, 'bfloat16').toSpliced(4, 0, 'scaled-int4'))
  const old = tensor(await open(t, model(6)), 'w').encodings['scaled-int8']
  assert.deepEqual(old, {
    ok: false,
    reason: 'opset_too_old',
    detail: 'Cast from int8 and broadcasting Mul needs opset 7; the model has 6',
  })
  for (const [opset, ir, says] of [
    [27, 8, /uses opset 27; 1 to 26 are read/],
    [17, 14, /ir_version 14; up to 13 is read/],
  ] as const) {
    await assert.rejects(open(t, model(opset, ir)), (error) => {
      assert.ok(error instanceof AppError)
      assert.equal(error.code, 'opset_unsupported')
      assert.match(error.detail, says)
      return true
    })
  }
})

test('inputs that are initializers are not inputs of the model, and dynamic dimensions keep their names', async (t) => {
  const reader = await open(
    t,
    onnxModel({
      nodes: [node('MatMul', ['x', 'w'], ['y'])],
      inputs: [value('x', ['batch', 8]), value('w', [8, 8])],
      outputs: [value('y', ['batch', 8])],
      initializers: [floatTensor('w', [8, 8], 1)],
    }),
  )
  assert.deepEqual(reader.summary, {
    format: 'onnx',
    irVersion: 8,
    opset: 17,
    producer: 'test',
    inputs: [{ name: 'x', dtype: 'f32', shape: ['batch', 8] }],
    outputs: [{ name: 'y', dtype: 'f32', shape: ['batch', 8] }],
    metadata: { author: 'nobody' },
    alreadyCompressed: [],
    notes: [],
  })
})
