// What hostile and damaged safetensors files get: an AppError that names the file, the tensor and what is wrong; never a
// crash, a hang or a wrong tensor.

import assert from 'node:assert/strict'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import { openModel } from '../../src/formats/index.ts'
import { openSafetensors } from '../../src/formats/safetensors/reader.ts'
import type { ModelReader } from '../../src/tensor/model.ts'
import { buildSafetensors, rampBytes, rawSafetensors } from '../support/build-safetensors.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { keepPlans, writeLayout } from '../support/write-layout.ts'

const SMALL = buildSafetensors(
  [
    { name: 'a', dtype: 'F32', shape: [2, 2], data: rampBytes(16) },
    { name: 'b.bias', dtype: 'BF16', shape: [3], data: rampBytes(6) },
    { name: 'empty', dtype: 'I64', shape: [0, 4], data: new Uint8Array() },
    { name: 'naïve ☃', dtype: 'U8', shape: [], data: rampBytes(1) },
  ],
  { format: 'pt' },
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

const entry = (dtype: string, shape: unknown, offsets: unknown) =>
  JSON.stringify({ dtype, shape, data_offsets: offsets })

const ATTACKS: [name: string, bytes: Uint8Array, code: ErrorCode, says: RegExp][] = [
  ['an empty file', new Uint8Array(), 'format_truncated', /has 0 bytes/],
  ['a file shorter than the length field', SMALL.subarray(0, 5), 'format_truncated', /has 5 bytes/],
  [
    'a header length beyond the file',
    rawSafetensors('{}', undefined, 1000n),
    'format_truncated',
    /declares a header of 1000 bytes/,
  ],
  [
    'a header length of 2^63',
    rawSafetensors('{}', undefined, 2n ** 63n),
    'limit_exceeded',
    /header_bytes: 9223372036854775808, allowed 100000000/,
  ],
  ['a header that is no object', rawSafetensors('[1]     '), 'format_invalid', /does not start with "\{"/],
  ['a header that starts with a space', rawSafetensors(' {}'), 'format_invalid', /does not start with "\{"/],
  ['a header of broken JSON', rawSafetensors('{"a":'), 'format_invalid', /no value where one belongs \(byte 13\)/],
  ['text after the header object', rawSafetensors('{} x'), 'format_invalid', /text after the end/],
  [
    'a name twice',
    rawSafetensors(`{"a":${entry('U8', [1], [0, 1])},"a":${entry('U8', [1], [1, 2])}}`, rampBytes(2)),
    'format_invalid',
    /the key "a" twice \(byte 61\)/,
  ],
  [
    'a member twice',
    rawSafetensors('{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', rampBytes(1)),
    'format_invalid',
    /the key "dtype" twice/,
  ],
  [
    'a name that is not UTF-8',
    rawSafetensors(Buffer.from(`{"\xff":${entry('U8', [1], [0, 1])}}`, 'latin1'), rampBytes(1)),
    'format_invalid',
    /not UTF-8 \(byte 10\)/,
  ],
  [
    'half a surrogate pair',
    rawSafetensors(`{"\\ud800":${entry('U8', [1], [0, 1])}}`, rampBytes(1)),
    'format_invalid',
    /surrogate/,
  ],
  [
    'an unknown dtype',
    rawSafetensors(`{"a":${entry('F128', [1], [0, 16])}}`, rampBytes(16)),
    'dtype_unsupported',
    /tensor "a" has the dtype "F128"; known are BOOL/,
  ],
  [
    'a prototype key as dtype',
    rawSafetensors(`{"a":${entry('constructor', [1], [0, 1])}}`, rampBytes(1)),
    'dtype_unsupported',
    /"constructor"/,
  ],
  [
    'a shape that lies',
    rawSafetensors(`{"a":${entry('F32', [3], [0, 8])}}`, rampBytes(8)),
    'format_invalid',
    /F32 \[3\] needs 12 bytes, its data_offsets hold 8/,
  ],
  [
    'a shape of 2^60',
    rawSafetensors(`{"a":{"dtype":"U8","shape":[1152921504606846976],"data_offsets":[0,1]}}`, rampBytes(1)),
    'format_invalid',
    /holds 1152921504606846976; whole numbers/,
  ],
  [
    'a product that wraps 64 bits',
    rawSafetensors(`{"a":${entry('U8', [2 ** 32, 2 ** 32], [0, 0])}}`),
    'format_invalid',
    /needs 18446744073709551616 bytes/,
  ],
  [
    'a negative dimension',
    rawSafetensors(`{"a":${entry('U8', [-1], [0, 1])}}`, rampBytes(1)),
    'format_invalid',
    /holds -1/,
  ],
  [
    'a fractional dimension',
    rawSafetensors(`{"a":${entry('U8', [1.5], [0, 1])}}`, rampBytes(1)),
    'format_invalid',
    /holds 1.5/,
  ],
  [
    'a dimension as text',
    rawSafetensors(`{"a":${entry('U8', ['1'], [0, 1])}}`, rampBytes(1)),
    'format_invalid',
    /holds string/,
  ],
  [
    'offsets the wrong way round',
    rawSafetensors(`{"a":${entry('U8', [1], [1, 0])}}`, rampBytes(1)),
    'format_invalid',
    /begin <= end/,
  ],
  [
    'three offsets',
    rawSafetensors(`{"a":${entry('U8', [1], [0, 1, 2])}}`, rampBytes(1)),
    'format_invalid',
    /\[begin, end\]/,
  ],
  [
    'an offset of 2^60',
    rawSafetensors(
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[1152921504606846975,1152921504606846976]}}',
      rampBytes(1),
    ),
    'format_invalid',
    /whole numbers from 0 to 2\^53/,
  ],
  [
    'overlapping tensors',
    rawSafetensors(`{"a":${entry('U8', [4], [0, 4])},"b":${entry('U8', [4], [2, 6])}}`, rampBytes(6)),
    'format_invalid',
    /tensor "b" starts at byte \d+, inside the tensor before it/,
  ],
  [
    'the same bytes twice',
    rawSafetensors(`{"a":${entry('U8', [4], [0, 4])},"b":${entry('U8', [4], [0, 4])}}`, rampBytes(4)),
    'format_invalid',
    /inside the tensor before it/,
  ],
  [
    'a hole between tensors',
    rawSafetensors(`{"a":${entry('U8', [2], [0, 2])},"b":${entry('U8', [2], [3, 5])}}`, rampBytes(5)),
    'format_invalid',
    /belong to no tensor/,
  ],
  [
    'bytes after the last tensor',
    rawSafetensors(`{"a":${entry('U8', [2], [0, 2])}}`, rampBytes(3)),
    'format_invalid',
    /1 bytes after the last tensor/,
  ],
  [
    'a tensor that ends outside',
    rawSafetensors(`{"a":${entry('U8', [9], [0, 9])}}`, rampBytes(3)),
    'format_truncated',
    /tensor "a" ends at byte/,
  ],
  [
    '4-bit elements that end inside a byte',
    rawSafetensors(`{"a":${entry('F4', [3], [0, 2])}}`, rampBytes(2)),
    'format_invalid',
    /whole byte/,
  ],
  [
    'an unknown member',
    rawSafetensors('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}', rampBytes(1)),
    'format_invalid',
    /unknown member "x"/,
  ],
  [
    'a tensor without dtype',
    rawSafetensors('{"a":{"shape":[1],"data_offsets":[0,1]}}', rampBytes(1)),
    'format_invalid',
    /no dtype/,
  ],
  ['a tensor that is a number', rawSafetensors('{"a":1}'), 'format_invalid', /no object/],
  [
    'metadata that is no text',
    rawSafetensors('{"__metadata__":{"a":1}}'),
    'format_invalid',
    /only strings; "a" is none/,
  ],
  ['metadata that is a list', rawSafetensors('{"__metadata__":[]}'), 'format_invalid', /__metadata__ is no object/],
  [
    'deep nesting',
    rawSafetensors(`{"a":${'['.repeat(50_000)}${']'.repeat(50_000)}}`),
    'limit_exceeded',
    /json_depth \(3\)/,
  ],
  [
    'a name of 5000 bytes',
    rawSafetensors(`{"${'n'.repeat(5000)}":${entry('U8', [1], [0, 1])}}`, rampBytes(1)),
    'limit_exceeded',
    /name_bytes: 5000, allowed 4096/,
  ],
  [
    '65 dimensions',
    rawSafetensors(`{"a":${entry('U8', Array(65).fill(1), [0, 1])}}`, rampBytes(1)),
    'limit_exceeded',
    /tensor_rank: 65, allowed 64/,
  ],
  [
    'a zip archive',
    Buffer.from(`PK\x03\x04${'\0'.repeat(60)}`, 'latin1'),
    'format_unrecognised',
    /looks like a zip archive/,
  ],
  [
    'a pickle',
    Buffer.from('\x80\x02}q\x00X\x05\x00\x00\x00hello', 'latin1'),
    'format_unrecognised',
    /looks like a Python pickle/,
  ],
  [
    'a PNG image',
    Buffer.from('\x89PNG\r\n\x1a\n\0\0\0\0IHDR', 'latin1'),
    'format_unrecognised',
    /looks like a PNG image/,
  ],
  ['an HTML page', Buffer.from('<!DOCTYPE html><html></html>'), 'format_unrecognised', /looks like an HTML page/],
]

for (const [name, bytes, code, says] of ATTACKS) {
  test(`refuses ${name}`, async (t) => {
    const error = await refusal(openModel(writeFiles(tempFolder(t), { 'model.safetensors': bytes })))
    assert.equal(error.code, code, error.detail)
    assert.match(error.detail, says)
    assert.match(error.detail, /model\.safetensors/)
  })
}

test('refuses every truncation of a small file, without reading beyond it', async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'cut.safetensors')
  for (let length = 0; length < SMALL.length; length++) {
    writeFileSync(path, SMALL.subarray(0, length))
    const error = await refusal(openModel([{ name: 'cut.safetensors', path, sizeBytes: length }]))
    assert.ok(['format_truncated', 'format_invalid'].includes(error.code), `${length}: ${error.message}`)
  }
})

test('survives 3,000 seeded mutations: an AppError, or a model whose tensors are all readable', async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'm.safetensors')
  const random = seededRandom(2026)
  let opened = 0
  for (let round = 0; round < 3000; round++) {
    const bytes = Uint8Array.from(SMALL)
    for (let hits = 1 + Math.floor(random() * 3); hits > 0; hits--)
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256)
    writeFileSync(path, bytes)
    try {
      const reader = await openSafetensors([{ name: 'm.safetensors', path, sizeBytes: bytes.length }])
      opened++
      await writeLayout(
        reader,
        reader.layout(keepPlans(reader), { externalData: 'auto', shardBytes: 64, fileName: 'o.safetensors' }),
      )
      await reader.close()
    } catch (error) {
      assert.ok(error instanceof AppError && error.code !== 'internal', `round ${round}: ${error}`)
    }
  }
  assert.ok(opened > 50, `mutations of the data alone still open (${opened})`)
})

const shard = (name: string) => buildSafetensors([{ name, dtype: 'F32', shape: [2], data: rampBytes(8) }])
const index = (map: Record<string, unknown>) => JSON.stringify({ metadata: {}, weight_map: map })

const BAD_SHARDS: [name: string, files: Record<string, Uint8Array | string>, code: ErrorCode, says: RegExp][] = [
  [
    'two files without an index',
    { '1.safetensors': shard('a'), '2.safetensors': shard('b') },
    'format_invalid',
    /2 \.safetensors files without an index/,
  ],
  [
    'a shard that was not given',
    { '1.safetensors': shard('a'), 'm.safetensors.index.json': index({ a: '1.safetensors', b: '2.safetensors' }) },
    'external_data_invalid',
    /names 1 file\(s\) that were not given: "2\.safetensors"/,
  ],
  [
    'an index alone',
    { 'm.safetensors.index.json': index({ a: '1.safetensors' }) },
    'external_data_invalid',
    /not given/,
  ],
  [
    'a path that climbs out',
    { '1.safetensors': shard('a'), 'm.safetensors.index.json': index({ a: '../1.safetensors' }) },
    'external_data_invalid',
    /"\.\.\/1\.safetensors"; only bare names/,
  ],
  [
    'an absolute path',
    { '1.safetensors': shard('a'), 'm.safetensors.index.json': index({ a: '/etc/passwd' }) },
    'external_data_invalid',
    /only bare names/,
  ],
  [
    'a backslash path',
    { '1.safetensors': shard('a'), 'm.safetensors.index.json': index({ a: '..\\1.safetensors' }) },
    'external_data_invalid',
    /only bare names/,
  ],
  [
    'a shard name that is no text',
    { '1.safetensors': shard('a'), 'm.safetensors.index.json': index({ a: 7 }) },
    'external_data_invalid',
    /only bare names/,
  ],
  [
    'a tensor in the wrong shard',
    {
      '1.safetensors': shard('a'),
      '2.safetensors': shard('b'),
      'm.safetensors.index.json': index({ a: '2.safetensors', b: '1.safetensors' }),
    },
    'format_invalid',
    /the index puts it into "2\.safetensors"/,
  ],
  [
    'a tensor in two shards',
    {
      '1.safetensors': shard('a'),
      '2.safetensors': shard('a'),
      'm.safetensors.index.json': index({ a: '1.safetensors', b: '2.safetensors' }),
    },
    'format_invalid',
    /the index puts it into "1\.safetensors"/,
  ],
  [
    'a tensor that no shard has',
    { '1.safetensors': shard('a'), 'm.safetensors.index.json': index({ a: '1.safetensors', ghost: '1.safetensors' }) },
    'format_invalid',
    /"ghost" into "1\.safetensors", which lacks it/,
  ],
  [
    'a tensor that the index forgot',
    {
      '1.safetensors': buildSafetensors([
        { name: 'a', dtype: 'U8', shape: [1], data: rampBytes(1) },
        { name: 'b', dtype: 'U8', shape: [1], data: rampBytes(1) },
      ]),
      'm.safetensors.index.json': index({ a: '1.safetensors' }),
    },
    'format_invalid',
    /the index does not name it/,
  ],
  [
    'a shard that the index forgot',
    {
      '1.safetensors': shard('a'),
      '2.safetensors': shard('b'),
      'm.safetensors.index.json': index({ a: '1.safetensors' }),
    },
    'format_invalid',
    /"2\.safetensors" holds no tensor/,
  ],
  [
    'a shard that is damaged',
    { '1.safetensors': shard('a').subarray(0, 70), 'm.safetensors.index.json': index({ a: '1.safetensors' }) },
    'format_truncated',
    /1\.safetensors/,
  ],
  [
    'an index without weight_map',
    { '1.safetensors': shard('a'), 'm.safetensors.index.json': '{"metadata":{}}' },
    'format_invalid',
    /no "weight_map"/,
  ],
  [
    'an index that is a list',
    { '1.safetensors': shard('a'), 'm.safetensors.index.json': '[]' },
    'format_invalid',
    /no "weight_map"/,
  ],
  [
    'an index of broken JSON',
    { '1.safetensors': shard('a'), 'm.safetensors.index.json': '{"weight_map": {"a"' },
    'format_invalid',
    /byte 19/,
  ],
  [
    'two indexes',
    {
      '1.safetensors': shard('a'),
      'a.safetensors.index.json': index({ a: '1.safetensors' }),
      'b.safetensors.index.json': index({ a: '1.safetensors' }),
    },
    'format_invalid',
    /two indexes/,
  ],
  [
    'a config.json that is no JSON',
    { '1.safetensors': shard('a'), 'config.json': 'hidden_size: 3' },
    'format_invalid',
    /config\.json/,
  ],
]

for (const [name, files, code, says] of BAD_SHARDS) {
  test(`refuses ${name} in a sharded model`, async (t) => {
    const error = await refusal(openModel(writeFiles(tempFolder(t), files)))
    assert.equal(error.code, code, error.detail)
    assert.match(error.detail, says)
  })
}

test('refuses file names that are paths', async (t) => {
  const [file] = writeFiles(tempFolder(t), { 'm.safetensors': SMALL })
  const error = await refusal(openModel([{ ...file!, name: '../m.safetensors' }]))
  assert.equal(error.code, 'external_data_invalid')
})

test('a file that changed or vanished since it was received is named', async (t) => {
  const folder = tempFolder(t)
  const [file] = writeFiles(folder, { 'm.safetensors': SMALL })
  const changed = await refusal(openSafetensors([{ ...file!, sizeBytes: 5 }]))
  assert.deepEqual([changed.code, changed.context['file']], ['store_failed', 'm.safetensors'])
  symlinkSync(join(folder, 'nowhere'), join(folder, 'link.safetensors'))
  const gone = await refusal(
    openSafetensors([{ name: 'link.safetensors', path: join(folder, 'link.safetensors'), sizeBytes: 9 }]),
  )
  assert.deepEqual([gone.code, gone.context['file']], ['store_failed', 'link.safetensors'])
})

test('tensors named like object members are ordinary tensors', async (t) => {
  const names = ['__proto__', 'constructor', 'toString', '']
  const bytes = buildSafetensors(
    names.map((name) => ({ name, dtype: 'U8', shape: [1], data: rampBytes(1) })),
    { ['__proto__']: 'x' },
  )
  const reader = await openModel(writeFiles(tempFolder(t), { 'm.safetensors': bytes }))
  assert.deepEqual(
    reader.tensors.map(({ name }) => name),
    names,
  )
  await reader.close()
})

test('a header of 60,000 tensors opens within five seconds of processor time', async (t) => {
  const tensors = Array.from({ length: 60_000 }, (_, i) => {
    return {
      name: `model.layers.${i}.mlp.experts.7.down_proj.weight`,
      dtype: 'U8',
      shape: [1, 1],
      data: rampBytes(1, i),
    }
  })
  const files = writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors(tensors) })
  const start = process.cpuUsage()
  const reader = await openModel(files)
  const seconds = process.cpuUsage(start).user / 1e6
  assert.equal(reader.tensors.length, 60_000)
  await reader.close()
  assert.ok(seconds < 5, `${seconds.toFixed(2)} s`)
})
