import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { PRESETS } from '../../src/jobs/presets.ts'
import { canonicalRecipeJson, resolveRecipe } from '../../src/jobs/recipe.ts'

/** The path and detail with which a recipe is refused. */
function refusal(recipe: string | object): { path: unknown; detail: string } {
  try {
    resolveRecipe(recipe)
  } catch (error) {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'recipe_invalid')
    return { path: error.context['path'], detail: error.detail }
  }
  return assert.fail('the recipe was taken')
}

test('a preset resolves to its steps with every default written out', () => {
  assert.deepEqual(resolveRecipe('int8'), {
    recipe: {
      version: 1,
      name: 'int8',
      steps: [
        {
          method: 'quantize',
          params: { bits: 8, granularity: 'channel', symmetric: true, clip: 'none' },
          select: {
            names: ['**'],
            exclude: [],
            roles: ['matmul', 'gemm', 'conv', 'conv-transpose', 'lstm', 'gru', 'gather', 'matrix'],
            minElements: 128,
          },
        },
      ],
    },
    output: {},
    require: null,
  })
})

test('an expression is the steps of its presets in order', () => {
  const { recipe } = resolveRecipe(' prune-50 + int8 ')
  assert.equal(recipe.name, 'prune-50+int8')
  assert.deepEqual(
    recipe.steps.map(({ method, params }) => [method, params]),
    [
      ['prune-magnitude', { sparsity: 0.5, scope: 'global' }],
      ['quantize', { bits: 8, granularity: 'channel', symmetric: true, clip: 'none' }],
    ],
  )
})

test('prune-<n> exists for every whole percent', () => {
  assert.deepEqual(resolveRecipe('prune-7').recipe.steps[0]?.params, { sparsity: 0.07, scope: 'global' })
  assert.match(refusal('prune-0').detail, /there is no preset "prune-0"/)
})

test('every preset resolves, and its own resolved form resolves to the same', () => {
  for (const { name } of PRESETS) {
    const { recipe } = resolveRecipe(name)
    assert.deepEqual(resolveRecipe(recipe).recipe, recipe, name)
  }
})

test('YAML and JSON texts of one recipe are the same recipe', () => {
  const yaml = `
version: 1
steps:
  - method: quantize
    bits: 4
    block_size: 64
    select: { names: ["*.weight"], ops: [MatMul, Gemm], min_elements: 1024 }
select:
  exclude: ["embed*"]
output: { externalData: true }
require: { metric: top1, maxDrop: 0.01 }
`
  const json = JSON.stringify({
    version: 1,
    steps: [
      {
        method: 'quantize',
        params: { bits: 4, block_size: 64 },
        select: { names: '*.weight', roles: ['matmul', 'gemm'], minElements: 1024 },
      },
    ],
    select: { exclude: 'embed*' },
    output: { externalData: true },
    require: { metric: 'top1', maxDrop: 0.01 },
  })
  const resolved = resolveRecipe(yaml)
  assert.deepEqual(resolved, resolveRecipe(json))
  assert.deepEqual(resolved.recipe.steps[0], {
    method: 'quantize',
    params: { bits: 4, granularity: 'block', block_size: 64, symmetric: true, clip: 'none' },
    select: { names: ['*.weight'], exclude: ['embed*'], roles: ['matmul', 'gemm'], minElements: 1024 },
  })
  assert.deepEqual(resolved.output, { externalData: true })
  assert.deepEqual(resolved.require, { metric: 'top1', maxDrop: 0.01 })
})

test('a preset may be a step of a recipe, with its own selection', () => {
  const { recipe } = resolveRecipe({ steps: [{ preset: 'fp16', select: { names: 'head*' } }, { preset: 'int4' }] })
  assert.deepEqual(
    recipe.steps.map(({ method, select }) => [method, select.names]),
    [
      ['cast', ['head*']],
      ['quantize', ['**']],
      ['quantize', ['**']],
    ],
  )
})

test('unknown keys are refused with their path', () => {
  assert.equal(refusal({ steps: [{ method: 'quantize', bitz: 4 }] }).path, 'steps[0].bitz')
  assert.equal(refusal({ steps: [{ method: 'quantize', select: { nams: 'x' } }] }).path, 'steps[0].select.nams')
  assert.equal(refusal({ stepz: [], steps: [{ method: 'quantize' }] }).path, 'stepz')
  assert.equal(refusal({ steps: [{ preset: 'int8', bits: 4 }] }).path, 'steps[0].bits')
  assert.equal(refusal({ steps: [{ method: 'quantize' }], output: { external: true } }).path, 'output.external')
})

test('a requirement that cannot be judged is refused with its path, whoever asks', () => {
  const steps = [{ method: 'quantize' }]
  assert.equal(refusal({ steps, require: { foo: 1 } }).path, 'require.foo')
  assert.equal(
    refusal({ steps, require: [{ metric: 'top1', maxDrop: 0.1 }, { metric: 'top9' }] }).path,
    'require[1].metric',
  )
  assert.match(refusal({ steps, require: 'metric' }).detail, /"metric" is not key=value/)
})

test('a key named __proto__ is an unknown key', () => {
  assert.equal(refusal('steps:\n  - method: quantize\n    __proto__: 1\n').path, 'steps[0].__proto__')
  assert.equal(refusal('{"steps": [{"method": "quantize"}], "__proto__": {}}').path, '__proto__')
  assert.equal(
    refusal('steps:\n  - method: quantize\n    select:\n      __proto__: {}\n').path,
    'steps[0].select.__proto__',
  )
})

test('values out of range are refused with their path', () => {
  assert.equal(refusal({ steps: [{ method: 'quantize', bits: 3 }] }).path, 'steps[0].bits')
  assert.equal(refusal({ steps: [{ method: 'prune-magnitude', sparsity: 1.5 }] }).path, 'steps[0].sparsity')
  assert.equal(refusal({ steps: [{ method: 'cast', dtype: 'fp8' }] }).path, 'steps[0].dtype')
  assert.equal(refusal({ steps: [] }).path, 'steps')
  assert.equal(refusal({ steps: [{ method: 'shrink' }] }).path, 'steps[0].method')
})

test('combinations that have no meaning are refused by name', () => {
  const quantize = (params: object) => refusal({ steps: [{ method: 'quantize', ...params }] })
  assert.deepEqual(quantize({ granularity: 'block', clip: 'percentile' }), {
    path: 'steps[0].clip',
    detail: 'steps[0].clip: clip percentile is not defined for granularity block; use mse or none',
  })
  assert.match(quantize({ granularity: 'channel', clip: 'mse', symmetric: false }).detail, /clip mse needs symmetric/)
  assert.match(quantize({ granularity: 'tensor', block_size: 32 }).detail, /block_size needs granularity block/)
  assert.match(quantize({ percentile: 99 }).detail, /percentile needs clip percentile, found clip none/)
  const prune = (params: object) => refusal({ steps: [{ method: 'prune-magnitude', ...params }] }).detail
  assert.match(prune({}), /exactly one of threshold and sparsity/)
  assert.match(prune({ threshold: 1, sparsity: 0.5 }), /exactly one of threshold and sparsity/)
  assert.match(prune({ threshold: 1, scope: 'global' }), /scope applies to sparsity/)
})

test('text that is no recipe is refused with what is wrong', () => {
  assert.match(refusal('int9').detail, /there is no preset "int9"; presets are int8, int8-dynamic/)
  assert.match(refusal('steps: [').detail, /not readable as YAML or JSON/)
  assert.match(refusal('# only a comment').detail, /a recipe is a preset expression or an object/)
  assert.match(refusal('x'.repeat(300_000)).detail, /the recipe has 300000 characters, at most 262144/)
})

test('equal recipes have equal canonical JSON whatever their name and key order', () => {
  const a = resolveRecipe({ name: 'a', steps: [{ method: 'quantize', bits: 8, granularity: 'channel' }] }).recipe
  const b = resolveRecipe({ steps: [{ granularity: 'channel', method: 'quantize' }], name: 'b' }).recipe
  assert.equal(canonicalRecipeJson(a), canonicalRecipeJson(b))
  assert.notEqual(canonicalRecipeJson(a), canonicalRecipeJson(resolveRecipe('int4').recipe))
})
