// Datasets: how .npz arrays become the inputs of a model, sample by sample.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import {
  checkLabelRange,
  declaredClassCount,
  type Feed,
  type MatchedDataset,
  type ModelInput,
  matchDataset,
  openDataset,
} from '../../src/validate/dataset.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { f4, i8, type NpyArray, type NpzOptions, writeNpz } from '../support/write-npz.ts'

async function match(
  t: TestContext,
  arrays: Record<string, NpyArray>,
  inputs: ModelInput[],
  options: NpzOptions = {},
): Promise<MatchedDataset> {
  const path = join(tempFolder(t), 'data.npz')
  writeNpz(path, arrays, options)
  const dataset = await openDataset(path)
  t.after(() => dataset.close())
  return matchDataset(dataset, inputs)
}

async function feedsOf(matched: MatchedDataset, options = {}): Promise<Feed[]> {
  const feeds: Feed[] = []
  for await (const feed of matched.feeds(options)) feeds.push(feed)
  return feeds
}

const f32 = (data: Uint8Array | undefined) => [...new Float32Array((data ?? new Uint8Array()).slice().buffer)]
const refused = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error))
  assert.equal(error.code, 'dataset_invalid')
  assert.match(error.detail, pattern)
  return true
}

const X: ModelInput = { name: 'x', dtype: 'f32', shape: ['N', 2] }

for (const deflate of [false, true]) {
  test(`slices along a dynamic dim 0 into batches (${deflate ? 'deflated' : 'stored'})`, async (t) => {
    const matched = await match(t, { x: f4([5, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) }, [X], { deflate })
    assert.deepEqual([matched.sampleCount, matched.samplesPerRun], [5, null])
    const feeds = await feedsOf(matched, { batchSize: 2 })
    assert.deepEqual(
      feeds.map(({ firstSample, sampleCount, tensors }) => [
        firstSample,
        sampleCount,
        tensors['x']?.dims,
        f32(tensors['x']?.data),
      ]),
      [
        [0, 2, [2, 2], [0, 1, 2, 3]],
        [2, 2, [2, 2], [4, 5, 6, 7]],
        [4, 1, [1, 2], [8, 9]],
      ],
    )
    // A second pass starts at the front again.
    assert.deepEqual(
      f32((await feedsOf(matched, { batchSize: 5 }))[0]?.tensors['x']?.data),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    )
  })
}

test('runs a model with a fixed batch of 1 sample by sample', async (t) => {
  const matched = await match(t, { x: f4([3, 2], [1, 2, 3, 4, 5, 6]) }, [{ ...X, shape: [1, 2] }])
  const feeds = await feedsOf(matched, { batchSize: 8 })
  assert.deepEqual(
    feeds.map(({ tensors }) => [tensors['x']?.dims, f32(tensors['x']?.data)]),
    [
      [
        [1, 2],
        [1, 2],
      ],
      [
        [1, 2],
        [3, 4],
      ],
      [
        [1, 2],
        [5, 6],
      ],
    ],
  )
})

test('runs a model with a fixed batch of 2 in pairs, and refuses an odd number of samples', async (t) => {
  const matched = await match(t, { x: f4([4, 2], [1, 2, 3, 4, 5, 6, 7, 8]) }, [{ ...X, shape: [2, 2] }])
  assert.deepEqual([matched.sampleCount, matched.samplesPerRun, (await feedsOf(matched)).length], [4, 2, 2])
  await assert.rejects(
    match(t, { x: f4([3, 2], [1, 2, 3, 4, 5, 6]) }, [{ ...X, shape: [2, 2] }]),
    refused(/\[3, 2\].*does not fit \[2, 2\]/),
  )
})

test('takes x[i] as one full input when the rank is one more', async (t) => {
  const inputs: ModelInput[] = [
    { name: 'audio', dtype: 'f32', shape: ['b', 's'] },
    { name: 'sr', dtype: 'i64', shape: [] },
    { name: 'state', dtype: 'f32', shape: [2, 'b', 1] },
  ]
  const arrays = { audio: f4([2, 1, 2], [1, 2, 3, 4]), sr: i8([], [16000]), state: f4([2, 1, 1], [0, 0]) }
  const matched = await match(t, arrays, inputs)
  assert.equal(matched.sampleCount, 2)
  assert.deepEqual(matched.notes, ["'sr' is shared by all samples", "'state' is shared by all samples"])
  const [, second] = await feedsOf(matched)
  assert.deepEqual(second?.tensors['audio']?.dims, [1, 2])
  assert.deepEqual(f32(second?.tensors['audio']?.data), [3, 4])
  assert.deepEqual(second?.tensors['sr']?.dims, [])
  assert.equal(new DataView(second!.tensors['sr']!.data.slice().buffer).getBigInt64(0, true), 16000n)
  assert.deepEqual(second?.tensors['state']?.dims, [2, 1, 1])
})

test('a shared array that fixes the batch symbol fixes the batch', async (t) => {
  const inputs: ModelInput[] = [
    { name: 'x', dtype: 'f32', shape: ['batch', 1] },
    { name: 'h', dtype: 'f32', shape: [2, 'batch'] },
  ]
  const matched = await match(t, { x: f4([6, 1], [1, 2, 3, 4, 5, 6]), h: f4([2, 3], [0, 0, 0, 0, 0, 0]) }, inputs)
  assert.equal(matched.samplesPerRun, 3)
  assert.deepEqual(
    (await feedsOf(matched, { batchSize: 1 })).map(({ tensors }) => tensors['x']?.dims),
    [
      [3, 1],
      [3, 1],
    ],
  )
})

test('an array of exactly the input shape is one run', async (t) => {
  const matched = await match(t, { x: f4([1, 2], [7, 8]) }, [{ ...X, shape: [1, 2] }])
  assert.equal(matched.sampleCount, 1)
  assert.deepEqual(f32((await feedsOf(matched))[0]?.tensors['x']?.data), [7, 8])
})

test('maxSamples stops early', async (t) => {
  const matched = await match(t, { x: f4([5, 2], Array(10).fill(1)) }, [X])
  const feeds = await feedsOf(matched, { batchSize: 2, maxSamples: 3 })
  assert.deepEqual(
    feeds.map(({ sampleCount }) => sampleCount),
    [2, 1],
  )
})

test('converts f8 by rounding and says so; narrower floats and integers exactly', async (t) => {
  const doubles = new Uint8Array(Float64Array.from([0.1, 1 / 3]).buffer)
  const rounded = await match(t, { x: { descr: '<f8', shape: [1, 2], data: doubles } }, [X])
  assert.deepEqual(rounded.notes, ["'x' was rounded from f64 to f32"])
  assert.deepEqual(f32((await feedsOf(rounded))[0]?.tensors['x']?.data), [Math.fround(0.1), Math.fround(1 / 3)])

  const half = { descr: '<f2', shape: [1, 2], data: new Uint8Array(Uint16Array.of(0x3c00, 0x0001).buffer) }
  assert.deepEqual(f32((await feedsOf(await match(t, { x: half }, [X])))[0]?.tensors['x']?.data), [1, 2 ** -24])

  const ids: ModelInput = { name: 'x', dtype: 'i32', shape: ['N'] }
  const narrowed = await match(t, { x: i8([2], [-5, 2_147_483_647]) }, [ids])
  assert.deepEqual(
    [...new Int32Array((await feedsOf(narrowed))[0]!.tensors['x']!.data.slice().buffer)],
    [-5, 2147483647],
  )
})

test('a value without an exact counterpart is named by its position', async (t) => {
  const ids: ModelInput = { name: 'x', dtype: 'i32', shape: ['N'] }
  const wide = await match(t, { x: i8([3], [1, 2, 2 ** 31]) }, [ids])
  await assert.rejects(feedsOf(wide, { batchSize: 1 }), refused(/array 'x': element 2 is 2147483648, which is no i32/))
  const flags = await match(t, { x: { descr: '|u1', shape: [2], data: Uint8Array.of(1, 2) } }, [
    { name: 'x', dtype: 'bool', shape: ['N'] },
  ])
  await assert.rejects(feedsOf(flags), refused(/element 1 is 2, which is no bool/))
})

test('big-endian arrays are read', async (t) => {
  const data = Buffer.alloc(8)
  data.writeFloatBE(1.5, 0)
  data.writeFloatBE(-2, 4)
  const matched = await match(t, { x: { descr: '>f4', shape: [1, 2], data } }, [X])
  assert.deepEqual(f32((await feedsOf(matched))[0]?.tensors['x']?.data), [1.5, -2])
})

test('what does not match is listed with everything that is expected', async (t) => {
  const inputs: ModelInput[] = [X, { name: 'mask', dtype: 'i64', shape: ['N', 3] }]
  const arrays = { x: f4([2, 5], Array(10).fill(0)), extra: f4([2], [0, 0]) }
  await assert.rejects(match(t, arrays, inputs), (error) => {
    refused(
      /array 'x' has shape \[2, 5\], which does not fit \[N, 2\]; no array named 'mask'; array 'extra' is no input of the model/,
    )(error)
    assert.match((error as AppError).detail, /Expected: 'x' f32 \[N, 2\], 'mask' i64 \[N, 3\]/)
    return true
  })
  await assert.rejects(match(t, { x: f4([0, 2], []) }, [X]), refused(/no samples/))
})

test('an integer array is no float input and the reverse; the message says what to save instead', async (t) => {
  const ids: ModelInput = { name: 'x', dtype: 'i64', shape: ['N'] }
  const pixels = { descr: '|u1', shape: [1, 2], data: Uint8Array.of(0, 255) }
  const flags = { descr: '|b1', shape: [1, 2], data: Uint8Array.of(0, 1) }
  await assert.rejects(
    match(t, { x: f4([2], [1, 2]) }, [ids]),
    refused(/'x' is f32, the input i64: save it as int64\./),
  )
  await assert.rejects(
    match(t, { x: i8([1, 2], [1, 2]) }, [X]),
    refused(/'x' is i64, the input f32: save it as float32\. Expected: 'x' f32 \[N, 2\]/),
  )
  await assert.rejects(match(t, { x: pixels }, [X]), refused(/'x' is u8, the input f32: save it as float32/))
  await assert.rejects(match(t, { x: flags }, [X]), refused(/'x' is bool, the input f32: save it as float32/))
  await assert.rejects(
    match(t, { x: f4([1, 2], [1, 2]) }, [{ ...X, dtype: 'f16' }]),
    refused(/'x' is f32, the input f16: save it as float16/),
  )
})

test('arrays of different lengths are refused', async (t) => {
  const inputs: ModelInput[] = [X, { name: 'y', dtype: 'f32', shape: ['N'] }]
  await assert.rejects(
    match(t, { x: f4([2, 2], [1, 2, 3, 4]), y: f4([3], [1, 2, 3]) }, inputs),
    refused(/different numbers of samples: 'x' 2, 'y' 3/),
  )
})

test('reads class ids, squeezing a trailing 1, and regression targets', async (t) => {
  const x = f4([2, 2], [1, 2, 3, 4])
  const classes = await (await match(t, { x, labels: i8([2, 1], [3, 0]) }, [X])).labels()
  assert.deepEqual(classes, { kind: 'classes', shape: [2], values: Int32Array.of(3, 0) })
  const targets = await (await match(t, { x, labels: f4([2, 2], [0.5, 1, 2, 4]) }, [X])).labels()
  assert.deepEqual(targets, { kind: 'regression', shape: [2, 2], values: Float64Array.of(0.5, 1, 2, 4) })
  assert.equal(await (await match(t, { x }, [X])).labels(), null)
  await assert.rejects(
    match(t, { x, labels: i8([3], [1, 2, 3]) }, [X]),
    refused(/labels has shape \[3\]; its first dimension must be the 2 samples/),
  )
})

test('an input named labels is an input', async (t) => {
  const matched = await match(t, { labels: i8([2], [1, 2]) }, [{ name: 'labels', dtype: 'i64', shape: ['N'] }])
  assert.equal(await matched.labels(), null)
  assert.equal((await feedsOf(matched))[0]?.tensors['labels']?.dtype, 'i64')
})

test('labels out of range are refused by position and value', () => {
  const labels = { kind: 'classes' as const, shape: [3], values: Int32Array.of(0, 9, 10) }
  checkLabelRange(labels, 11)
  assert.throws(
    () => checkLabelRange(labels, 10),
    refused(/label 10 at position 2 is out of range: the model has 10 classes, 0 to 9/),
  )
  assert.throws(() => checkLabelRange({ ...labels, values: Int32Array.of(-1) }, 10), refused(/label -1 at position 0/))
})

test('the classes of a model are known before it runs when its one output declares them per sample', () => {
  const scores = (...shape: (number | string)[]): ModelInput => ({ name: 'y', dtype: 'f32', shape })
  assert.equal(declaredClassCount([X], [scores('N', 10)], null), 10)
  assert.equal(declaredClassCount([{ ...X, shape: [4, 2] }], [scores(4, 10)], 4), 10)
  // Only a run can tell: another batch, classes unknown, a value a sample, two outputs, class ids.
  assert.equal(declaredClassCount([X], [scores('M', 10)], null), null)
  assert.equal(declaredClassCount([X], [scores('N', 10)], 1), null)
  assert.equal(declaredClassCount([X], [scores('N', 'C')], null), null)
  assert.equal(declaredClassCount([X], [scores('N', 1)], null), null)
  assert.equal(declaredClassCount([X], [scores('N', 10), scores('N', 3)], null), null)
  assert.equal(declaredClassCount([X], [{ ...scores('N', 10), dtype: 'i64' }], null), null)
})

test('input names with slashes and colons are keys, not paths', async (t) => {
  const input: ModelInput = { name: '/enc/../x:0', dtype: 'f32', shape: ['N', 2] }
  const matched = await match(t, { '/enc/../x:0': f4([1, 2], [1, 2]) }, [input])
  assert.deepEqual(f32((await feedsOf(matched))[0]?.tensors[input.name]?.data), [1, 2])
})

test('reads arrays far beyond one chunk of the inflater, in order and out of order', async (t) => {
  const values = Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 65_536)
  const matched = await match(t, { x: f4([150_000, 2], values) }, [X], { deflate: true })
  const seen: number[] = []
  for await (const { tensors } of matched.feeds({ batchSize: 9_999 })) seen.push(...f32(tensors['x']?.data))
  assert.deepEqual(seen, values)
  const [a, b] = [matched.feeds({ batchSize: 100_000 }), matched.feeds({ batchSize: 100_000 })]
  await a.next()
  await a.next()
  assert.deepEqual(
    f32((await b.next()).value?.tensors['x']?.data).slice(0, 3),
    values.slice(0, 3),
    'the second reader starts at the front',
  )
  await Promise.all([a.return(undefined), b.return(undefined)])
})
