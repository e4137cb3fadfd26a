// What hostile and damaged ONNX files get: an AppError that names the file and what is wrong; never a crash, a hang, a wrong
// tensor or unbounded memory.

import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { create, toBinary } from '@bufbuild/protobuf'
import { type TensorProto, TensorProtoSchema } from 'onnx-buf'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import { openModel } from '../../src/formats/index.ts'
import { openOnnx } from '../../src/formats/onnx/reader.ts'
import { MAX_STRUCTURE_FIELDS, MAX_STRUCTURE_MESSAGES } from '../../src/formats/wire/protobuf-scan.ts'
import { MAX_STRUCTURE_BYTES } from '../../src/formats/wire/structure-buffer.ts'
import type { ModelReader, SourceFile } from '../../src/tensor/model.ts'
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
} from '../support/build-onnx.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { keepPlans, writeLayout } from '../support/write-layout.ts'

const OPTIONS = { externalData: 'auto', shardBytes: null, fileName: 'out.onnx' } as const

const SMALL = onnxBytes(
  onnxModel({
    nodes: [
      node('Reshape', ['w', 'shape'], ['w2']),
      node('Gemm', ['x', 'w2', 'b'], ['h'], { transB: 1 }),
      node('If', ['flag'], ['y'], {
        then_branch: graph({
          nodes: [
            node('Constant', [], ['k'], { value: floatTensor('', [3, 4], 3) }),
            node('MatMul', ['h', 'k'], ['t']),
          ],
          outputs: [value('t', [2, 4])],
        }),
        else_branch: graph({
          nodes: [node('MatMul', ['h', 'e'], ['f'])],
          outputs: [value('f', [2, 4])],
          initializers: [
            create(TensorProtoSchema, { name: 'e', dataType: 1, dims: [3n, 4n], floatData: Array(12).fill(1) }),
          ],
        }),
      }),
    ],
    inputs: [value('x', [2, 5]), value('flag', [], 9)],
    outputs: [value('y', [2, 4])],
    initializers: [floatTensor('w', [15], 1), intTensor('shape', [3, 5]), floatTensor('b', [3], 2)],
  }),
)

async function refusal(open: Promise<ModelReader>): Promise<AppError> {
  try {
    await (await open).close()
  } catch (error) {
    assert.ok(error instanceof AppError, `an AppError, not ${error}`)
    return error
  }
  return assert.fail('the model was opened')
}

/** A length-delimited field. */
function field(number: number, ...parts: (string | Uint8Array | readonly number[])[]): Uint8Array {
  const body = Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Uint8Array.from(part))),
  )
  return Buffer.concat([varint(number * 8 + 2), varint(body.length), body])
}

function varint(number: number): Uint8Array {
  const bytes: number[] = []
  let rest = number
  while (rest > 127) {
    bytes.push((rest % 128) + 128)
    rest = Math.floor(rest / 128)
  }
  return Uint8Array.from([...bytes, rest])
}

const VERSIONS = Uint8Array.from([0x08, 8, 0x42, 2, 0x10, 17])

/** A model whose graph holds these encoded fields. */
function modelAround(...graphFields: Uint8Array[]): Uint8Array {
  return Buffer.concat([VERSIONS, field(7, ...graphFields)])
}

function withInitializers(...tensors: TensorProto[]): Uint8Array {
  return modelAround(...tensors.map((tensor) => field(5, toBinary(TensorProtoSchema, tensor))))
}

function tensorOf(dims: bigint[], more: Partial<TensorProto> = {}): TensorProto {
  return Object.assign(create(TensorProtoSchema, { name: 'w', dataType: 1, dims }), more)
}

/** `depth` graphs, each inside an attribute of a node of the one around it. */
function nested(depth: number): Uint8Array {
  let inner: Uint8Array = new Uint8Array()
  for (let i = 0; i < depth; i++) inner = field(1, field(5, field(1, 'body'), field(6, inner)))
  return modelAround(inner)
}

const ATTACKS: [name: string, bytes: Uint8Array, code: ErrorCode, says: RegExp][] = [
  ['an empty file', new Uint8Array(), 'format_truncated', /is empty/],
  ['one byte', Uint8Array.of(0x08), 'format_truncated', /ends at byte 1/],
  ['a field number of 0', Uint8Array.of(0x08, 8, 0x02, 0), 'format_invalid', /byte 2: field number 0/],
  ['a group', Uint8Array.of(0x08, 8, 0xa3, 0x06), 'format_invalid', /byte 2: wire type 3 is not used/],
  ['a wrong wire type', Uint8Array.of(0x08, 8, 0x38, 1), 'format_invalid', /ModelProto.graph has wire type 0, not 2/],
  ['a varint of 11 bytes', Uint8Array.of(0x08, ...Array(10).fill(0x80), 1), 'format_invalid', /longer than 10 bytes/],
  [
    'a length beyond the file',
    Uint8Array.of(0x08, 8, 0x3a, 99, 0x0a),
    'format_truncated',
    /ModelProto.graph of 99 bytes/,
  ],
  [
    'a length of 2^60',
    Buffer.concat([Uint8Array.of(0x08, 8, 0x3a), varint(2 ** 60)]),
    'format_truncated',
    /ModelProto.graph of 1152921504606847000 bytes/,
  ],
  [
    'a length beyond its message',
    Buffer.concat([VERSIONS, field(7, field(1, [0x22, 50, 65])), new Uint8Array(60)]),
    'format_invalid',
    /NodeProto.op_type of 50 bytes reaches beyond byte/,
  ],
  [
    'a graph given twice',
    Buffer.concat([modelAround(), field(7)]),
    'format_invalid',
    /ModelProto.graph is given twice/,
  ],
  ['no graph', VERSIONS, 'format_invalid', /holds no graph/],
  ['no operator set', Buffer.concat([Uint8Array.of(0x08, 8), field(7)]), 'format_invalid', /imports no operator set/],
  ['no ir_version', Buffer.concat([VERSIONS.subarray(2), field(7)]), 'format_invalid', /ir_version 0/],
  [
    'a reserved field number',
    Buffer.concat([modelAround(), Uint8Array.of(0xfa, 0xff, 0xff, 0xff, 0x0f, 0)]),
    'format_invalid',
    /field number 536870911 is reserved/,
  ],
  [
    'a node name that is not UTF-8',
    modelAround(field(1, field(3, [0xff, 0xfe]))),
    'format_invalid',
    /NodeProto.name is not valid UTF-8/,
  ],
  [
    'a tensor name that is not UTF-8',
    modelAround(field(5, field(8, [0xc3, 0x28]))),
    'format_invalid',
    /TensorProto.name is not valid UTF-8/,
  ],
  ['nested graphs beyond the limit', nested(40), 'limit_exceeded', /nested deeper than 100/],
  ['nested graphs far beyond the limit', nested(20_000), 'limit_exceeded', /nested deeper than 100/],
  [
    'the same initializer name twice',
    withInitializers(tensorOf([0n]), tensorOf([0n])),
    'format_invalid',
    /the name "w" is defined twice in the main graph/,
  ],
  [
    'a node output that is an initializer too',
    modelAround(field(1, field(2, 'w'), field(4, 'Constant')), field(5, toBinary(TensorProtoSchema, tensorOf([0n])))),
    'format_invalid',
    /the name "w" is defined twice/,
  ],
  ['an initializer without a name', withInitializers(tensorOf([0n], { name: '' })), 'format_invalid', /has no name/],
  [
    'dimensions of 2^60',
    withInitializers(tensorOf([2n ** 60n], { rawData: new Uint8Array(4) })),
    'format_invalid',
    /tensor "w": dimension 1152921504606846976 is larger than any file/,
  ],
  [
    'dimensions whose product wraps 64 bits',
    withInitializers(tensorOf([2n ** 32n, 2n ** 32n], { rawData: new Uint8Array(4) })),
    'format_invalid',
    /\[4294967296, 4294967296\] has 18446744073709551616 elements/,
  ],
  ['a negative dimension', withInitializers(tensorOf([-1n])), 'format_invalid', /dimension -1 is negative/],
  ['65 dimensions', withInitializers(tensorOf(Array(65).fill(1n))), 'limit_exceeded', /65 dimensions; at most 64/],
  [
    'fewer bytes than the shape takes',
    withInitializers(tensorOf([3n], { rawData: new Uint8Array(8) })),
    'format_invalid',
    /\[3\] of f32 takes 12 bytes, it holds 8/,
  ],
  ['elements that are nowhere', withInitializers(tensorOf([3n])), 'format_invalid', /3 elements, it holds none/],
  [
    'elements given twice',
    withInitializers(tensorOf([1n], { rawData: new Uint8Array(4), floatData: [1] })),
    'format_invalid',
    /given in two fields/,
  ],
  [
    'elements in the field of another type',
    withInitializers(tensorOf([1n], { int64Data: [1n] })),
    'format_invalid',
    /elements of type f32 are held in field 7/,
  ],
  [
    'too few numbers in int32_data',
    withInitializers(tensorOf([3n], { dataType: ONNX.i8, int32Data: [1, 2] })),
    'format_invalid',
    /takes 3 numbers, it holds 2/,
  ],
  [
    'float_data of half an element',
    modelAround(field(5, field(4, [1, 2, 3]))),
    'format_invalid',
    /TensorProto.float_data holds 3 bytes, not a whole number/,
  ],
  [
    'raw_data given twice',
    modelAround(field(5, field(9, [1]), field(9, [2]))),
    'format_invalid',
    /TensorProto.raw_data is given twice/,
  ],
  ['an element type of 99', withInitializers(tensorOf([0n], { dataType: 99 })), 'dtype_unsupported', /element type 99/],
  ['no element type', withInitializers(tensorOf([0n], { dataType: 0 })), 'dtype_unsupported', /element type 0/],
  ['a zip archive', Buffer.from(`PK\x03\x04${'\0'.repeat(60)}`, 'latin1'), 'format_unrecognised', /a zip archive/],
  ['a TensorFlow Lite model', Buffer.from('\x1c\0\0\0TFL3\0\0', 'latin1'), 'format_unrecognised', /TensorFlow Lite/],
  ['an HDF5 file', Buffer.from('\x89HDF\r\n\x1a\n\0\0', 'latin1'), 'format_unrecognised', /an HDF5 file/],
  ['a GGUF model', Buffer.from('GGUF\x03\0\0\0'), 'format_unrecognised', /a GGUF model/],
  ['JSON', Buffer.from('{"a": 1}'), 'format_unrecognised', /looks like JSON/],
  ['an HTML page', Buffer.from('<!doctype html><p>404'), 'format_unrecognised', /looks like an HTML page/],
  ['text', Buffer.from('hello there, this is no model\n'), 'format_unrecognised', /looks like plain text/],
  ['text cut inside a character', Buffer.from('€'.repeat(2000)), 'format_unrecognised', /looks like plain text/],
  ['bytes that are no text', Buffer.alloc(5000, 0xff), 'format_invalid', /byte 0: a varint is longer/],
  ['a Git LFS pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\n'), 'format_unrecognised', /Git LFS/],
]

for (const [name, bytes, code, says] of ATTACKS) {
  test(`refuses ${name}`, async (t) => {
    const error = await refusal(openModel(writeFiles(tempFolder(t), { 'model.onnx': bytes })))
    assert.equal(error.code, code, error.detail)
    assert.match(error.detail, says)
    assert.match(error.detail, /model\.onnx/)
  })
}

test('refuses more structure than its limits, quickly and before decoding it', async (t) => {
  const manyNodes = modelAround(Buffer.alloc(2 * MAX_STRUCTURE_MESSAGES, Uint8Array.of(0x0a, 0)))
  const manyInts = modelAround(field(1, field(5, field(8, Buffer.alloc(MAX_STRUCTURE_FIELDS + 1)))))
  const longText = modelAround(field(10, Buffer.alloc(MAX_STRUCTURE_BYTES + 1, 'x')))
  for (const [bytes, limit] of [
    [manyNodes, 'MAX_STRUCTURE_MESSAGES'],
    [manyInts, 'MAX_STRUCTURE_FIELDS'],
    [longText, 'MAX_STRUCTURE_BYTES'],
  ] as const) {
    const started = performance.now()
    const error = await refusal(openModel(writeFiles(tempFolder(t), { 'model.onnx': bytes })))
    assert.equal(error.code, 'limit_exceeded')
    assert.equal(error.context['limit'], limit)
    assert.ok(performance.now() - started < 10_000)
  }
})

test('names repeated in thousands of subgraphs stay apart, and a long node name does not multiply', async (t) => {
  const tensor = (name: string) => field(5, [0x08, 1, 0x10, 1], field(8, name), field(9, [0, 0, 0, 0]))
  const branch = (name: string, ...inside: Uint8Array[]) =>
    field(1, field(3, name), field(4, 'If'), field(5, field(1, 'b'), field(6, ...inside)))
  const same = modelAround(...Array.from({ length: 20_000 }, () => branch('n', tensor('w'))))
  const long = modelAround(
    branch('x'.repeat(1_000_000), ...Array.from({ length: 20_000 }, (_, i) => tensor(`t${i}`))),
    field(5, [0x08, 1, 0x10, 1], field(8, 'w'.repeat(4096)), field(9, [0, 0, 0, 0])),
  )
  const names = async (bytes: Uint8Array): Promise<string[]> => {
    const reader = await openModel(writeFiles(tempFolder(t), { 'model.onnx': bytes }))
    const found = reader.tensors.map(({ name }) => name)
    await reader.close()
    return found
  }
  const repeated = await names(same)
  assert.equal(new Set(repeated).size, 20_000)
  assert.deepEqual([repeated[0], repeated[1], repeated[19_999]], ['n.b/w', 'n.b/w#2', 'n.b/w#20000'])
  assert.deepEqual((await names(long)).slice(1, 3), ['If_0.b/t0', 'If_0.b/t1'])
})

test('a chain of a hundred thousand views, and one that joins with itself at every step, are followed without harm', async (t) => {
  const chain = Array.from({ length: 100_000 }, (_, i) => node('Identity', [`v${i}`], [`v${i + 1}`], {}, { name: '' }))
  const joins = Array.from({ length: 200 }, (_, i) => node('Concat', [`j${i}`, `j${i}`], [`j${i + 1}`], { axis: 0 }))
  const bytes = onnxBytes(
    onnxModel({
      nodes: [...chain, ...joins, node('MatMul', ['x', 'v100000'], ['y']), node('MatMul', ['x', 'j200'], ['z'])],
      inputs: [value('x', [1, 4])],
      outputs: [value('y', [1, 4]), value('z', [1, 4])],
      initializers: [floatTensor('v0', [4, 4], 1), floatTensor('j0', [4, 4], 2)],
    }),
  )
  const reader = await openModel(writeFiles(tempFolder(t), { 'model.onnx': bytes }))
  t.after(() => reader.close())
  assert.deepEqual(
    reader.tensors.map(({ roles }) => roles),
    [['matmul'], ['matmul']],
  )
})

test('cycles, undefined names and odd view operands do not stop a model from opening', async (t) => {
  const bytes = onnxBytes(
    onnxModel({
      nodes: [
        node('Identity', ['b'], ['a']),
        node('Identity', ['a'], ['b']),
        node('MatMul', ['nowhere', 'w'], ['c']),
        node('Reshape', ['w', 'zero'], ['d']),
        node('Reshape', ['w', 'negative'], ['e']),
        node('Transpose', ['w'], ['f'], { perm: [0, 7] }),
        node('Reshape', ['w'], ['g']),
        node('Reshape', ['w', 'huge'], ['h']),
        node('Gather', ['w', 'zero'], ['i'], { axis: -9 }),
        node('Conv', ['c', 'scalar'], ['k']),
      ],
      outputs: [value('a', [1])],
      initializers: [
        floatTensor('w', [4, 4], 1),
        rawTensor('scalar', ONNX.f32, [], new Float32Array(1)),
        intTensor('zero', [0, 0]),
        intTensor('negative', [-1, -1, -5]),
        intTensor('huge', [2 ** 52, 2 ** 52, 2 ** 52]),
      ],
    }),
  )
  const reader = await openModel(writeFiles(tempFolder(t), { 'model.onnx': bytes }))
  t.after(() => reader.close())
  const written = await writeLayout(reader, reader.layout(keepPlans(reader), OPTIONS))
  assert.ok(written.get('out.onnx')!.length > 0)
})

const DATA = new Uint8Array(4096)

const EXTERNAL_ATTACKS: [name: string, entries: Record<string, string>, says: RegExp][] = [
  ['a parent folder', { location: '../w.bin' }, /leaves the folder of the model/],
  ['a parent folder further on', { location: 'a/../../w.bin' }, /leaves the folder of the model/],
  ['a parent folder with backslashes', { location: '..\\w.bin' }, /leaves the folder of the model/],
  ['an absolute path', { location: '/etc/passwd' }, /location "\/etc\/passwd" is absolute/],
  ['a drive letter', { location: 'C:\\w.bin' }, /is absolute/],
  ['a file that was not given', { location: 'other.bin' }, /"other.bin" was not given; further files given: w.bin/],
  ['a NUL character', { location: 'w.bin\0' }, /NUL/],
  ['the model itself', { location: 'model.onnx' }, /"model.onnx" was not given/],
  ['an empty location', { location: '' }, /has no location/],
  ['no location', { offset: '0' }, /has no location/],
  [
    'an offset beyond the file',
    { location: 'w.bin', offset: '4096' },
    /bytes 4096 to 4160 were asked of "w.bin", which has 4096/,
  ],
  ['a length beyond the file', { location: 'w.bin', offset: '4090' }, /which has 4096/],
  ['an offset of 2^60', { location: 'w.bin', offset: '1152921504606846976' }, /offset is "1152921504606846976"/],
  ['a negative offset', { location: 'w.bin', offset: '-4' }, /offset is "-4", not a byte count/],
  ['an offset in hex', { location: 'w.bin', offset: '0x10' }, /not a byte count/],
  [
    'a length that is not the shape',
    { location: 'w.bin', length: '60' },
    /length is 60 bytes; its shape and type take 64/,
  ],
]

for (const [name, entries, says] of EXTERNAL_ATTACKS) {
  test(`refuses external data with ${name}`, async (t) => {
    const model = onnxModel({ nodes: [], outputs: [], initializers: [externalTensor('w', [4, 4], entries)] })
    const files = writeFiles(tempFolder(t), { 'model.onnx': onnxBytes(model), 'w.bin': DATA })
    const error = await refusal(openModel(files))
    assert.equal(error.code, 'external_data_invalid', error.detail)
    assert.match(error.detail, says)
    assert.match(error.detail, /model\.onnx/)
    assert.match(error.detail, /tensor "w"/)
  })
}

test('refuses external ranges that overlap without being equal', async (t) => {
  const at = (name: string, offset: string) => externalTensor(name, [4, 4], { location: 'w.bin', offset })
  const model = onnxModel({ nodes: [], outputs: [], initializers: [at('a', '0'), at('b', '64'), at('c', '127')] })
  const error = await refusal(openModel(writeFiles(tempFolder(t), { 'model.onnx': onnxBytes(model), 'w.bin': DATA })))
  assert.equal(error.code, 'external_data_invalid')
  assert.match(error.detail, /tensors "b" and "c" overlap in "w.bin": bytes 64 to 128 and 127 to 191/)
})

test('refuses external data behind a symbolic link, in a folder, or gone', async (t) => {
  const folder = tempFolder(t)
  const model = onnxModel({
    nodes: [],
    outputs: [],
    initializers: [externalTensor('w', [4, 4], { location: 'w.bin' })],
  })
  const [main] = writeFiles(folder, { 'model.onnx': onnxBytes(model), 'real.bin': DATA })
  symlinkSync(join(folder, 'real.bin'), join(folder, 'link.bin'))
  mkdirSync(join(folder, 'folder.bin'))
  const given = (name: string): SourceFile[] => [main!, { name: 'w.bin', path: join(folder, name), sizeBytes: 4096 }]
  const codes: [string, ErrorCode][] = [
    ['link.bin', 'external_data_invalid'],
    ['folder.bin', 'external_data_invalid'],
    ['gone.bin', 'not_found'],
  ]
  for (const [name, code] of codes) {
    const error = await refusal(openOnnx(given(name)))
    assert.equal(error.code, code, name)
    assert.match(error.detail, /"w\.bin"/)
  }
})

test('refuses every truncation of a small model, or reads the same tensors when only metadata is missing', async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'cut.onnx')
  const whole = await openModel(writeFiles(folder, { 'whole.onnx': SMALL }))
  t.after(() => whole.close())
  let opened = 0
  for (let length = 0; length < SMALL.length; length++) {
    writeFileSync(path, SMALL.subarray(0, length))
    try {
      const reader = await openModel([{ name: 'cut.onnx', path, sizeBytes: length }])
      assert.deepEqual(reader.tensors, whole.tensors)
      opened++
      await reader.close()
    } catch (error) {
      assert.ok(error instanceof AppError, `${length} bytes: ${error}`)
      assert.match(error.code, /^format_/, `${length} bytes`)
    }
  }
  assert.equal(opened, 1, 'only the cut right before the metadata is a whole model')
})

test('a thousand seeded mutations end in an AppError or in a model that can be laid out', async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'mutant.onnx')
  const outcomes = new Map<string, number>()
  for (let seed = 0; seed < 1000; seed++) {
    const random = seededRandom(seed)
    const bytes = Uint8Array.from(SMALL)
    for (let change = 0; change <= random() * 4; change++) {
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256)
    }
    writeFileSync(path, bytes)
    let outcome = 'opened'
    try {
      const reader = await openModel([{ name: 'mutant.onnx', path, sizeBytes: bytes.length }])
      try {
        const written = await writeLayout(reader, reader.layout(keepPlans(reader), OPTIONS))
        assert.ok(written.has('out.onnx'))
      } finally {
        await reader.close()
      }
    } catch (error) {
      assert.ok(error instanceof AppError, `seed ${seed}: ${error instanceof Error ? error.stack : error}`)
      assert.notEqual(error.code, 'internal', `seed ${seed}`)
      outcome = error.code
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(outcomes)))
  assert.ok((outcomes.get('opened') ?? 0) > 0 && (outcomes.get('format_invalid') ?? 0) > 0)
})
