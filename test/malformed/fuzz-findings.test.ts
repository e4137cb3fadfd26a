// What the fuzz campaign has found, each as the smallest input that showed it.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { create, fromBinary } from '@bufbuild/protobuf'
import { AttributeProtoSchema, ModelProtoSchema, TensorProtoSchema } from 'onnx-buf'
import { type Answer, exchange } from '../../campaigns/fuzz/http-exchange.ts'
import { type RealApp, startRealApp } from '../../campaigns/fuzz/real-app.ts'
import { AppError } from '../../src/errors.ts'
import { openModel } from '../../src/formats/index.ts'
import { parseJson } from '../../src/formats/wire/json-header.ts'
import type { ModelReader } from '../../src/tensor/model.ts'
import { openDataset } from '../../src/validate/dataset.ts'
import { externalTensor, floatTensor, node, onnxBytes, onnxModel, value } from '../support/build-onnx.ts'
import { buildSafetensors, f32Bytes } from '../support/build-safetensors.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { keepPlans, writeLayout } from '../support/write-layout.ts'
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

async function post(app: RealApp, body: string, headers: readonly string[]): Promise<Answer> {
  const lines = ['POST /v1/models HTTP/1.1', ...headers, `Content-Length: ${body.length}`, 'Connection: close', '', '']
  const answer = await exchange(app.port, Buffer.from(lines.join('\r\n')), Buffer.from(body), 10_000)
  return answer ?? assert.fail('no answer')
}

const MULTIPART = ['Host: localhost', 'Content-Type: multipart/form-data; boundary=b']

function filePart(name: string, content: string): string {
  return `--b\r\nContent-Disposition: form-data; name="${name}"; filename="m.onnx"\r\n\r\n${content}`
}

async function nothingStays(app: RealApp): Promise<void> {
  for (let tries = 0; app.leftovers().length > 0 && tries < 100; tries++) await sleep(20)
  assert.deepEqual(app.leftovers(), [])
}

test('a number of 401 digits meets a limit, and is not called malformed', () => {
  const limits = { file: 'x', baseOffset: 0, maxDepth: 1, maxMembers: 1 }
  assert.equal(parseJson(Buffer.from('1'.repeat(400)), limits), BigInt('1'.repeat(400)))
  assert.throws(
    () => parseJson(Buffer.from('1'.repeat(401)), limits),
    (error) =>
      error instanceof AppError &&
      error.code === 'limit_exceeded' &&
      error.context['limit'] === 'json_number_characters',
  )
})

test('a multipart body that goes on behind its last boundary is answered, and keeps no upload open', async (t) => {
  const app = await startRealApp()
  t.after(() => app.close())
  // The parser announces the file and never ends it: the request waited for ever, and its place among the uploads was lost.
  const unended = await post(app, `--b--\r\n${filePart('data', 'x\r\n')}${filePart('model', 'half')}`, MULTIPART)
  assert.equal(unended.status, 400)
  assert.match(unended.body, /goes on behind its last boundary/)
  await nothingStays(app)
  // Here the file comes after the answer was decided: its folder and its open file stayed.
  const late = await post(app, `--b--\r\n${filePart('model', 'abc')}\r\n--b--\r\n`, MULTIPART)
  assert.equal(late.status, 400)
  assert.match(late.body, /Part \\"model\\" is missing/)
  await nothingStays(app)
})

test('a request without Host, and one with an unknown expectation, get answers of this API', async (t) => {
  const app = await startRealApp()
  t.after(() => app.close())
  const hostless = await post(app, '{}', ['Content-Type: application/json'])
  assert.equal(hostless.status, 400)
  assert.match(hostless.headers['content-type'] ?? '', /^application\/problem\+json/)
  assert.match(hostless.body, /"path":"header\.host"/)
  const expecting = await post(app, '{}', ['Host: localhost', 'Content-Type: application/json', 'Expect: miracles'])
  assert.equal(expecting.status, 415)
  assert.match(expecting.headers['content-type'] ?? '', /^application\/problem\+json/)
})

test('numbers of variable length that no decoder reads are refused when the model is opened, also long ones', async (t) => {
  const shape = create(TensorProtoSchema, {
    name: 'w',
    dataType: 7,
    dims: [70_000n],
    int64Data: Array(70_000).fill(1n),
  })
  const bytes = onnxBytes(
    onnxModel({
      nodes: [node('Add', ['x', 'w'], ['y'])],
      inputs: [value('x', [70_000], 7)],
      outputs: [value('y', [70_000], 7)],
      initializers: [shape],
    }),
  )
  const start = Buffer.from(bytes).indexOf(Buffer.alloc(70_000, 1))
  const open = (at: number, ...values: number[]) => {
    const changed = Uint8Array.from(bytes)
    changed.set(values, start + at)
    return openModel(writeFiles(tempFolder(t), { 'm.onnx': changed }))
  }
  await (await open(0, 1)).close()
  const endless = await refusal(open(65_530, ...Array(10).fill(0xff)))
  assert.equal(endless.code, 'format_invalid')
  assert.equal(endless.detail, `"m.onnx", byte ${start}: TensorProto.int64_data: a varint is longer than 10 bytes`)
  const cutOff = await refusal(open(69_999, 0x80))
  assert.equal(cutOff.detail, `"m.onnx", byte ${start}: TensorProto.int64_data: the last varint is cut off`)
})

test('values of enumerations that are newer than the schema are written back, beside other unknown fields', async (t) => {
  const relu = node('Relu', ['x'], ['h'])
  const field = (no: number, value: number) => ({ no, wireType: 0, data: Uint8Array.of(value) })
  const made = create(AttributeProtoSchema, { name: 'new' })
  made.$unknown = [field(20, 77), field(90, 5)]
  relu.attribute.push(made)
  const weight = floatTensor('w', [20, 20], 1)
  weight.$unknown = [field(14, 9)]
  const model = onnxModel({
    nodes: [relu, node('MatMul', ['h', 'w'], ['y'])],
    inputs: [value('x', [2, 20])],
    outputs: [value('y', [2, 20])],
    initializers: [weight],
  })
  const reader = await openModel(writeFiles(tempFolder(t), { 'm.onnx': onnxBytes(model) }))
  t.after(() => reader.close())
  const output = { externalData: 'auto', shardBytes: null, fileName: 'out.onnx' } as const
  const written = await writeLayout(reader, reader.layout(keepPlans(reader), output))
  const { graph } = fromBinary(ModelProtoSchema, written.get('out.onnx')!)
  assert.equal(Number(graph!.initializer[0]!.dataLocation), 9)
  const [attribute] = graph!.node[0]!.attribute
  assert.equal(Number(attribute!.type), 77)
  assert.deepEqual(
    attribute!.$unknown?.map(({ no, data }) => [no, ...data]),
    [[90, 5]],
  )
})
