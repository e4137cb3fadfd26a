// What the artifact's graph looks like: which names, nodes and entries change for a compressed weight, and that all else stays.

import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { create, createRegistry, equals, fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
} from 'onnx-buf'
import { AppError } from '../../src/errors.ts'
import { openModel } from '../../src/formats/index.ts'
import type { EncodePlan, FileLayout, ModelReader, OutputOptions, TensorInfo } from '../../src/tensor/model.ts'
import {
  externalTensor,
  floatTensor,
  type GraphParts,
  graph,
  intTensor,
  node,
  onnxBytes,
  onnxModel,
  value,
  weightValues,
} from '../support/build-onnx.ts'
import { encodeModel } from '../support/plan-encoding.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { keepPlans, writeLayout } from '../support/write-layout.ts'

const OPTIONS: OutputOptions = { externalData: 'auto', shardBytes: null, fileName: 'out.onnx' }
const INT8: EncodePlan = {
  kind: 'scaled-int',
  bits: 8,
  granularity: 'channel',
  axis: 1,
  symmetric: true,
  clip: { kind: 'none' },
  deadZone: null,
}

async function open(t: TestContext, bytes: Uint8Array, more: Record<string, Uint8Array> = {}): Promise<ModelReader> {
  const reader = await openModel(writeFiles(tempFolder(t), { 'in.onnx': bytes, ...more }))
  t.after(() => reader.close())
  return reader
}

interface Written {
  model: ModelProto
  graph: GraphProto
  layout: FileLayout
  files: Map<string, Uint8Array>
}

async function write(
  reader: ModelReader,
  choose: (tensor: TensorInfo) => EncodePlan | null,
  options: Partial<OutputOptions> = {},
): Promise<Written> {
  const { plans, parts } = await encodeModel(reader, choose)
  const layout = reader.layout(plans, { ...OPTIONS, ...options })
  const files = await writeLayout(reader, layout, (tensor, part) => parts.get(tensor)!.get(part)!)
  const model = fromBinary(ModelProtoSchema, files.get('out.onnx')!)
  return { model, graph: model.graph!, layout, files }
}

const only = (name: string, encode: EncodePlan) => (tensor: TensorInfo) => (tensor.name === name ? encode : null)

function matMulParts(weight: TensorProto[], more: Partial<GraphParts> = {}): GraphParts {
  return {
    nodes: [node('MatMul', ['x', 'w'], ['y'])],
    inputs: [value('x', [2, 40])],
    outputs: [value('y', [2, 16])],
    initializers: weight,
    ...more,
  }
}

const tensorFacts = (tensors: readonly TensorProto[]) =>
  tensors.map(({ name, dataType, dims }) => [name, dataType, dims.map(Number)])
const nodeFacts = (nodes: GraphProto['node']) => nodes.map(({ opType, input, output }) => [opType, input, output])

test('an int8 initializer becomes values and scale in its place, decoded under its old name', async (t) => {
  const reader = await open(
    t,
    onnxBytes(
      onnxModel(
        matMulParts([floatTensor('first', [3], 1), floatTensor('w', [40, 16], 2), floatTensor('last', [3], 3)]),
      ),
    ),
  )
  const { graph, model, layout } = await write(reader, only('w', INT8))
  assert.deepEqual(tensorFacts(graph.initializer), [
    ['first', 1, [3]],
    ['w.values', 3, [40, 16]],
    ['w.scale', 1, [1, 16]],
    ['last', 1, [3]],
  ])
  assert.deepEqual(nodeFacts(graph.node), [
    ['Cast', ['w.values'], ['w.integers']],
    ['Mul', ['w.integers', 'w.scale'], ['w']],
    ['MatMul', ['x', 'w'], ['y']],
  ])
  assert.deepEqual(
    model.opsetImport.map(({ domain, version }) => [domain, Number(version)]),
    [['', 17]],
  )
  assert.equal(model.irVersion, 8n)
  assert.deepEqual(layout.notes, [])
})

test('an asymmetric form subtracts its zero point before scaling', async (t) => {
  const reader = await open(t, onnxBytes(onnxModel(matMulParts([floatTensor('w', [40, 16], 2)]))))
  const { graph } = await write(reader, only('w', { ...INT8, symmetric: false }))
  assert.deepEqual(tensorFacts(graph.initializer), [
    ['w.values', 2, [40, 16]],
    ['w.scale', 1, [1, 16]],
    ['w.zero_point', 2, [1, 16]],
  ])
  assert.deepEqual(nodeFacts(graph.node), [
    ['Cast', ['w.values'], ['w.integers']],
    ['Cast', ['w.zero_point'], ['w.zero_point_float']],
    ['Sub', ['w.integers', 'w.zero_point_float'], ['w.centred']],
    ['Mul', ['w.centred', 'w.scale'], ['w']],
    ['MatMul', ['x', 'w'], ['y']],
  ])
})

test('a product by blocks is replaced under its own name, and the views of its weight go', async (t) => {
  const reader = await open(
    t,
    onnxBytes(
      onnxModel({
        nodes: [
          node('Identity', ['x'], ['x1'], {}, { name: 'kept' }),
          node('Reshape', ['w', 'shape'], ['w_kn'], {}, { name: 'view' }),
          node('MatMul', ['x1', 'w_kn'], ['y'], {}, { name: 'product' }),
        ],
        inputs: [value('x', [2, 40]), value('w', [4, 10, 16])],
        outputs: [value('y', [2, 16])],
        initializers: [floatTensor('w', [4, 10, 16], 1), intTensor('shape', [40, 16])],
        valueInfo: [value('w_kn', [40, 16]), value('x1', [2, 40])],
      }),
    ),
  )
  const matrix = { k: 40, n: 16, order: 'kn' } as const
  const encode: EncodePlan = {
    kind: 'block-packed',
    bits: 4,
    blockSize: 16,
    symmetric: true,
    clip: { kind: 'none' },
    matrix,
  }
  const { graph, model, layout } = await write(reader, only('w', encode))
  assert.deepEqual(tensorFacts(graph.initializer), [
    ['w.values', 2, [16, 3, 8]],
    ['w.scale', 1, [16, 3]],
    ['w.zero_point', 2, [16, 2]],
    ['shape', 7, [2]],
  ])
  assert.deepEqual([...graph.initializer[2]!.rawData.subarray(0, 4)], [0x88, 0x08, 0x88, 0x08])
  assert.deepEqual(
    graph.node.map(({ name, opType, domain, input }) => [name, opType, domain, input]),
    [
      ['kept', 'Identity', '', ['x']],
      ['product', 'MatMulNBits', 'com.microsoft', ['x1', 'w.values', 'w.scale', 'w.zero_point']],
    ],
  )
  assert.deepEqual(
    graph.node[1]!.attribute.map(({ name, i }) => [name, Number(i)]),
    [
      ['K', 40],
      ['N', 16],
      ['bits', 4],
      ['block_size', 16],
      ['accuracy_level', 4],
    ],
  )
  assert.deepEqual(
    graph.valueInfo.map(({ name }) => name),
    ['x1'],
  )
  assert.deepEqual(
    graph.input.map(({ name }) => name),
    ['x'],
  )
  assert.deepEqual(
    model.opsetImport.map(({ domain, version }) => [domain, Number(version)]),
    [
      ['', 17],
      ['com.microsoft', 1],
    ],
  )
  assert.deepEqual(layout.notes, [
    { tensor: 'w', note: '"w" lost its graph input entry' },
    { tensor: null, note: 'the operator set com.microsoft 1 was added' },
  ])
})

test('a Gemm keeps its bias: added after the product, scaled by beta', async (t) => {
  const reader = await open(
    t,
    onnxBytes(
      onnxModel({
        nodes: [node('Gemm', ['x', 'w', 'c'], ['y'], { transB: 1, beta: { float: 0.5 } }, { name: 'g' })],
        inputs: [value('x', [2, 40])],
        outputs: [value('y', [2, 16])],
        initializers: [floatTensor('w', [16, 40], 1), floatTensor('c', [16], 2)],
      }),
    ),
  )
  const matrix = { k: 40, n: 16, order: 'nk' } as const
  const { graph } = await write(reader, only('w', { kind: 'dynamic-int8', clip: { kind: 'none' }, matrix }))
  assert.deepEqual(tensorFacts(graph.initializer), [
    ['w.values', 2, [16, 40]],
    ['w.scale', 1, [16]],
    ['w.zero_point', 2, [16]],
    ['c', 1, [16]],
  ])
  assert.deepEqual(nodeFacts(graph.node), [
    ['Transpose', ['w.values'], ['w.values_kn']],
    ['DynamicQuantizeMatMul', ['x', 'w.values_kn', 'w.scale', 'w.zero_point'], ['y.product']],
    ['Constant', [], ['y.beta']],
    ['Mul', ['c', 'y.beta'], ['y.scaled_bias']],
    ['Add', ['y.product', 'y.scaled_bias'], ['y']],
  ])
})

test('Constant nodes stay Constant nodes, at opsets where they may hold the type', async (t) => {
  const build = (opset: number, ir: number): Uint8Array =>
    onnxBytes(
      onnxModel(
        matMulParts([], {
          nodes: [
            node('Identity', ['x'], ['before']),
            node('Constant', [], ['w'], { value: floatTensor('', [40, 16], 1) }),
            node('MatMul', ['before', 'w'], ['y']),
          ],
        }),
        { opset, ir },
      ),
    )
  const modern = await write(await open(t, build(9, 3)), only('w', INT8))
  assert.deepEqual(
    modern.graph.node.map(({ opType }) => opType),
    ['Identity', 'Constant', 'Constant', 'Cast', 'Mul', 'MatMul'],
  )
  assert.deepEqual(modern.graph.initializer, [])
  assert.equal(modern.model.irVersion, 3n)
  const old = await write(await open(t, build(8, 3)), only('w', INT8))
  assert.deepEqual(
    old.graph.node.map(({ opType }) => opType),
    ['Identity', 'Constant', 'Cast', 'Mul', 'MatMul'],
  )
  assert.deepEqual(tensorFacts(old.graph.initializer), [['w.values', 3, [40, 16]]])
  assert.deepEqual(old.layout.notes, [{ tensor: null, note: 'ir_version raised 3 -> 4: new initializers need it' }])
})

const shapedByInput = (ir: number): Uint8Array =>
  onnxBytes(
    onnxModel(
      {
        nodes: [
          node('Reshape', ['w', 's'], ['w2']),
          node('MatMul', ['x', 'w2'], ['a']),
          node('Add', ['a', 'b'], ['y']),
        ],
        inputs: [value('x', [2, 40]), value('w', [4, 10, 16]), value('s', [2], 7), value('b', [16])],
        outputs: [value('y', [2, 16])],
        initializers: [floatTensor('w', [4, 10, 16], 1), intTensor('s', [40, 16]), floatTensor('b', [16], 2)],
      },
      { opset: 8, ir },
    ),
  )
const inputNames = ({ input }: GraphProto): string[] => input.map(({ name }) => name)

test('a compressed weight and the shape of its view lose their input entries, other initializers keep theirs', async (t) => {
  const reader = await open(t, shapedByInput(4))
  const { graph, model, layout } = await write(reader, only('w', { kind: 'float16' }))
  assert.deepEqual(inputNames(graph), ['x', 'b'])
  assert.equal(Number(model.opsetImport[0]!.version), 8)
  assert.deepEqual(layout.notes, [
    { tensor: 'w', note: '"w" lost its graph input entry' },
    { tensor: 'w', note: '"s", the shape of a Reshape of "w", lost its graph input entry' },
  ])
})

test('pruning leaves input entries and ir_version alone; new initializers raise it, and constants stay constants', async (t) => {
  const reader = await open(t, shapedByInput(3))
  const pruned = await write(reader, only('w', { kind: 'dense' }))
  assert.deepEqual(inputNames(pruned.graph), ['x', 'w', 's', 'b'])
  assert.equal(pruned.model.irVersion, 3n)
  assert.deepEqual(pruned.layout.notes, [])
  const { graph, model, layout } = await write(reader, only('w', { kind: 'float16' }))
  assert.deepEqual(inputNames(graph), ['x'])
  assert.equal(model.irVersion, 4n)
  assert.deepEqual(layout.notes, [
    { tensor: 'w', note: '"w" lost its graph input entry' },
    { tensor: null, note: 'ir_version raised 3 -> 4: new initializers need it' },
    { tensor: null, note: '2 more initializers lost their graph input entries, so that they stay constants' },
  ])
})

test('new names avoid every name in use, in any scope', async (t) => {
  const branch = (name: string): GraphProto =>
    graph({ nodes: [node('Identity', ['x'], [name], {}, { name: 'w.cast' })], outputs: [value(name, [2, 40])] })
  const reader = await open(
    t,
    onnxBytes(
      onnxModel({
        nodes: [
          node('If', ['condition'], ['h'], { then_branch: branch('w.scale'), else_branch: branch('w.scale_1') }),
          node('MatMul', ['h', 'w'], ['y']),
        ],
        inputs: [value('x', [2, 40]), value('condition', [], 9)],
        outputs: [value('y', [2, 16])],
        initializers: [floatTensor('w', [40, 16], 1), floatTensor('w.values', [2], 2)],
      }),
    ),
  )
  const { graph: written } = await write(reader, only('w', INT8))
  assert.deepEqual(
    written.initializer.map(({ name }) => name),
    ['w.values_1', 'w.scale_2', 'w.values'],
  )
  assert.deepEqual(
    written.node.map(({ name }) => name),
    ['w.cast_1', 'w.mul', 'if_h', 'matmul_y'],
  )
})

test('unknown and newer fields, documentation and untouched tensors come out as they went in', async (t) => {
  const model = onnxModel(matMulParts([floatTensor('w', [40, 16], 1)]))
  model.graph!.docString = 'about the graph'
  model.$unknown = [{ no: 900, wireType: 2, data: new Uint8Array([2, 7, 8]) }]
  model.graph!.node[0]!.$unknown = [{ no: 901, wireType: 0, data: new Uint8Array([42]) }]
  model.graph!.initializer[0]!.$unknown = [{ no: 902, wireType: 5, data: new Uint8Array([1, 2, 3, 4]) }]
  const kept = await write(await open(t, onnxBytes(model)), () => null)
  assert.ok(equals(ModelProtoSchema, model, kept.model, { registry: createRegistry(), unknown: true }))
  const pruned = await write(await open(t, onnxBytes(model)), only('w', { kind: 'dense' }))
  assert.deepEqual(pruned.graph.node, model.graph!.node)
  assert.equal(pruned.graph.docString, 'about the graph')
})

/** Encodes fields by hand: ways to write float_data that no current library chooses. */
function floatDataTensor(name: string, pieces: readonly (Uint8Array | 'unpacked')[], values: Float32Array): Uint8Array {
  const head = toBinary(
    TensorProtoSchema,
    create(TensorProtoSchema, { name, dataType: 1, dims: [BigInt(values.length)] }),
  )
  const body: Uint8Array[] = [head]
  const words = new Uint8Array(values.buffer)
  let at = 0
  for (const piece of pieces) {
    if (piece === 'unpacked') {
      body.push(Uint8Array.of(0x25), words.subarray(at, at + 4))
      at += 4
    } else {
      body.push(Uint8Array.of(0x22, piece.length), words.subarray(at, at + piece.length))
      at += piece.length
    }
  }
  return Buffer.concat(body)
}

test('float_data in one packed run, in several, or unpacked holds the same bits, NaN payloads included', async (t) => {
  const bits = Uint32Array.of(0x3f800000, 0x7fa00001, 0xff812345, 0x80000000, 0x00000001)
  const values = new Float32Array(bits.buffer)
  const ways: [string, (Uint8Array | 'unpacked')[]][] = [
    ['packed', [new Uint8Array(20)]],
    ['pieces', [new Uint8Array(8), new Uint8Array(12)]],
    ['unpacked', ['unpacked', 'unpacked', 'unpacked', 'unpacked', 'unpacked']],
    ['mixed', [new Uint8Array(4), 'unpacked', 'unpacked', new Uint8Array(8)]],
  ]
  for (const [way, pieces] of ways) {
    const tensor = floatDataTensor('w', pieces, values)
    const initializer = Buffer.concat([Uint8Array.of(0x2a, tensor.length), tensor])
    const rest = toBinary(GraphProtoSchema, graph({ nodes: [], outputs: [] }))
    const graphBytes = Buffer.concat([rest, initializer])
    const bytes = Buffer.concat([
      Uint8Array.of(0x08, 8),
      Uint8Array.of(0x3a, graphBytes.length),
      graphBytes,
      Uint8Array.of(0x42, 2, 0x10, 17),
    ])
    const reader = await open(t, bytes)
    const into = new Uint8Array(20)
    await reader.read(reader.tensors[0]!.data, 0, into)
    assert.deepEqual(new Uint32Array(into.buffer), bits, way)
    const { files } = await write(reader, () => null)
    const found = Buffer.from(files.get('out.onnx')!).includes(Buffer.from(bits.buffer))
    assert.ok(found, `${way}: the bits are in the artifact, packed`)
  }
})

test('value_floats of a Constant node is a weight, and becomes a tensor when it is compressed', async (t) => {
  const floats = [...weightValues(16, 3)]
  const reader = await open(
    t,
    onnxBytes(
      onnxModel(
        matMulParts([], {
          nodes: [node('Constant', [], ['w'], { value_floats: { floats } }), node('Mul', ['x', 'w'], ['y'])],
          inputs: [value('x', [2, 16])],
        }),
      ),
    ),
  )
  assert.deepEqual([reader.tensors[0]!.name, reader.tensors[0]!.dtype, reader.tensors[0]!.shape], ['w', 'f32', [16]])
  const { graph } = await write(reader, only('w', { kind: 'float16' }))
  assert.deepEqual(
    graph.node.map(({ opType }) => opType),
    ['Constant', 'Cast', 'Mul'],
  )
  const stored = graph.node[0]!.attribute[0]!.t!
  assert.deepEqual([stored.dataType, stored.dims.map(Number), stored.rawData.length], [10, [16], 32])
})

test('tensors that share an external range stay shared, kept or compressed', async (t) => {
  const data = new Uint8Array(weightValues(40 * 16 + 300, 5).buffer)
  const tied = (name: string) => externalTensor(name, [40, 16], { location: 'w.bin', offset: '64', length: '2560' })
  const model = onnxModel({
    nodes: [node('MatMul', ['x', 'a'], ['h']), node('MatMul', ['x', 'b'], ['g']), node('Add', ['h', 'g'], ['y'])],
    inputs: [value('x', [2, 40])],
    outputs: [value('y', [2, 16])],
    initializers: [tied('a'), tied('b')],
  })
  const reader = await open(t, onnxBytes(model), { 'w.bin': data })
  const ranges = ({ initializer }: GraphProto) =>
    initializer.map(({ externalData }) => Object.fromEntries(externalData.map((entry) => [entry.key, entry.value])))
  const kept = await write(reader, () => null)
  assert.deepEqual(ranges(kept.graph), Array(2).fill({ location: 'out.onnx.data', offset: '0', length: '2560' }))
  assert.deepEqual(kept.files.get('out.onnx.data'), data.subarray(64, 64 + 2560))
  const half = await write(reader, () => ({ kind: 'float16' }))
  assert.deepEqual(ranges(half.graph), Array(2).fill({ location: 'out.onnx.data', offset: '0', length: '1280' }))
  assert.equal(half.files.get('out.onnx.data')!.length, 1280)
  assert.deepEqual(half.layout.tied, [{ tensor: 'b', source: 'a' }])
})

test('a model of more than 2 GiB is laid out with external data, or refused when that is forbidden', async (t) => {
  const folder = tempFolder(t)
  const rows = 2 ** 18
  const bytesEach = rows * 4096
  const names = ['a', 'b', 'c']
  const model = onnxModel({
    nodes: names.map((name) => node('MatMul', ['x', name], [`y_${name}`])),
    inputs: [value('x', [1, rows])],
    outputs: names.map((name) => value(`y_${name}`, [1, 1024])),
    initializers: names.map((name, i) =>
      externalTensor(name, [rows, 1024], { location: 'w.bin', offset: String(i * bytesEach) }),
    ),
  })
  const files = writeFiles(folder, { 'in.onnx': onnxBytes(model), 'w.bin': '' })
  const fd = openSync(join(folder, 'w.bin'), 'r+')
  ftruncateSync(fd, 3 * bytesEach)
  closeSync(fd)
  const reader = await openModel(files)
  t.after(() => reader.close())
  const layout = reader.layout(keepPlans(reader), OPTIONS)
  assert.deepEqual(
    layout.files.map(({ name, sizeBytes }) => [name, sizeBytes > 2 ** 31]),
    [
      ['out.onnx', false],
      ['out.onnx.data', true],
    ],
  )
  assert.deepEqual(
    layout.files[1]!.runs.map(({ offsetBytes }) => offsetBytes),
    [0, bytesEach, 2 * bytesEach],
  )
  assert.throws(
    () => reader.layout(keepPlans(reader), { ...OPTIONS, externalData: false }),
    (error) =>
      error instanceof AppError &&
      error.code === 'limit_exceeded' &&
      error.context['limit'] === 'MAX_INLINE_MODEL_BYTES',
  )
})

/** A length-delimited field around `lengthBytes` bytes that are not here. */
function fieldHead(number: number, lengthBytes: number): number[] {
  const varint: number[] = []
  for (let rest = lengthBytes; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) {
      varint.push(rest)
      break
    }
    varint.push((rest % 128) + 128)
  }
  return [number * 8 + 2, ...varint]
}

test('an inline file with lengths beyond 2^32 is read where its bytes lie, and written as external data', async (t) => {
  const folder = tempFolder(t)
  const count = 2 ** 30 + 2 ** 20
  const lengthBytes = count * 4
  const tensorHead = [
    ...toBinary(
      TensorProtoSchema,
      create(TensorProtoSchema, { name: 'w', dataType: 1, dims: [BigInt(count / 1024), 1024n] }),
    ),
    ...fieldHead(9, lengthBytes),
  ]
  const product = toBinary(NodeProtoSchema, node('MatMul', ['x', 'w'], ['y']))
  const nodes = [...fieldHead(1, product.length), ...product]
  const tensorBytes = tensorHead.length + lengthBytes
  const initializerHead = fieldHead(5, tensorBytes)
  const graphBytes = nodes.length + initializerHead.length + tensorBytes
  const head = Uint8Array.from([
    ...[0x08, 8],
    ...fieldHead(8, 2),
    ...[0x10, 17],
    ...fieldHead(7, graphBytes),
    ...nodes,
    ...initializerHead,
    ...tensorHead,
  ])
  const [file] = writeFiles(folder, { 'big.onnx': head })
  const fd = openSync(file!.path, 'r+')
  ftruncateSync(fd, head.length + lengthBytes)
  writeSync(fd, Uint8Array.of(1, 2, 3, 4), 0, 4, head.length + lengthBytes - 4)
  closeSync(fd)
  const reader = await openModel([{ ...file!, sizeBytes: statSync(file!.path).size }])
  t.after(() => reader.close())
  const [weight] = reader.tensors
  assert.deepEqual(weight!.data, { kind: 'file', file: 0, offsetBytes: head.length, lengthBytes })
  const tail = new Uint8Array(4)
  await reader.read(weight!.data, lengthBytes - 4, tail)
  assert.deepEqual([...tail], [1, 2, 3, 4])
  const layout = reader.layout(keepPlans(reader), OPTIONS)
  assert.deepEqual(layout.files[1], {
    name: 'out.onnx.data',
    sizeBytes: lengthBytes,
    runs: [{ kind: 'copy', offsetBytes: 0, from: weight!.data }],
  })
  assert.deepEqual(layout.notes, [{ tensor: null, note: 'tensor bytes are in "out.onnx.data"' }])
})
