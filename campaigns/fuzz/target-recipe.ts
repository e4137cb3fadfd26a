// Recipes in YAML, JSON and as preset expressions: resolved with every default, and the resolved form resolves to itself, so
// that the recipe in a report can be sent again. A recipe that is accepted is planned with.

import assert from 'node:assert/strict'
import { planJob } from '../../src/jobs/plan-job.ts'
import { canonicalRecipeJson, resolveRecipe } from '../../src/jobs/recipe.ts'
import { weightValues } from '../../test/support/build-onnx.ts'
import { memoryModel } from '../../test/support/memory-model.ts'
import { mutateText } from './mutate-text.ts'
import { type FuzzInput, type FuzzTarget, withBytes } from './target.ts'

const SEEDS = [
  'int8',
  'prune-50+int8',
  'prune-30 + int4-asym-b128 + fp16',
  '{"steps":[{"method":"quantize","bits":4,"granularity":"block","block_size":32,"symmetric":true}]}',
  '{"version":1,"name":"n","steps":[{"preset":"int8","select":{"names":"a*","exclude":["b/**"],"min_elements":64}}],"output":{"externalData":"auto","shardBytes":4096},"require":{"metric":"top1","maxDrop":0.01}}',
  `version: 1
name: both
select:
  roles: [matmul, gemm]
steps:
  - method: prune-magnitude
    sparsity: 0.5
    scope: global
  - method: quantize
    bits: 8
    granularity: channel
    clip: mse
    select: { ops: [Conv], min_elements: 256 }
  - method: quantize-deadzone
    params: { sparsity: 0.3 }
  - &last
    method: cast
    dtype: fp16
  - *last
require:
  - { metric: cosine, min: 0.99 }
  - maxSizeRatio: 0.5
output: { externalData: true, shardBytes: null }
`,
]

const WORDS = [
  'method',
  'preset',
  'steps',
  'select',
  'names',
  'exclude',
  'roles',
  'ops',
  'min_elements',
  'minElements',
  'params',
  'output',
  'require',
  'version',
  'externalData',
  'shardBytes',
  'quantize',
  'quantize-dynamic',
  'quantize-deadzone',
  'prune-magnitude',
  'cast',
  'bits',
  'granularity',
  'block_size',
  'symmetric',
  'clip',
  'percentile',
  'mse',
  'tensor',
  'channel',
  'block',
  'sparsity',
  'threshold',
  'scope',
  'global',
  'dtype',
  'bf16',
  'int4',
  'int8-dynamic',
  'deadzone-8',
  '&a',
  '*a',
  '<<: *a',
  '!!binary',
  '!!js/function',
  '? ',
  '|-',
  '>',
  '- ',
  '---\n',
  '...\n',
  '%YAML 1.1\n',
  '[a, [b, [c',
  '**',
  '*'.repeat(500),
  '{a,'.repeat(300),
  '.inf',
  '.nan',
  '0o7',
  '1_000',
]

const model = memoryModel([
  { name: 'a', shape: [16, 32], values: weightValues(512, 1) },
  { name: 'b/c', shape: [64], values: weightValues(64, 2), roles: ['bias'] },
])
const OUTPUT = { externalData: 'auto', shardBytes: null, fileName: 'out.onnx' } as const

export const target: FuzzTarget = {
  name: 'recipe',
  guided: true,
  maxBytes: 16 * 1024,
  seeds: (): FuzzInput[] => SEEDS.map((text) => [{ name: 'recipe', bytes: Uint8Array.from(Buffer.from(text)) }]),
  mutate(input, other, dice) {
    const [text, theirs] = [input, other].map((entry) => Buffer.from(entry[0]!.bytes).toString()) as [string, string]
    return withBytes(input, 0, Uint8Array.from(Buffer.from(mutateText(text, theirs, dice, WORDS))))
  },
  async run(input) {
    const { recipe } = resolveRecipe(Buffer.from(input[0]!.bytes).toString())
    const canonical = canonicalRecipeJson(recipe)
    const again = resolveRecipe(JSON.parse(JSON.stringify(recipe)) as object)
    assert.equal(canonicalRecipeJson(again.recipe), canonical, 'a resolved recipe resolves to itself')
    planJob(model, recipe, OUTPUT)
    return 'planned'
  },
}
