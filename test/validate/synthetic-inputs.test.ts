import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DType } from '../../src/tensor/dtype.ts'
import { SYNTHETIC_KINDS, syntheticFeed } from '../../src/validate/synthetic-inputs.ts'
import { candidateShapes, imageLayout, isStateInput } from '../../src/validate/synthetic-shapes.ts'

function input(name: string, dtype: DType, shape: (number | string)[]) {
  return { name, dtype, shape }
}

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
}

test('keeps fixed shapes as they are and offers one candidate', () => {
  assert.deepEqual(candidateShapes([input('Input3', 'f32', [1, 1, 28, 28])]), [{ Input3: [1, 1, 28, 28] }])
})

test('gives a dynamic batch one sample', () => {
  assert.deepEqual(candidateShapes([input('input', 'f32', ['batch_size', 4])]), [{ input: [1, 4] }])
})

test('tries common sides for images and common widths beside a fixed height', () => {
  const images = candidateShapes([input('x', 'f32', ['N', 3, 'H', 'W'])])
  assert.deepEqual(images[0], { x: [1, 3, 224, 224] })
  assert.ok(images.some(({ x }) => x?.[2] === 640))
  assert.deepEqual(candidateShapes([input('x', 'f32', ['N', 3, 48, 'W'])])[0], { x: [1, 3, 48, 320] })
})

test('gives the shapes of a voice activity detector: 512 samples, batch 1 state, scalar rate', () => {
  const inputs = [input('input', 'f32', ['', '']), input('state', 'f32', [2, '', 128]), input('sr', 'i64', [])]
  assert.deepEqual(candidateShapes(inputs)[0], { input: [1, 512], state: [2, 1, 128], sr: [] })
})

test('gives one size to dimensions of the same symbol', () => {
  const inputs = [input('input_ids', 'i64', ['batch', 'seq']), input('attention_mask', 'i64', ['batch', 'seq'])]
  for (const shapes of candidateShapes(inputs)) assert.deepEqual(shapes['input_ids'], shapes['attention_mask'])
})

test('tells image layouts and state inputs apart', () => {
  assert.equal(imageLayout([1, 3, 224, 224]), 'nchw')
  assert.equal(imageLayout([1, 128, 128, 3]), 'nhwc')
  assert.equal(imageLayout([1, 1, 28, 28]), 'nchw')
  assert.equal(imageLayout([1, 2, 128, 2]), null)
  for (const name of ['state', 'h0', 'hidden_in', 'past_key_values.0.key']) assert.equal(isStateInput(name), true, name)
  for (const name of ['input', 'x', 'image', 'statement', 'chart']) assert.equal(isStateInput(name), false, name)
})

test('makes the same bytes for the same seed and others for another', () => {
  const inputs = [input('x', 'f32', [1, 3, 8, 8])]
  const shapes = { x: [1, 3, 8, 8] }
  for (const kind of SYNTHETIC_KINDS) {
    const once = syntheticFeed(inputs, shapes, kind, 5)['x']!.data
    assert.deepEqual(syntheticFeed(inputs, shapes, kind, 5)['x']!.data, once)
    assert.notDeepEqual(syntheticFeed(inputs, shapes, kind, 6)['x']!.data, once, kind)
  }
})

test('draws smooth structure in [0, 1] and pixels up to 255 for images only', () => {
  const image = [input('x', 'f32', [1, 1, 32, 32])]
  const plain = floats(syntheticFeed(image, { x: [1, 1, 32, 32] }, 'structured', 1)['x']!.data)
  assert.ok(plain.every((value) => value >= 0 && value <= 1))
  assert.ok(Math.max(...plain) - Math.min(...plain) > 0.2)
  let step = 0
  for (let i = 1; i < 32; i++) step = Math.max(step, Math.abs(plain[i]! - plain[i - 1]!))
  assert.ok(step < 0.3, `neighbouring pixels differ by ${step}`)
  const pixels = floats(syntheticFeed(image, { x: [1, 1, 32, 32] }, 'structured-255', 1)['x']!.data)
  assert.ok(Math.max(...pixels) > 50 && Math.max(...pixels) <= 255)
  const signal = floats(syntheticFeed([input('x', 'f32', [1, 64])], { x: [1, 64] }, 'structured-255', 1)['x']!.data)
  assert.ok(signal.every((value) => value >= -1 && value <= 1))
})

test('gives states zeros, masks ones, rates 16000 and tokens small ids', () => {
  const inputs = [
    input('state', 'f32', [2, 1, 4]),
    input('attention_mask', 'i64', [1, 8]),
    input('sr', 'i64', []),
    input('input_ids', 'i64', [1, 8]),
    input('flag', 'bool', [2]),
  ]
  const shapes = { state: [2, 1, 4], attention_mask: [1, 8], sr: [], input_ids: [1, 8], flag: [2] }
  const feed = syntheticFeed(inputs, shapes, 'noise', 1)
  const integers = (name: string) => [...new BigInt64Array(feed[name]!.data.buffer)].map(Number)
  assert.ok(floats(feed['state']!.data).every((value) => value === 0))
  assert.deepEqual(integers('attention_mask'), [1, 1, 1, 1, 1, 1, 1, 1])
  assert.deepEqual(integers('sr'), [16000])
  assert.ok(integers('input_ids').every((id) => id >= 0 && id < 32))
  assert.deepEqual([...feed['flag']!.data], [1, 1])
})

test('encodes half floats that read back close to their value', () => {
  const dims = { x: [1, 100] }
  const half = syntheticFeed([input('x', 'f16', [1, 100])], dims, 'uniform', 3)['x']!.data
  const full = floats(syntheticFeed([input('x', 'f32', [1, 100])], dims, 'uniform', 3)['x']!.data)
  const bits = new Uint16Array(half.buffer)
  for (const [i, value] of full.entries()) {
    const exponent = bits[i]! >> 10
    const decoded = (1024 + (bits[i]! & 1023)) * 2 ** (exponent - 25)
    assert.ok(Math.abs(decoded - value) <= value / 1024 + 1e-4, `${decoded} for ${value}`)
  }
})
