import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findMethod, METHODS } from '../../src/methods/index.ts'
import { outputParts } from '../../src/methods/output-parts.ts'
import { METHOD_PARAMS } from '../../src/methods/params.ts'
import type { EncodePlan } from '../../src/tensor/model.ts'
import { memoryModel } from '../support/memory-model.ts'

test('every method has an id of its own, a summary and a schema that refuses unknown keys', () => {
  assert.equal(new Set(METHODS.map(({ id }) => id)).size, METHODS.length)
  for (const method of METHODS) {
    assert.match(method.id, /^[a-z]+(-[a-z]+)*$/)
    assert.ok(method.summary.length > 10)
    assert.equal(METHOD_PARAMS.get(method.id)?.safeParse({ nonsense: 1 }).success, false, method.id)
    assert.equal(findMethod(method.id), method)
  }
})

test('resolved parameters resolve to themselves', () => {
  const given: Record<string, object> = {
    'prune-magnitude': { sparsity: 0.25 },
    quantize: { bits: 4 },
    'quantize-deadzone': { min_sqnr_db: 30 },
    'quantize-dynamic': {},
    cast: { dtype: 'bf16' },
  }
  assert.deepEqual(
    [...METHOD_PARAMS.keys()],
    METHODS.map(({ id }) => id),
  )
  for (const [id, schema] of METHOD_PARAMS) {
    const once = schema.parse(given[id])
    assert.deepEqual(schema.parse(once), once, id)
  }
})

test('parts hold exactly the bytes of their shapes', () => {
  const [tensor] = memoryModel([{ name: 'w', shape: [5, 7], values: new Float32Array(35) }]).tensors
  assert.ok(tensor)
  const bytes = (encode: EncodePlan) => outputParts(tensor, encode).map(({ part, lengthBytes }) => [part, lengthBytes])
  const scaled = {
    kind: 'scaled-int',
    granularity: 'channel',
    axis: 1,
    clip: { kind: 'none' },
    deadZone: null,
  } as const
  assert.deepEqual(bytes({ kind: 'dense' }), [['values', 140]])
  assert.deepEqual(bytes({ kind: 'bfloat16' }), [['values', 70]])
  assert.deepEqual(bytes({ ...scaled, bits: 8, symmetric: true }), [
    ['values', 35],
    ['scale', 28],
  ])
  assert.deepEqual(bytes({ ...scaled, bits: 4, symmetric: false }), [
    ['values', 18],
    ['scale', 28],
    ['zero_point', 7],
  ])
  const matrix = { k: 5, n: 7, order: 'kn' } as const
  assert.deepEqual(bytes({ kind: 'dynamic-int8', clip: { kind: 'none' }, matrix }), [
    ['values', 35],
    ['scale', 28],
    ['zero_point', 7],
  ])
  const block = { kind: 'block-packed', blockSize: 16, symmetric: true, clip: { kind: 'none' }, matrix } as const
  assert.deepEqual(bytes({ ...block, bits: 4 }), [
    ['values', 56],
    ['scale', 28],
    ['zero_point', 7],
  ])
})
