import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { planJob, type TensorFacts } from '../../src/jobs/plan-job.ts'
import type { PlanDocument } from '../../src/jobs/protocol.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import type { EncodingSupport } from '../../src/tensor/model.ts'
import { type MemoryTensor, memoryModel } from '../support/memory-model.ts'

const NO: EncodingSupport = { ok: false, reason: 'encoding_unsupported', detail: 'not here' }

function tensor(name: string, shape: number[], extra: Partial<MemoryTensor> = {}): MemoryTensor {
  return { name, shape, values: new Float32Array(shape.reduce((a, b) => a * b, 1)), ...extra }
}

function plan(
  tensors: MemoryTensor[],
  recipe: string | object,
  format: 'onnx' | 'safetensors' = 'onnx',
  facts?: TensorFacts,
): PlanDocument {
  const output = { externalData: 'auto', shardBytes: null, fileName: 'out.bin' } as const
  return planJob(memoryModel(tensors, format), resolveRecipe(recipe).recipe, output, facts).document
}

function row(tensors: MemoryTensor[], recipe: string | object, name = tensors[0]?.name) {
  const found = plan(tensors, recipe).tensors.find((entry) => entry.name === name)
  assert.ok(found)
  return found
}

test('int8 gives one scale per channel, and bytes are known before any data is read', () => {
  const found = row([tensor('w', [64, 32])], 'int8')
  assert.equal(found.action, 'compress')
  assert.deepEqual(found.outputs, [
    { part: 'values', dtype: 'i8', shape: [64, 32], lengthBytes: 2048 },
    { part: 'scale', dtype: 'f32', shape: [64], lengthBytes: 256 },
  ])
  assert.equal(found.bytesBefore, 8192)
  assert.equal(found.bytesAfter, 2304)
})

test('a use without a channel axis gets one scale for the tensor', () => {
  const found = row([tensor('w', [1, 64, 32], { roles: ['lstm'], axis: null })], 'int8')
  assert.deepEqual(found.outputs[1]?.shape, [])
  assert.match(found.detail, /one scale/)
})

test('int4 of a matrix is block-packed with zero points; a convolution falls back to int8 and says why', () => {
  const document = plan([tensor('w', [10, 70]), tensor('c', [16, 8, 3, 3], { roles: ['conv'] })], 'int4')
  assert.deepEqual(document.tensors[0]?.outputs, [
    { part: 'values', dtype: 'u8', shape: [10, 3, 16], lengthBytes: 480 },
    { part: 'scale', dtype: 'f32', shape: [10, 3], lengthBytes: 120 },
    { part: 'zero_point', dtype: 'u8', shape: [10, 2], lengthBytes: 20 },
  ])
  assert.equal(document.tensors[1]?.encode.kind, 'scaled-int')
  assert.match(document.tensors[1]?.detail ?? '', /first choice not possible: not a matrix/)
  assert.equal(document.bytesAfter, 620 + 16 * 72 + 64)
})

test('a block layout without ragged blocks falls back where rows do not divide, and packs zero points by column', () => {
  const blocks = { raggedBlocks: false, zeroPoints: 'column-words' } as const
  const support = (k: number, n: number): EncodingSupport => ({
    ok: true,
    channelAxis: 0,
    matrix: { k, n, order: 'nk' },
    blocks,
  })
  const document = plan(
    [
      tensor('even', [9, 256], { encodings: { 'block-packed': support(256, 9) } }),
      tensor('odd', [9, 100], { encodings: { 'block-packed': support(100, 9) } }),
    ],
    'int4-asym-b128',
    'safetensors',
  )
  assert.deepEqual(document.tensors[0]?.outputs[2], {
    part: 'zero_point',
    dtype: 'i32',
    shape: [2, 2],
    lengthBytes: 16,
  })
  assert.equal(document.tensors[1]?.encode.kind, 'scaled-int')
  assert.match(document.tensors[1]?.detail ?? '', /rows of 100 do not divide into blocks of 128/)
})

test('what no step may touch is kept with its reason', () => {
  const document = plan(
    [
      tensor('bias', [512], { roles: ['bias'] }),
      tensor('norm', [512], { roles: ['norm'] }),
      tensor('add', [512], { roles: ['other'] }),
      tensor('unused', [512], { roles: [] }),
      tensor('small', [127, 1]),
      tensor('scalar', []),
      tensor('empty', [0, 7]),
      { name: 'ids', shape: [512], dtype: 'u8', values: new Uint8Array(512) },
      { name: 'half', shape: [512], dtype: 'f16', values: new Uint8Array(1024) },
      { name: 'double', shape: [512], dtype: 'f64', values: new Uint8Array(4096) },
      tensor('locked', [512], { locked: { reason: 'inside_function', detail: 'in f' } }),
      tensor('refused', [512, 2], { encodings: { 'scaled-int8': NO } }),
    ],
    'int8',
  )
  assert.deepEqual(
    document.tensors.map(({ name, action, reason }) => [name, action, reason]),
    [
      ['bias', 'keep', 'bias'],
      ['norm', 'keep', 'norm'],
      ['add', 'keep', 'not_a_weight'],
      ['unused', 'keep', 'not_a_weight'],
      ['small', 'keep', 'too_small'],
      ['scalar', 'keep', 'scalar'],
      ['empty', 'keep', 'scalar'],
      ['ids', 'keep', 'not_float'],
      ['half', 'keep', 'already_compressed'],
      ['double', 'keep', 'dtype_unsupported'],
      ['locked', 'keep', 'inside_function'],
      ['refused', 'keep', 'encoding_unsupported'],
    ],
  )
  assert.ok(document.tensors.every(({ detail }) => detail.length > 0))
})

test('the first encode step that selects a tensor and fits wins', () => {
  const recipe = {
    steps: [
      { method: 'cast', dtype: 'fp16', select: { names: ['head.**', 'head*'] } },
      { method: 'quantize', bits: 8, granularity: 'tensor' },
    ],
  }
  const document = plan([tensor('head.weight', [64, 64]), tensor('body.weight', [64, 64])], recipe)
  assert.deepEqual(
    document.tensors.map(({ encode, steps }) => [encode.kind, steps]),
    [
      ['float16', ['cast']],
      ['scaled-int', ['quantize']],
    ],
  )
})

test('name globs stop at slashes, ** does not, and a whole name matches itself', () => {
  const names = ['/model/a/w', 'w', 'a[0](x)']
  const selected = (globs: string[]) =>
    plan(
      names.map((name) => tensor(name, [64, 64])),
      { steps: [{ method: 'quantize', select: { names: globs } }] },
    ).tensors.flatMap(({ name, action }) => (action === 'compress' ? [name] : []))
  assert.deepEqual(selected(['*']), ['w', 'a[0](x)'])
  assert.deepEqual(selected(['**/w']), ['/model/a/w', 'w'])
  assert.deepEqual(selected(['a[0](x)']), ['a[0](x)'])
})

test('prune and quantize compose: one encoding, both named, the threshold shared by the group', () => {
  const found = row([tensor('w', [64, 64])], 'prune-50+int8')
  assert.deepEqual(found.steps, ['prune-magnitude', 'quantize'])
  assert.deepEqual(found.prune, { kind: 'global-sparsity', sparsity: 0.5, group: '0-prune-magnitude' })
  assert.equal(found.encode.kind, 'scaled-int')
})

test('two thresholds on one tensor are the larger one; two of different kinds are refused', () => {
  const step = (params: object) => ({ method: 'prune-magnitude', ...params })
  const found = row([tensor('w', [64, 64])], { steps: [step({ threshold: 0.1 }), step({ threshold: 0.2 })] })
  assert.deepEqual(found.prune, { kind: 'threshold', threshold: 0.2 })
  assert.throws(
    () => row([tensor('w', [64, 64])], { steps: [step({ threshold: 0.1 }), step({ sparsity: 0.2 })] }),
    (error) => error instanceof AppError && error.code === 'feature_unsupported' && /"w"/.test(error.detail),
  )
})

test('a form that would not be smaller is not taken', () => {
  const found = row([tensor('w', [128, 1])], 'int8')
  assert.equal(found.action, 'keep')
  assert.equal(found.reason, 'no_gain')
})

test('a transposed weight beyond one device binding falls back', () => {
  const shape = [2 ** 16, 2 ** 13]
  const huge: MemoryTensor = { name: 'w', shape, axis: 1, values: new Float32Array(0) }
  const found = row([huge], 'int4')
  assert.equal(found.encode.kind, 'scaled-int')
  assert.match(found.detail, /transposed packed form takes 268435456 bytes, the limit is 134217728/)
})

test('int8-dynamic needs a graph', () => {
  assert.equal(row([tensor('w', [64, 64])], 'int8-dynamic').encode.kind, 'dynamic-int8')
  assert.throws(
    () => plan([tensor('w', [64, 64])], 'int8-dynamic', 'safetensors'),
    (error) => error instanceof AppError && error.code === 'feature_unsupported',
  )
})

test('facts about the data remove choices: integers for NaN, fp16 for overflow', () => {
  const tensors = [tensor('w', [64, 64])]
  const withFact = (recipe: string | object, fact: { nonFinite?: boolean; float16Overflow?: boolean }) =>
    plan(tensors, recipe, 'onnx', new Map([['w', fact]])).tensors[0]
  assert.equal(withFact('int8', { nonFinite: true })?.reason, 'non_finite')
  assert.equal(withFact('int4', { nonFinite: true })?.reason, 'non_finite')
  assert.equal(withFact('fp16', { float16Overflow: true })?.reason, 'fp16_overflow')
  const halves = {
    steps: [
      { method: 'cast', dtype: 'fp16' },
      { method: 'cast', dtype: 'bf16' },
    ],
  }
  assert.equal(withFact(halves, { float16Overflow: true })?.encode.kind, 'bfloat16')
  assert.equal(withFact('prune-50+int8', { nonFinite: true })?.encode.kind, 'dense')
  const fallback = { steps: [{ method: 'quantize' }, { method: 'cast', dtype: 'bf16' }] }
  assert.equal(withFact(fallback, { nonFinite: true })?.encode.kind, 'bfloat16')
})

test('file sizes, output files and peak memory are part of the plan', () => {
  const document = plan([tensor('w', [64, 64]), tensor('b', [64], { roles: ['bias'] })], 'fp16')
  assert.deepEqual(document.outputFiles, [{ name: 'out.bin', sizeBytes: 64 * 64 * 2 + 256 }])
  assert.equal(document.bytesAfter, 64 * 64 * 2 + 256)
  assert.ok(document.peakMemoryBytes > 100 * 1024 * 1024 && document.peakMemoryBytes < 320 * 1024 * 1024)
})
