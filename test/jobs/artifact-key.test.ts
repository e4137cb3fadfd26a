// What makes an artifact the same artifact.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ARTIFACT_NAME,
  artifactFileName,
  artifactKey,
  checkArtifactName,
  digest,
  MAX_ARTIFACT_NAME_BYTES,
  validationKey,
} from '../../src/jobs/artifact-key.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'

const files = [{ name: 'm.onnx', sha256: 'aa' }]
const output = { externalData: 'auto', shardBytes: null, fileName: 'm.int8.onnx' } as const
const int8 = resolveRecipe('int8').recipe
const settings = { seed: 1, threads: 2, x64QuantPrecision: null, latencyRuns: 20 }

test('the key changes with files, recipe and output options, and with nothing else', () => {
  const key = artifactKey(files, int8, output)
  assert.equal(artifactKey([{ sha256: 'aa', name: 'm.onnx' }], resolveRecipe('int8').recipe, { ...output }), key)
  const others = [
    artifactKey([{ name: 'm.onnx', sha256: 'bb' }], int8, output),
    artifactKey([{ name: 'n.onnx', sha256: 'aa' }], int8, output),
    artifactKey(files, resolveRecipe('int4').recipe, output),
    artifactKey(files, int8, { ...output, externalData: true }),
    artifactKey(files, int8, { ...output, shardBytes: 4096 }),
    artifactKey(files, int8, { ...output, fileName: 'other.onnx' }),
  ]
  assert.equal(new Set([key, ...others]).size, 7)
})

test('the validation key changes with artifact, dataset and settings', () => {
  const keys = [
    validationKey('a', null, settings),
    validationKey('b', null, settings),
    validationKey('a', 'd', settings),
    validationKey('a', null, { ...settings, seed: 2 }),
    validationKey('a', null, { ...settings, threads: 1 }),
    validationKey('a', null, { ...settings, x64QuantPrecision: '1' }),
  ]
  assert.equal(new Set(keys).size, 6)
  assert.equal(validationKey('a', null, { ...settings }), keys[0])
})

test('a digest does not depend on the order of keys and does on the order of lists', () => {
  assert.equal(digest({ a: 1, b: { c: [1, 2], d: null } }), digest({ b: { d: null, c: [1, 2] }, a: 1 }))
  assert.notEqual(digest([1, 2]), digest([2, 1]))
})

for (const [main, recipe, expected] of [
  ['mnist.onnx', 'int8', 'mnist.int8.onnx'],
  ['onnx/model.onnx', 'prune-50+int8', 'model.prune-50+int8.onnx'],
  ['weights', 'fp16', 'weights.fp16'],
  ['.hidden', 'fp16', 'hidden.fp16'],
  ['..', 'fp16', 'model.fp16'],
  ['a\u0085b.onnx', 'fp16', 'a-b.fp16.onnx'],
  ['model.safetensors.index.json', 'int4', 'model.safetensors.index.json'],
  ['a/.hidden.safetensors.index.json', 'int4', '.hidden.safetensors.index.json'],
  ['a.b.onnx', 'my recipe: "é" / x', 'a.b.my-recipe-x.onnx'],
] as const) {
  test(`${main} by ${JSON.stringify(recipe)} is ${expected}`, () =>
    assert.equal(artifactFileName(main, recipe), expected))
}

for (const [what, main, recipe] of [
  ['a long name', `${'m'.repeat(250)}.onnx`, 'int8'],
  ['a long name beyond ASCII', `${'\u{1f600}'.repeat(62)}.onnx`, 'int8'],
  ['an ending that is none', `a.${'b'.repeat(253)}`, 'int8'],
  ['a long recipe name', `${'m'.repeat(250)}.onnx`, 'r'.repeat(500)],
] as const) {
  test(`the name made of ${what} leaves room for what is appended to it, and keeps its ending`, () => {
    const name = artifactFileName(main, recipe)
    assert.ok(Buffer.byteLength(name) <= MAX_ARTIFACT_NAME_BYTES, String(Buffer.byteLength(name)))
    assert.ok(name.isWellFormed())
    assert.match(name, main.endsWith('.onnx') ? /\.onnx$/ : /\.int8$/)
    assert.match(name, ARTIFACT_NAME)
  })
}

test('an artifact name is bare, visible and printable', () => {
  for (const good of ['m.onnx', '\u00e9.onnx', 'a b', 'a..b']) assert.match(good, ARTIFACT_NAME)
  for (const bad of ['', '.', '..', '.hidden', 'a/b', 'a\\b', 'a\nb', 'a\u0085b', '\u009f'])
    assert.doesNotMatch(bad, ARTIFACT_NAME)
})

test('a chosen name that is no file name everywhere is refused, with its bytes', () => {
  checkArtifactName('m.onnx')
  for (const [name, told] of [
    ['\u00e9'.repeat(101), /\(202 bytes\)/],
    ['\ud800', /bare file name/],
    ['../m.onnx', /bare file name/],
  ] as const) {
    assert.throws(() => checkArtifactName(name), { code: 'request_invalid', message: told })
  }
})
