// The safetensors format: what is read, how tensors are judged, and that artifacts keep what they were not asked to change.

import assert from 'node:assert/strict'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { openModel } from '../../src/formats/index.ts'
import { safetensors } from '../../src/formats/safetensors/index.ts'
import { planJob } from '../../src/jobs/plan-job.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import type { OutputOptions, SourceFile } from '../../src/tensor/model.ts'
import { buildSafetensors, f32Bytes, rampBytes } from '../support/build-safetensors.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { keepPlans, writeLayout } from '../support/write-layout.ts'

const OUTPUT: OutputOptions = { externalData: 'auto', shardBytes: null, fileName: 'model.safetensors' }

/** Header and data of written bytes, read with JSON.parse so that our own reader is not its own judge. */
function parse(bytes: Uint8Array | undefined): { header: Record<string, unknown>; data: Buffer; dataStart: number } {
  assert.ok(bytes)
  const buffer = Buffer.from(bytes)
  const dataStart = 8 + Number(buffer.readBigUInt64LE())
  return { header: JSON.parse(buffer.toString('utf8', 8, dataStart)), data: buffer.subarray(dataStart), dataStart }
}

function matrix(name: string, rows: number, columns: number) {
  return { name, dtype: 'F32', shape: [rows, columns], data: rampBytes(rows * columns * 4, name.length) }
}

async function planned(files: SourceFile[], expression: string, output: OutputOptions = OUTPUT) {
  const reader = await openModel(files)
  const { recipe } = resolveRecipe(expression)
  const job = planJob(reader, recipe, output)
  const written = await writeLayout(reader, job.layout, (_tensor, part, length) => {
    return new Uint8Array(length).fill({ values: 0x11, scale: 0x22, zero_point: 0x33, shape: 0x44 }[part])
  })
  await reader.close()
  return { ...job, written }
}

test('an untouched file comes out byte for byte, whatever its header looks like', async (t) => {
  const header =
    '{ "b":{"shape":[2],"data_offsets":[4,12],"dtype":"F32"},\n "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   '
  const bytes = Buffer.concat([Buffer.alloc(8), Buffer.from(header), f32Bytes([1, 2, 3])])
  bytes.writeBigUInt64LE(BigInt(header.length))
  const reader = await openModel(writeFiles(tempFolder(t), { 'model.safetensors': bytes }))
  assert.deepEqual(
    reader.tensors.map(({ name, shape }) => [name, shape]),
    [
      ['a', []],
      ['b', [2]],
    ],
  )
  const written = await writeLayout(reader, reader.layout(keepPlans(reader), OUTPUT))
  assert.deepEqual([...written.keys()], ['model.safetensors'])
  assert.ok(bytes.equals(written.get('model.safetensors') ?? Buffer.alloc(0)))
  await reader.close()
})

test('every dtype of the format is kept as it is, sub-byte and 8-bit floats included', async (t) => {
  const sizes = {
    BOOL: 8,
    F4: 4,
    F6_E2M3: 6,
    F6_E3M2: 6,
    F8_E4M3: 8,
    F8_E4M3FNUZ: 8,
    F8_E5M2: 8,
    F8_E5M2FNUZ: 8,
    F8_E8M0: 8,
    U8: 8,
    I8: 8,
    U16: 16,
    I16: 16,
    F16: 16,
    BF16: 16,
    U32: 32,
    I32: 32,
    F32: 32,
    U64: 64,
    I64: 64,
    F64: 64,
    C64: 64,
  }
  const tensors = Object.entries(sizes).map(([dtype, bits], i) => {
    return { name: `t.${dtype}`, dtype, shape: [4, 6], data: rampBytes((24 * bits) / 8, i) }
  })
  tensors.push({
    name: 'changes',
    dtype: 'F32',
    shape: [16, 32],
    data: f32Bytes(Array.from({ length: 512 }, Math.sin)),
  })
  const files = writeFiles(tempFolder(t), { 'model.safetensors': buildSafetensors(tensors) })
  const { plans, written } = await planned(files, 'int8')
  assert.deepEqual(
    plans.filter(({ action }) => action === 'compress').map(({ tensor }) => tensor.name),
    ['changes'],
  )
  const { header, data } = parse(written.get('model.safetensors'))
  for (const { name, dtype, shape, data: expected } of tensors.slice(0, -1)) {
    const entry = header[name] as { dtype: string; shape: number[]; data_offsets: [number, number] }
    assert.equal(entry.dtype, dtype)
    assert.deepEqual(entry.shape, shape)
    assert.ok(data.subarray(...entry.data_offsets).equals(expected), `${name} is byte-identical`)
  }
})

test('int8 writes I8 values and one scale per row beside them, and says so in quantization_config', async (t) => {
  const tensors = [matrix('fc1.weight', 16, 33), { name: 'fc1.bias', dtype: 'F32', shape: [200], data: rampBytes(800) }]
  const files = writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors(tensors, { format: 'pt' }) })
  const { written, plans } = await planned(files, 'int8')
  assert.equal(plans[1]?.reason, 'bias')
  const { header, data, dataStart } = parse(written.get('model.safetensors'))
  const { __metadata__: metadata, ...entries } = header as unknown as Record<string, Record<string, string>>
  assert.deepEqual(Object.keys(entries), ['fc1.weight', 'fc1.weight.scale', 'fc1.bias'])
  // 528 bytes of int8 first would leave the scales aligned, and nothing has to move.
  assert.deepEqual(entries, {
    'fc1.weight': { dtype: 'I8', shape: [16, 33], data_offsets: [0, 528] },
    'fc1.weight.scale': { dtype: 'F32', shape: [16], data_offsets: [528, 592] },
    'fc1.bias': { dtype: 'F32', shape: [200], data_offsets: [592, 1392] },
  })
  assert.equal(dataStart % 8, 0)
  assert.ok(data.subarray(592).equals(tensors[1]?.data ?? Buffer.alloc(0)))
  assert.equal(metadata?.['format'], 'pt')
  assert.deepEqual(JSON.parse(metadata?.['quantization_config'] ?? ''), {
    quant_method: 'tensorpress',
    format: 'scaled-int8',
    config_groups: {
      group_0: {
        targets: ['fc1.weight'],
        weights: { num_bits: 8, type: 'int', symmetric: true, strategy: 'channel', axis: 0, scale_suffix: '.scale' },
        input_activations: null,
        output_activations: null,
        format: 'scaled-int8',
      },
    },
  })
})

test('a tensor that would lie off its alignment makes the data order widest first, the header order stays', async (t) => {
  const tensors = [matrix('a.weight', 13, 11), matrix('b.weight', 13, 11), matrix('tiny', 2, 2)]
  const files = writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors(tensors) })
  const { written } = await planned(files, 'int8')
  const { header, data } = parse(written.get('model.safetensors'))
  const offsets = Object.entries(header as unknown as Record<string, { data_offsets: number[] }>)
  assert.deepEqual(
    offsets.filter(([name]) => name !== '__metadata__').map(([name, entry]) => [name, ...entry.data_offsets]),
    [
      ['a.weight', 120, 263],
      ['a.weight.scale', 0, 52],
      ['b.weight', 263, 406],
      ['b.weight.scale', 52, 104],
      ['tiny', 104, 120],
    ],
  )
  assert.ok(data.subarray(104, 120).equals(tensors[2]?.data ?? Buffer.alloc(0)))
})

test('int4 writes the names, dtypes and shapes of pack-quantized, and its quantization_config', async (t) => {
  const tensors = [matrix('layers.0.q_proj.weight', 24, 64), matrix('odd', 8, 40)]
  const files = writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors(tensors) })
  const { written, plans } = await planned(files, 'int4')
  assert.equal(plans[1]?.encode.kind, 'scaled-int', 'rows of 40 do not divide into blocks of 32')
  const { header, data } = parse(written.get('model.safetensors'))
  const entry = (name: string) => header[name] as { dtype: string; shape: number[]; data_offsets: [number, number] }
  const base = 'layers.0.q_proj.weight'
  assert.deepEqual([entry(`${base}_packed`).dtype, entry(`${base}_packed`).shape], ['I32', [24, 8]])
  assert.deepEqual([entry(`${base}_scale`).dtype, entry(`${base}_scale`).shape], ['F32', [24, 2]])
  assert.deepEqual([entry(`${base}_shape`).dtype, entry(`${base}_shape`).shape], ['I64', [2]])
  const shape = data.subarray(...entry(`${base}_shape`).data_offsets)
  assert.deepEqual([shape.readBigInt64LE(0), shape.readBigInt64LE(8)], [24n, 64n])
  assert.equal(header[base], undefined)
  assert.equal(header[`${base}_zero_point`], undefined)
  const config = JSON.parse((header['__metadata__'] as { quantization_config: string }).quantization_config)
  assert.equal(config.quant_method, 'compressed-tensors')
  assert.equal(config.format, 'pack-quantized')
  assert.deepEqual(config.config_groups.group_0.targets, ['layers.0.q_proj'])
  assert.deepEqual(config.config_groups.group_0.weights, {
    num_bits: 4,
    type: 'int',
    symmetric: true,
    strategy: 'group',
    group_size: 32,
    dynamic: false,
  })
  assert.deepEqual(config.scaled_int8.config_groups.group_0.targets, ['odd'])
})

test('asymmetric blocks add zero points packed along the rows', async (t) => {
  const files = writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors([matrix('w.weight', 20, 256)]) })
  const { written } = await planned(files, 'int4-asym-b128')
  const { header } = parse(written.get('model.safetensors'))
  const { dtype, shape } = header['w.weight_zero_point'] as { dtype: string; shape: number[] }
  assert.deepEqual([dtype, shape], ['I32', [3, 2]], '20 rows need 2.5 words of 8 codes')
})

test('casts change the dtype in place', async (t) => {
  const tensors = [matrix('a.weight', 16, 16), matrix('b.weight', 16, 16)]
  const files = writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors(tensors, { note: 'kept' }) })
  for (const [preset, dtype] of [
    ['fp16', 'F16'],
    ['bf16', 'BF16'],
  ] as const) {
    const { header } = parse((await planned(files, preset)).written.get('model.safetensors'))
    assert.deepEqual(header, {
      __metadata__: { note: 'kept' },
      'a.weight': { dtype, shape: [16, 16], data_offsets: [0, 512] },
      'b.weight': { dtype, shape: [16, 16], data_offsets: [512, 1024] },
    })
  }
})

test('int8-dynamic is refused, since there is no graph', async (t) => {
  const files = writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors([matrix('a.weight', 16, 16)]) })
  await assert.rejects(
    planned(files, 'int8-dynamic'),
    (error) => error instanceof AppError && error.code === 'feature_unsupported',
  )
})

test('roles follow rank and name', async (t) => {
  const one = (name: string, shape: number[]) => {
    return { name, dtype: 'F32', shape, data: rampBytes(shape.reduce((a, b) => a * b, 4)) }
  }
  const tensors = [
    one('fc.weight', [3, 4]),
    one('conv.weight', [2, 3, 1, 1]),
    one('fc.bias', [3]),
    one('norm1.weight', [4]),
    one('ln_f.weight', [1, 4]),
    one('lstm.bias_ih_l0', [2, 4]),
    one('temperature', []),
    { name: 'ids', dtype: 'I64', shape: [1, 2], data: rampBytes(16) },
  ]
  const reader = await openModel(writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors(tensors) }))
  assert.deepEqual(Object.fromEntries(reader.tensors.map(({ name, roles }) => [name, roles[0]])), {
    'fc.weight': 'matrix',
    'conv.weight': 'conv',
    'fc.bias': 'bias',
    'norm1.weight': 'norm',
    'ln_f.weight': 'norm',
    'lstm.bias_ih_l0': 'bias',
    temperature: 'other',
    ids: 'other',
  })
  const matrixTensor = reader.tensors.find(({ name }) => name === 'fc.weight')
  assert.deepEqual(matrixTensor?.encodings['block-packed'], {
    ok: true,
    channelAxis: 0,
    matrix: { n: 3, k: 4, order: 'nk' },
    blocks: { raggedBlocks: false, zeroPoints: 'column-words' },
  })
  await reader.close()
})

test('companions of compressed weights are recognised and locked', async (t) => {
  const f32 = (name: string, shape: number[]) => ({ ...matrix(name, shape[0] ?? 1, shape[1] ?? 1), shape })
  const tensors = [
    { name: 'a.weight_packed', dtype: 'I32', shape: [4, 4], data: rampBytes(64) },
    f32('a.weight_scale', [4, 1]),
    { name: 'b.qweight', dtype: 'I32', shape: [4, 4], data: rampBytes(64) },
    f32('b.scales', [4, 1]),
    { name: 'c.weight', dtype: 'F8_E4M3', shape: [4, 4], data: rampBytes(16) },
    f32('c.weight_scale_inv', [4, 1]),
    { name: 'd', dtype: 'I8', shape: [4, 4], data: rampBytes(16) },
    f32('d.scale', [4, 1]),
    f32('free_scale', [4, 4]),
  ]
  const reader = await openModel(writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors(tensors) }))
  assert.deepEqual(
    reader.tensors.filter(({ locked }) => locked?.reason === 'already_compressed').map(({ name }) => name),
    ['a.weight_packed', 'a.weight_scale', 'b.qweight', 'b.scales', 'c.weight_scale_inv', 'd.scale'],
  )
  assert.deepEqual(reader.summary.alreadyCompressed, ['pack-quantized', 'GPTQ or AWQ', 'fp8', 'int8'])
  await reader.close()
})

test('a tensor whose companion name is taken keeps its float form', async (t) => {
  const tensors = [matrix('w', 16, 32), { ...matrix('w.scale', 4, 4), shape: [16] }]
  const files = writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors(tensors) })
  const { plans } = await planned(files, 'int8')
  assert.deepEqual([plans[0]?.action, plans[0]?.reason], ['keep', 'encoding_unsupported'])
})

function shardedFixture() {
  const first = [matrix('a.weight', 16, 32), matrix('n.small', 2, 2)]
  const second = [matrix('b.weight', 16, 32)]
  const index = {
    metadata: { total_size: 4112, total_parameters: 1028 },
    weight_map: {
      'b.weight': 'model-00002-of-00002.safetensors',
      'a.weight': 'model-00001-of-00002.safetensors',
      'n.small': 'model-00001-of-00002.safetensors',
    },
  }
  return {
    'model-00001-of-00002.safetensors': buildSafetensors(first, { format: 'pt' }),
    'model-00002-of-00002.safetensors': buildSafetensors(second, { format: 'pt' }),
    'model.safetensors.index.json': JSON.stringify(index),
    'config.json': '{\n  "hidden_size": 32,\n  "layer_norm_eps": 1e-05\n}\n',
    'tokenizer.json': '{"version": "1.0"}',
  }
}

test('an untouched sharded model comes out byte for byte, config and further files included', async (t) => {
  const files = shardedFixture()
  const reader = await openModel(writeFiles(tempFolder(t), files))
  assert.deepEqual(
    reader.tensors.map(({ name }) => name),
    ['a.weight', 'n.small', 'b.weight'],
  )
  const written = await writeLayout(reader, reader.layout(keepPlans(reader), OUTPUT))
  assert.deepEqual([...written.keys()].sort(), Object.keys(files).sort())
  for (const [name, content] of Object.entries(files)) assert.ok(Buffer.from(content).equals(written.get(name)!), name)
  await reader.close()
})

test('a compressed sharded model keeps its shards; the index and config.json follow', async (t) => {
  const { written } = await planned(writeFiles(tempFolder(t), shardedFixture()), 'int4')
  assert.deepEqual(
    [...written.keys()],
    [
      'model.safetensors.index.json',
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
      'config.json',
      'tokenizer.json',
    ],
  )
  const text = (name: string) => Buffer.from(written.get(name) ?? []).toString()
  assert.deepEqual(JSON.parse(text('model.safetensors.index.json')), {
    metadata: { total_size: 16 + 2 * (256 + 64 + 16), total_parameters: 1028 },
    weight_map: {
      'b.weight_packed': 'model-00002-of-00002.safetensors',
      'b.weight_scale': 'model-00002-of-00002.safetensors',
      'b.weight_shape': 'model-00002-of-00002.safetensors',
      'a.weight_packed': 'model-00001-of-00002.safetensors',
      'a.weight_scale': 'model-00001-of-00002.safetensors',
      'a.weight_shape': 'model-00001-of-00002.safetensors',
      'n.small': 'model-00001-of-00002.safetensors',
    },
  })
  assert.ok(
    text('config.json').startsWith('{\n  "hidden_size": 32,\n  "layer_norm_eps": 1e-05,\n  "quantization_config": {'),
  )
  assert.deepEqual(JSON.parse(text('config.json')).quantization_config.config_groups.group_0.targets, ['a', 'b'])
  const shardMetadata = parse(written.get('model-00002-of-00002.safetensors')).header['__metadata__'] as Record<
    string,
    string
  >
  assert.deepEqual(JSON.parse(shardMetadata['quantization_config'] ?? '').config_groups.group_0.targets, ['b'])
})

test('a sharded model without config.json gets one that holds the quantization_config', async (t) => {
  const { 'config.json': _config, 'tokenizer.json': _tokenizer, ...files } = shardedFixture()
  const { written, layout } = await planned(writeFiles(tempFolder(t), files), 'int8')
  const config = JSON.parse(Buffer.from(written.get('config.json') ?? []).toString())
  assert.deepEqual(Object.keys(config), ['quantization_config'])
  assert.ok(layout.notes.some(({ note }) => note.includes('config.json was created')))
})

test('a quantization_config that is already there is kept, and ours stands beside it', async (t) => {
  const metadata = { quantization_config: '{"quant_method":"other"}' }
  const files = writeFiles(tempFolder(t), { 'm.safetensors': buildSafetensors([matrix('a.weight', 16, 32)], metadata) })
  const { header } = parse((await planned(files, 'int8')).written.get('model.safetensors'))
  const found = header['__metadata__'] as Record<string, string>
  assert.equal(found['quantization_config'], '{"quant_method":"other"}')
  assert.equal(JSON.parse(found['tensorpress_quantization_config'] ?? '').quant_method, 'tensorpress')
})

test('shardBytes cuts a model into shards that it can be read from again', async (t) => {
  const tensors = [matrix('a', 16, 16), matrix('b', 16, 16), matrix('c', 32, 32), matrix('d', 4, 4)]
  const folder = tempFolder(t)
  const files = writeFiles(folder, { 'm.safetensors': buildSafetensors(tensors, { format: 'pt' }) })
  const reader = await openModel(files)
  const output = { ...OUTPUT, fileName: 'out.safetensors', shardBytes: 2048 }
  const written = await writeLayout(reader, reader.layout(keepPlans(reader), output))
  await reader.close()
  assert.deepEqual(
    [...written.keys()],
    [
      'out.safetensors.index.json',
      'out-00001-of-00003.safetensors',
      'out-00002-of-00003.safetensors',
      'out-00003-of-00003.safetensors',
    ],
  )
  const again = await openModel(writeFiles(folder, Object.fromEntries(written)))
  assert.deepEqual(
    again.tensors.map(({ name }) => name),
    ['a', 'b', 'c', 'd'],
  )
  for (const [i, tensor] of again.tensors.entries()) {
    const bytes = new Uint8Array(tensors[i]?.data.length ?? 0)
    await again.read(tensor.data, 0, bytes)
    assert.deepEqual(bytes, tensors[i]?.data)
  }
  assert.equal(again.summary.metadata['format'], 'pt')
  const joined = await writeLayout(again, again.layout(keepPlans(again), { ...output, shardBytes: 2 ** 30 }))
  assert.deepEqual([...joined.keys()], ['out.safetensors'])
  assert.ok(Buffer.from(joined.get('out.safetensors')!).equals(buildSafetensors(tensors, { format: 'pt' })))
  await again.close()
})

test('an index alone names the files that belong to it', async (t) => {
  const files = writeFiles(tempFolder(t), shardedFixture())
  const index = files.find(({ name }) => name.endsWith('.index.json'))!
  assert.deepEqual(await safetensors.companions?.(index), [
    'model-00002-of-00002.safetensors',
    'model-00001-of-00002.safetensors',
    'config.json',
  ])
})

const SILERO = new URL('../../../shared/models/silero-vad/silero_vad_16k.safetensors', import.meta.url)

test('silero-vad: identity is byte-equal, and our header equals the one of the library that wrote it', {
  skip: existsSync(SILERO) ? false : 'the shared models are not beside the checkout',
}, async () => {
  const bytes = readFileSync(SILERO)
  const reader = await openModel([
    { name: 'silero.safetensors', path: SILERO.pathname, sizeBytes: statSync(SILERO).size },
  ])
  const plans = keepPlans(reader)
  const same = await writeLayout(reader, reader.layout(plans, OUTPUT))
  assert.ok(bytes.equals(same.get('model.safetensors')!))
  // One tensor goes through a part unchanged, so that the header is written anew.
  const [first] = plans
  assert.ok(first)
  const changed = {
    ...first,
    action: 'compress' as const,
    outputs: [{ part: 'values' as const, dtype: 'f32' as const, shape: first.tensor.shape, lengthBytes: 264192 }],
  }
  const original = new Uint8Array(264192)
  await reader.read(first.tensor.data, 0, original)
  const layout = reader.layout([changed, ...plans.slice(1)], OUTPUT)
  const rewritten = await writeLayout(reader, layout, () => original)
  assert.ok(bytes.equals(rewritten.get('model.safetensors')!))
  assert.equal(layout.files[0]?.runs.length, 3, 'header, part, and one run for all that follows')
  await reader.close()
})
