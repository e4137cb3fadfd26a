// Safetensors artifacts, read by the Python library and dequantized by code that is not ours: every preset, with the
// compressed-tensors library as judge of packed weights where it can be installed.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { buildSafetensors, f32Bytes, rampBytes } from '../support/build-safetensors.ts'
import { compressWithCli } from '../support/compress-with-cli.ts'
import { hasRequirements, runPython, skipWithoutPython } from '../support/python-environment.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { tempFolder } from '../support/temp-folder.ts'

const skip = skipWithoutPython()

interface Judgement {
  tensors: Record<
    string,
    {
      stored: string
      identical?: boolean
      max_error_in_scales: number | null
      max_relative_error: number
      zeros: number
    }
  >
  config: { quant_method: string } | null
  compressed_tensors: Record<string, { shape: number[]; difference: number }> | null
}

/** Odd shapes on purpose: 20 rows leave the last word of zero points half empty. */
function writeModel(t: TestContext): string {
  const random = seededRandom(11)
  const weights = (name: string, shape: number[]) => {
    const values = Array.from(
      { length: shape.reduce((a, b) => a * b) },
      () => (random() + random() + random() - 1.5) * 0.2,
    )
    return { name, dtype: 'F32', shape, data: f32Bytes(values) }
  }
  const path = join(tempFolder(t), 'model.safetensors')
  const tensors = [
    weights('embed.weight', [100, 256]),
    weights('layer.proj.weight', [20, 256]),
    weights('layer.proj.bias', [20]),
    weights('odd.weight', [9, 77]),
    weights('conv.weight', [8, 4, 3, 3]),
    { name: 'half', dtype: 'BF16', shape: [3, 5], data: rampBytes(30) },
    { name: 'steps', dtype: 'I64', shape: [], data: rampBytes(8) },
  ]
  writeFileSync(path, buildSafetensors(tensors, { format: 'pt' }))
  return path
}

/** Compresses by each recipe and asks Python about all artifacts at once: its imports take longest. */
function judgeAll(t: TestContext, recipes: readonly string[], ...options: string[]): Judgement[] {
  const model = writeModel(t)
  const artifacts = recipes.map((recipe, i) => {
    const output = join(tempFolder(t), `out${i}.safetensors`)
    compressWithCli(model, recipe, output)
    return output
  })
  const judgements = runPython('check_safetensors.py', ...options, model, ...artifacts) as Judgement[]
  for (const { tensors } of judgements)
    for (const name of ['layer.proj.bias', 'half', 'steps']) assert.equal(tensors[name]?.identical, true, name)
  return judgements
}

function judge(t: TestContext, recipe: string): Judgement {
  return judgeAll(t, [recipe])[0]!
}

const stored = ({ tensors }: Judgement) =>
  Object.fromEntries(Object.entries(tensors).map(([name, row]) => [name, row.stored]))
const UNTOUCHED = { 'layer.proj.bias': 'F32', half: 'BF16', steps: 'I64' }

test('int8: every value lies within half a step of its row', { skip }, (t) => {
  const judgement = judge(t, 'int8')
  const weights = ['embed.weight', 'layer.proj.weight', 'odd.weight', 'conv.weight']
  assert.deepEqual(stored(judgement), { ...UNTOUCHED, ...Object.fromEntries(weights.map((name) => [name, 'I8'])) })
  for (const name of weights) assert.ok(judgement.tensors[name]!.max_error_in_scales! <= 0.5001, name)
})

for (const [recipe, bound] of [
  ['int4', 1], // the largest value has code 0, so that its mirror image is clamped by up to one step
  ['int4-asym-b128', 1], // scale and zero point are rounded
] as const) {
  test(`${recipe}: packed weights unpack to within a step, elsewhere int8`, { skip }, (t) => {
    const judgement = judge(t, recipe)
    assert.deepEqual(stored(judgement), {
      ...UNTOUCHED,
      'embed.weight': 'packed 4',
      'layer.proj.weight': 'packed 4',
      'odd.weight': 'I8',
      'conv.weight': 'I8',
    })
    for (const name of ['embed.weight', 'layer.proj.weight'])
      assert.ok(judgement.tensors[name]!.max_error_in_scales! <= bound, name)
    assert.equal(judgement.config?.quant_method, 'compressed-tensors')
  })
}

function recipeFile(t: TestContext, params: Record<string, unknown>): string {
  const path = join(tempFolder(t), 'recipe.json')
  writeFileSync(path, JSON.stringify({ version: 1, steps: [{ method: 'quantize', ...params }] }))
  return path
}

test('int8 asymmetric and per tensor: scales and zero points give the values back', { skip }, (t) => {
  const cases = [
    { bits: 8, granularity: 'channel', symmetric: false },
    { bits: 8, granularity: 'tensor', symmetric: true },
    { bits: 8, granularity: 'tensor', symmetric: false },
  ]
  const judgements = judgeAll(
    t,
    cases.map((params) => recipeFile(t, params)),
  )
  for (const [i, { symmetric, granularity }] of cases.entries())
    for (const name of ['embed.weight', 'odd.weight', 'conv.weight']) {
      const { stored: dtype, max_error_in_scales: error } = judgements[i]!.tensors[name]!
      assert.equal(dtype, symmetric ? 'I8' : 'U8', name)
      // A rounded zero point can push the outermost value over the edge of the range by half a step.
      assert.ok(error! <= (symmetric ? 0.5001 : 1.0001), `${name} per ${granularity}: ${error}`)
    }
})

test('compressed-tensors reads our config and unpacks the same weights, 4 and 8 bits, symmetric and not', {
  skip:
    skip ||
    (hasRequirements('requirements-compressed-tensors.txt')
      ? false
      : 'interop: skipped, compressed-tensors is not installed'),
}, (t) => {
  const block = { bits: 8, granularity: 'block', block_size: 64 }
  const recipes = [
    'int4',
    'int4-asym-b128',
    recipeFile(t, { ...block, symmetric: true }),
    recipeFile(t, { ...block, symmetric: false }),
  ]
  const judgements = judgeAll(t, recipes, '--library')
  assert.deepEqual(
    judgements.map(({ tensors }) => tensors['layer.proj.weight']?.stored),
    ['packed 4', 'packed 4', 'packed 8', 'packed 8'],
  )
  for (const judgement of judgements)
    assert.deepEqual(judgement.compressed_tensors, {
      'embed.weight': { shape: [100, 256], difference: 0 },
      'layer.proj.weight': { shape: [20, 256], difference: 0 },
    })
})

test('fp16 and bf16: the dtype changes, values are rounded to nearest', { skip }, (t) => {
  for (const [recipe, dtype, precision] of [
    ['fp16', 'F16', 2 ** -11],
    ['bf16', 'BF16', 2 ** -8],
  ] as const) {
    const judgement = judge(t, recipe)
    assert.equal(judgement.tensors['embed.weight']?.stored, dtype)
    if (recipe === 'bf16') assert.ok(judgement.tensors['embed.weight']!.max_relative_error <= precision)
    else assert.ok(judgement.tensors['embed.weight']!.max_relative_error <= 0.01)
  }
})

test('prune-50+int8: half of all weights are exactly zero', { skip }, (t) => {
  const { tensors } = judge(t, 'prune-50+int8')
  const names = ['embed.weight', 'layer.proj.weight', 'odd.weight', 'conv.weight']
  const sizes = [25600, 5120, 693, 288]
  const zeros = names.reduce((sum, name, i) => sum + tensors[name]!.zeros * sizes[i]!, 0)
  assert.ok(zeros / 31701 >= 0.5, `${zeros}`)
})
