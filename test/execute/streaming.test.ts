// The executor as a stream: chunk boundaries, many small tensors, what is found in the data, cancelling and progress.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { compressModel } from '../../src/jobs/compress-job.ts'
import type { Progress } from '../../src/jobs/protocol.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import { compressInMemory } from '../support/compress-memory.ts'
import { type MemoryTensor, memoryModel } from '../support/memory-model.ts'
import { weights } from '../support/weights.ts'
import { referenceDevice, testOnDevices } from '../support/with-device.ts'
import { withTuning } from '../support/with-tuning.ts'

const ANY_SIZE = { min_elements: 1 }
const CHUNK_BYTES = 4096
const CHUNK_ELEMENTS = CHUNK_BYTES / 4

testOnDevices('tensors one below, at and one above the chunk size come out as from one large chunk', async (device) => {
  const sizes = [CHUNK_ELEMENTS - 1, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1, 2 * CHUNK_ELEMENTS, 3 * CHUNK_ELEMENTS + 7]
  const tensors = (): MemoryTensor[] =>
    sizes.map((size) => ({ name: `w${size}`, shape: [size], values: weights(size, size), axis: null }))
  for (const recipe of ['fp16', 'deadzone-8', 'prune-50', 'int8']) {
    const expected = await compressInMemory(memoryModel(tensors()), recipe, device)
    const tuned = withTuning(device, { chunkBytes: CHUNK_BYTES, lanes: 2 })
    const found = await compressInMemory(memoryModel(tensors()), recipe, tuned)
    assert.deepEqual(found.bytes, expected.bytes, recipe)
  }
})

testOnDevices('rows, columns and tiles larger than a chunk come out as from one large chunk', async (device) => {
  const tensors = (): MemoryTensor[] => [
    { name: 'long rows', shape: [2, 5000], values: weights(10000, 1) },
    { name: 'wide', shape: [70, 1500], values: weights(105000, 2), axis: 1 },
    { name: 'tall', shape: [3000, 6], values: weights(18000, 3), axis: 1 },
    { name: 'middle', shape: [3, 5, 700], values: weights(10500, 4), axis: 1, roles: ['conv-transpose'] },
  ]
  for (const recipe of ['int8', 'int8-dynamic', 'int4', 'int4-asym-b128', 'prune-50+int4']) {
    const expected = await compressInMemory(memoryModel(tensors()), recipe, device, { measure: true })
    const tuned = withTuning(device, { chunkBytes: CHUNK_BYTES, lanes: 3 })
    const found = await compressInMemory(memoryModel(tensors()), recipe, tuned, { measure: true })
    assert.deepEqual(found.bytes, expected.bytes, recipe)
    for (const [index, { name, measure }] of found.result.tensors.entries()) {
      const other = expected.result.tensors[index]?.measure
      assert.equal(measure?.maxAbsError, other?.maxAbsError, `${recipe} ${name}`)
      assert.equal(measure?.zerosAfter, other?.zerosAfter, `${recipe} ${name}`)
    }
  }
})

testOnDevices('thousands of tiny tensors share pieces and keep their places', async (device) => {
  const count = 3000
  const tensors = Array.from(
    { length: count },
    (_, i): MemoryTensor => ({ name: `w${i}`, shape: [3 + (i % 7), 2], values: weights(2 * (3 + (i % 7)), i) }),
  )
  const recipe = { steps: [{ method: 'cast', dtype: 'bf16', select: ANY_SIZE }] }
  const { bytes } = await compressInMemory(memoryModel(tensors), recipe, device)
  const halves = new Uint16Array(bytes.buffer)
  let at = 0
  for (const { values } of tensors) {
    const words = new Uint32Array(values.buffer)
    for (const word of words) {
      const rounded = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
      assert.equal(halves[at++], rounded & 0xffff)
    }
  }
  assert.equal(at, halves.length)
})

testOnDevices(
  'NaN and Inf found while encoding: those tensors are kept, the others compressed, in one artifact',
  async (device) => {
    const bad = weights(64 * 64, 1)
    bad[5] = Number.NaN
    bad[4000] = Number.NEGATIVE_INFINITY
    const good = weights(64 * 64, 2)
    const model = () =>
      memoryModel([
        { name: 'bad', shape: [64, 64], values: bad },
        { name: 'good', shape: [64, 64], values: good },
        { name: 'bad columns', shape: [64, 64], values: bad, axis: 1 },
      ])
    for (const recipe of ['int8', 'int4', 'int4-asym-b128', 'int8-dynamic', 'deadzone-8']) {
      for (const chunkBytes of [CHUNK_BYTES, device.tuning.chunkBytes]) {
        const { result, bytes } = await compressInMemory(model(), recipe, withTuning(device, { chunkBytes }))
        assert.deepEqual(
          result.tensors.map(({ action, reason, nonFinite }) => [action, reason, nonFinite]),
          [
            ['keep', 'non_finite', 2],
            ['compress', null, 0],
            ['keep', 'non_finite', 2],
          ],
          recipe,
        )
        assert.deepEqual(bytes.subarray(0, 64 * 64 * 4), new Uint8Array(bad.buffer))
      }
    }
  },
)

testOnDevices('a value that overflows fp16 keeps its tensor in fp32', async (device) => {
  const large = weights(256, 1)
  large[17] = 65520
  const fits = weights(256, 2)
  fits[17] = 65519.996
  fits[18] = Number.POSITIVE_INFINITY
  const model = memoryModel([
    { name: 'large', shape: [256], values: large, axis: null },
    { name: 'fits', shape: [256], values: fits, axis: null },
  ])
  const { result } = await compressInMemory(model, 'fp16', device)
  assert.deepEqual(
    result.tensors.map(({ reason, encode }) => [reason, encode.kind]),
    [
      ['fp16_overflow', 'dense'],
      [null, 'float16'],
    ],
  )
})

testOnDevices(
  'a value that overflows fp16 may still fit a later bf16 step, and none is found for both',
  async (device) => {
    const large = weights(256, 1)
    large[17] = 65520
    const largest = weights(256, 2)
    largest[17] = 3.4028234663852886e38
    const model = memoryModel([
      { name: 'large', shape: [256], values: large, axis: null },
      { name: 'largest', shape: [256], values: largest, axis: null },
    ])
    const steps = [
      { method: 'cast', dtype: 'fp16' },
      { method: 'cast', dtype: 'bf16' },
    ]
    const { result } = await compressInMemory(model, { steps }, device)
    assert.deepEqual(
      result.tensors.map(({ reason, encode }) => [reason, encode.kind]),
      [
        [null, 'bfloat16'],
        ['fp16_overflow', 'dense'],
      ],
    )
  },
)

testOnDevices('pruning keeps NaN and Inf while quantization gives way to it', async (device) => {
  const values = weights(1024, 1)
  values[3] = Number.NaN
  const model = memoryModel([{ name: 'w', shape: [32, 32], values }])
  const { result, part } = await compressInMemory(model, 'prune-50+int8', device)
  assert.deepEqual(result.tensors[0]?.steps, ['prune-magnitude'])
  const out = new Float32Array(part('w', 'values').buffer)
  assert.ok(Number.isNaN(out[3]))
  assert.equal(out.filter((value) => value === 0).length, 512)
})

test('kept tensors are copied byte for byte', async () => {
  const values = weights(5000)
  const model = memoryModel([
    { name: 'bias', shape: [5000], values, roles: ['bias'] },
    { name: 'empty', shape: [0], values: new Float32Array(0) },
  ])
  const { bytes, result } = await compressInMemory(model, 'int8', referenceDevice(), { measure: true })
  assert.deepEqual(bytes, new Uint8Array(values.buffer))
  assert.equal(result.tensors[0]?.measure, null)
})

test('cancelling stops between chunks and frees the device buffers', async () => {
  const abort = new AbortController()
  const model = memoryModel([{ name: 'w', shape: [1000, 100], values: weights(100_000) }])
  const device = withTuning(referenceDevice(), { chunkBytes: CHUNK_BYTES })
  let seen = 0
  const running = compressInMemory(model, 'int4', device, {
    signal: abort.signal,
    progress({ stage }) {
      if (stage === 'encoding' && ++seen === 3) abort.abort(new AppError('cancelled', 'enough'))
    },
  })
  await assert.rejects(running, (error) => error instanceof AppError && error.code === 'cancelled')
  assert.ok(seen < 6, `${seen} pieces were encoded`)
})

test('cancelling while a tensor is gathered for transposing leaves no lane waiting', async () => {
  const abort = new AbortController()
  const model = memoryModel(
    Array.from({ length: 4 }, (_, i) => ({ name: `w${i}`, shape: [640, 64], values: weights(40960, i), axis: 1 })),
  )
  const device = withTuning(referenceDevice(), { chunkBytes: CHUNK_BYTES * 2, lanes: 3 })
  const running = compressInMemory(model, 'int4', device, {
    signal: abort.signal,
    progress({ stage }) {
      if (stage === 'encoding') abort.abort(new AppError('cancelled', 'enough'))
    },
  })
  await assert.rejects(running, (error) => error instanceof AppError && error.code === 'cancelled')
})

testOnDevices('an output name that leaves its folder is refused, and the lanes are freed', async (device) => {
  const reader = memoryModel([{ name: 'w', shape: [100, 100], values: weights(10_000) }])
  const spec = {
    recipe: resolveRecipe('int8').recipe,
    output: { externalData: 'auto', shardBytes: null, fileName: 'folder/../../outside.bin' } as const,
    outputDir: '/nowhere',
    measure: false,
  }
  const hooks = { signal: new AbortController().signal, progress: () => undefined }
  await assert.rejects(
    compressModel(reader, spec, device, hooks),
    (error) => error instanceof AppError && error.code === 'format_invalid',
  )
})

test('a read that fails fails the job with its error', async () => {
  const model = memoryModel([{ name: 'w', shape: [100, 100], values: weights(10_000) }])
  model.read = () => Promise.reject(new AppError('format_truncated', 'the file ends early'))
  await assert.rejects(
    compressInMemory(model, 'int8', referenceDevice()),
    (error) => error instanceof AppError && error.code === 'format_truncated',
  )
})

test('a device that is lost in the middle fails the job with device_lost, and no lane waits for ever', async () => {
  for (const recipe of ['int8', 'int4', 'prune-50', 'fp16']) {
    for (const lostAt of [0, 1, 5]) {
      const device = withTuning(referenceDevice(), { chunkBytes: CHUNK_BYTES * 2, lanes: 3 })
      let submits = 0
      const submit = device.submit
      device.submit = (commands, readbacks) =>
        submits++ >= lostAt ? Promise.reject(new AppError('device_lost', 'gone')) : submit(commands, readbacks)
      const model = memoryModel([
        { name: 'a', shape: [640, 64], values: weights(40960, 1), axis: 1 },
        { name: 'b', shape: [640, 64], values: weights(40960, 2) },
      ])
      await assert.rejects(
        compressInMemory(model, recipe, device),
        (error) => error instanceof AppError && error.code === 'device_lost',
      )
    }
  }
})

test('progress counts bytes up to the total in every stage', async () => {
  const model = memoryModel([
    { name: 'w', shape: [300, 100], values: weights(30_000) },
    { name: 'bias', shape: [300], values: weights(300), roles: ['bias'] },
  ])
  const seen: Progress[] = []
  const device = withTuning(referenceDevice(), { chunkBytes: CHUNK_BYTES })
  await compressInMemory(model, 'prune-50+int8', device, { measure: true, progress: (entry) => void seen.push(entry) })
  for (const stage of ['calibrating', 'encoding', 'measuring']) {
    const own = seen.filter((entry) => entry.stage === stage)
    assert.ok(own.length > 1, stage)
    assert.equal(own.at(-1)?.doneBytes, own.at(-1)?.totalBytes, stage)
    for (const [i, { doneBytes }] of own.entries()) assert.ok(doneBytes >= (own[i - 1]?.doneBytes ?? 0), stage)
  }
})

testOnDevices('odd rows of 4-bit codes larger than a chunk keep their nibbles', async (device) => {
  const values = weights(901 * 21)
  const model = () => memoryModel([{ name: 'w', shape: [901, 21], values, axis: 1 }])
  const recipe = { steps: [{ method: 'quantize', bits: 4, granularity: 'channel' }] }
  const expected = await compressInMemory(model(), recipe, device)
  const found = await compressInMemory(model(), recipe, withTuning(device, { chunkBytes: CHUNK_BYTES, lanes: 2 }))
  assert.deepEqual(found.bytes, expected.bytes)
})

testOnDevices('the charts of the largest tensors count every value before and after', async (device) => {
  const tensors = (): MemoryTensor[] => [
    { name: 'rows', shape: [64, 96], values: weights(6144, 1) },
    { name: 'columns', shape: [96, 64], values: weights(6144, 2), axis: 1 },
  ]
  for (const recipe of ['int8', 'int8-dynamic', 'int4', 'int4-asym-b128', 'fp16', 'bf16', 'prune-50', 'deadzone-8']) {
    const { result } = await compressInMemory(memoryModel(tensors()), recipe, device, { measure: true })
    for (const { name, histogram, measure } of result.tensors) {
      assert.ok(histogram?.after, `${recipe} ${name}`)
      assert.equal(histogram.before.length, 121)
      const total = (counts: number[]) => counts.reduce((sum, count) => sum + count, 0)
      assert.equal(total(histogram.before), 6144)
      assert.equal(total(histogram.after), 6144)
      // the bin that holds 0 has at least the zeros that the compare kernel counted
      const zeroBin = Math.floor((-histogram.from / (histogram.to - histogram.from)) * 121)
      assert.ok((histogram.after[zeroBin] ?? 0) >= Math.round((measure?.zerosAfter ?? 0) * 6144), `${recipe} ${name}`)
    }
  }
})
