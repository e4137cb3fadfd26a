// The contract of compute-device.ts, on both devices: memory, commands, refusals, readback, loss, times.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { ComputeDevice, DeviceBuffer, Kernel } from '../../src/compute/compute-device.ts'
import { openDevice } from '../../src/compute/open-device.ts'
import { openReferenceDevice } from '../../src/compute/reference-device.ts'
import { listAdapters, openWebgpuDevice, requestGpuDevice } from '../../src/compute/webgpu-device.ts'
import { WebgpuDevice } from '../../src/compute/webgpu-queue.ts'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import { pruneThreshold } from '../../src/kernels/prune-threshold.ts'
import { fakeGpu } from '../support/fake-gpu.ts'
import { testOnDevices, testOnGpu } from '../support/with-device.ts'

function bytesOf(words: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer)
}

async function readWords(device: ComputeDevice, buffer: DeviceBuffer, offsetBytes = 0, count = 1): Promise<number[]> {
  let words: number[] = []
  const consume = (view: Uint8Array): void => {
    words = [...new Uint32Array(view.slice().buffer)]
  }
  await device.submit([], [{ buffer, offsetBytes, sizeBytes: count * 4, consume }])
  return words
}

function isError(code: ErrorCode, detail: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof AppError, String(error))
    assert.equal(error.code, code)
    assert.match(error.detail, detail)
    return true
  }
}

type FiveBuffers = [DeviceBuffer, DeviceBuffer, DeviceBuffer, DeviceBuffer, DeviceBuffer]

/** What PRUNE runs on: 4 elements, one segment, threshold 0 in slot 0. */
function pruneBuffers(device: ComputeDevice): DeviceBuffer[] {
  const values = device.createBuffer('values', 16)
  const segments = device.createBuffer('segments', 16)
  const thresholds = device.createBuffer('thresholds', 4)
  const pruned = device.createBuffer('pruned', 16)
  const zeros = device.createBuffer('zeros', 8)
  device.write(values, 0, bytesOf([0x3f800000, 0x80000000, 0, 0xbf800000]))
  device.write(segments, 0, bytesOf([0, 4, 0, 0]))
  return [values, segments, thresholds, pruned, zeros]
}

const PRUNE = { kernel: pruneThreshold, params: Uint32Array.of(1, 1, 0, 0), workgroups: [1, 1, 1], bytes: 32 } as const

testOnDevices('a new buffer reads as zeros', async (device) => {
  const buffer = device.createBuffer('fresh', 40)
  assert.deepEqual(await readWords(device, buffer, 0, 10), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
  buffer.destroy()
})

testOnDevices('write, copy and clear move exactly the named bytes', async (device) => {
  const from = device.createBuffer('from', 32)
  const to = device.createBuffer('to', 32)
  device.write(from, 0, bytesOf([1, 2, 3, 4, 5, 6, 7, 8]))
  await device.submit([
    { op: 'copy', from, fromOffsetBytes: 4, to, toOffsetBytes: 8, sizeBytes: 20 },
    { op: 'clear', buffer: to, offsetBytes: 12, sizeBytes: 4 },
  ])
  assert.deepEqual(await readWords(device, to, 0, 8), [0, 0, 2, 0, 4, 5, 6, 0])
  from.destroy()
  to.destroy()
})

testOnDevices('commands of a submit run in order', async (device) => {
  const buffers = pruneBuffers(device)
  const [values, segments, thresholds, pruned, zeros] = buffers as FiveBuffers
  const back = [pruned, segments, thresholds, values, zeros]
  await device.submit([
    { op: 'run', ...PRUNE, workgroups: [1, 1, 1], buffers },
    { op: 'run', ...PRUNE, workgroups: [1, 1, 1], buffers: back },
  ])
  assert.deepEqual(await readWords(device, values, 0, 4), [0x3f800000, 0, 0, 0xbf800000])
  // both add to the same zeros: two zeros each
  assert.deepEqual(await readWords(device, buffers[4]!, 0, 2), [0, 4])
  for (const buffer of buffers) buffer.destroy()
})

testOnDevices('a slice binds a part of a buffer', async (device) => {
  const buffers = pruneBuffers(device)
  const wide = device.createBuffer('wide', 512)
  device.write(wide, 256, bytesOf([0, 4, 0, 0]))
  const segments = { buffer: wide, offsetBytes: 256, sizeBytes: 16 }
  await device.submit([
    {
      op: 'run',
      ...PRUNE,
      workgroups: [1, 1, 1],
      buffers: [buffers[0]!, segments, buffers[2]!, buffers[3]!, buffers[4]!],
    },
  ])
  assert.deepEqual(await readWords(device, buffers[4]!, 0, 2), [0, 2])
  for (const buffer of [...buffers, wide]) buffer.destroy()
})

testOnDevices('a chunk is read by kernels, as a whole, in part and filled again', async (device) => {
  const buffers = pruneBuffers(device)
  const [values, segments, thresholds, pruned, zeros] = buffers as FiveBuffers
  // two rows of a texture and a bit
  const chunk = device.createChunk('chunk', 2 * 8192 + 272)
  const prune = async (first: DeviceBuffer | { buffer: DeviceBuffer; offsetBytes: number; sizeBytes: number }) => {
    await device.submit([
      { op: 'run', ...PRUNE, workgroups: [1, 1, 1], buffers: [first, segments, thresholds, pruned, zeros] },
    ])
    return readWords(device, pruned, 0, 4)
  }
  for (const add of [0, 1000]) {
    const host = await chunk.host()
    assert.equal(host.length, chunk.sizeBytes)
    const words = new Uint32Array(host.buffer, host.byteOffset, host.length / 4)
    for (let i = 0; i < words.length; i++) words[i] = 1 + i + add
    chunk.upload(chunk.sizeBytes)
    assert.deepEqual(
      await prune(chunk),
      [1, 2, 3, 4].map((word) => word + add),
    )
    for (const offsetBytes of [256, 8192, 2 * 8192 + 256]) {
      const first = 1 + offsetBytes / 4 + add
      const part = { buffer: chunk, offsetBytes, sizeBytes: 16 }
      assert.deepEqual(await prune(part), [first, first + 1, first + 2, first + 3])
    }
  }
  for (const buffer of [...buffers, chunk]) buffer.destroy()
  await assert.rejects(prune(chunk), isError('internal', /'chunk' was used after it was destroyed|'pruned' was used/))
  assert.ok(values.sizeBytes > 0)
})

testOnDevices(
  'a chunk takes what its last upload brought, although host memory is filled again at once',
  async (device) => {
    const buffers = pruneBuffers(device)
    const [, segments, thresholds, pruned, zeros] = buffers as FiveBuffers
    const chunk = device.createChunk('chunk', 16)
    const fill = async (words: number[]) => (await chunk.host()).set(bytesOf(words))
    await fill([1, 2, 3, 4])
    chunk.upload(16)
    const first = device.submit([
      { op: 'run', ...PRUNE, workgroups: [1, 1, 1], buffers: [chunk, segments, thresholds, pruned, zeros] },
    ])
    await fill([5, 6, 7, 8])
    await first
    assert.deepEqual(await readWords(device, pruned, 0, 4), [1, 2, 3, 4])
    for (const buffer of [...buffers, chunk]) buffer.destroy()
  },
)

testOnDevices('chunks count in the budget and give it back', async (device) => {
  const small = { budgetBytes: 2 ** 20 }
  const own = device.info.kind === 'reference' ? openReferenceDevice(small) : await openDevice('auto', small)
  const chunk = own.createChunk('fits', 2 ** 18)
  assert.throws(() => own.createChunk('too much', 2 ** 20), isError('gpu_memory_exceeded', /'too much'/))
  chunk.destroy()
  chunk.destroy()
  own.createChunk('fits again', 2 ** 18).destroy()
  await own.close()
})

testOnDevices('a chunk cannot be written, copied, read back or bound to anything but the values', async (device) => {
  const chunk = device.createChunk('chunk', 16)
  const buffers = pruneBuffers(device)
  const [values, , thresholds, pruned, zeros] = buffers as FiveBuffers
  const refused = isError('internal', /'chunk' can only be read by kernels/)
  assert.throws(() => device.write(chunk, 0, bytesOf([1])), refused)
  const readback = { buffer: chunk, offsetBytes: 0, sizeBytes: 16, consume: () => undefined }
  await assert.rejects(device.submit([], [readback]), refused)
  const copy = { op: 'copy', from: chunk, fromOffsetBytes: 0, to: values, toOffsetBytes: 0, sizeBytes: 16 } as const
  await assert.rejects(device.submit([copy]), refused)
  await assert.rejects(
    device.submit([
      { op: 'run', ...PRUNE, workgroups: [1, 1, 1], buffers: [values, chunk, thresholds, pruned, zeros] },
    ]),
    isError('internal', /'segments' cannot be bound to chunk 'chunk'/),
  )
  for (const buffer of [...buffers, chunk]) buffer.destroy()
})

testOnDevices('what a chunk refuses is no error of the work that follows', async (device) => {
  const chunk = device.createChunk('chunk', 64)
  const hosts = await Promise.all([chunk.host(), chunk.host()])
  assert.equal(hosts[0], hosts[1])
  assert.throws(() => chunk.upload(68), isError('internal', /'chunk'.*0 to 68.*64 bytes/))
  assert.throws(() => chunk.upload(6), isError('internal', /multiples of 4/))
  chunk.upload(64)
  const again = await Promise.all([chunk.host(), chunk.host()])
  assert.equal(again[0], again[1])
  chunk.upload(64)
  chunk.destroy()
  await assert.rejects(chunk.host(), isError('internal', /'chunk' was used after it was destroyed/))
  assert.throws(() => chunk.upload(64), isError('internal', /'chunk' was used after it was destroyed/))
  const unused = device.createChunk('unused', 64)
  unused.destroy()
  await assert.rejects(unused.host(), isError('internal', /'unused' was used after it was destroyed/))
  await device.submit([])
})

testOnGpu('a chunk that is destroyed while host() waits says so, and the device is not lost', async (device) => {
  const chunk = device.createChunk('chunk', 64)
  await chunk.host()
  chunk.upload(64)
  const waiting = chunk.host()
  chunk.destroy()
  // a chunk in a buffer has nothing to wait for
  if (!device.info.software) await waiting
  else await assert.rejects(waiting, isError('internal', /'chunk' was used after it was destroyed/))
  await device.submit([])
})

test('a chunk that the system has no memory for leaves nothing behind', () => {
  const fake = fakeGpu({ chunkTextures: true, budgetBytes: 2 ** 20 })
  const before = fake.liveBuffers()
  fake.takeMemory()
  for (let i = 0; i < 5; i++) assert.throws(() => fake.device.createChunk('chunk', 2 ** 18), /createBuffer failed/)
  assert.deepEqual([fake.liveBuffers() - before, fake.device.bufferCount], [0, 0])
})

testOnGpu('a device that is lost while host() waits, or before it is called, is device_lost', async () => {
  for (const moment of ['waiting', 'uploaded', 'new'] as const) {
    const opened = await requestGpuDevice('auto')
    const options = { budgetBytes: 2 ** 24, chunkTextures: opened!.info.software }
    const device = new WebgpuDevice(opened!.device, opened!.info, options)
    if (!device.info.software) return
    const chunk = device.createChunk('chunk', 64)
    if (moment !== 'new') {
      await chunk.host()
      chunk.upload(64)
    }
    const early = moment === 'waiting' ? chunk.host() : null
    opened!.device.destroy()
    await assert.rejects(early ?? chunk.host(), isError('device_lost', /was lost/), moment)
    await device.close()
  }
})

testOnDevices('submits in flight together keep their own results', async (device) => {
  const buffers = Array.from({ length: 5 }, (_, i) => device.createBuffer(`lane ${i}`, 16))
  const results = await Promise.all(
    buffers.map((buffer, i) => {
      device.write(buffer, 0, bytesOf([i, i + 1, i + 2, i + 3]))
      return readWords(device, buffer, 4, 2)
    }),
  )
  assert.deepEqual(results, [
    [1, 2],
    [2, 3],
    [3, 4],
    [4, 5],
    [5, 6],
  ])
  for (const buffer of buffers) buffer.destroy()
})

testOnDevices('submit waits for an asynchronous consumer, whose view stays valid', async (device) => {
  const buffer = device.createBuffer('slow', 16)
  device.write(buffer, 0, bytesOf([11, 12, 13, 14]))
  let seen: number[] = []
  await device.submit(
    [],
    [
      {
        buffer,
        offsetBytes: 0,
        sizeBytes: 16,
        consume: async (view) => {
          await new Promise((resolve) => setTimeout(resolve, 20))
          seen = [...view]
        },
      },
    ],
  )
  assert.deepEqual(seen, [11, 0, 0, 0, 12, 0, 0, 0, 13, 0, 0, 0, 14, 0, 0, 0])
  buffer.destroy()
})

testOnDevices('an error of a consumer reaches the submitter and the device goes on', async (device) => {
  const buffer = device.createBuffer('consumer', 16)
  const consume = (): never => {
    throw new Error('disk is full')
  }
  await assert.rejects(device.submit([], [{ buffer, offsetBytes: 0, sizeBytes: 16, consume }]), /disk is full/)
  assert.deepEqual(await readWords(device, buffer, 0, 2), [0, 0])
  buffer.destroy()
})

testOnDevices('a range outside of its buffer is refused with the numbers', async (device) => {
  const buffer = device.createBuffer('small', 16)
  assert.throws(() => device.write(buffer, 8, bytesOf([1, 2, 3])), isError('internal', /'small'.*8 to 20.*16 bytes/))
  assert.throws(() => device.write(buffer, 2, bytesOf([1])), isError('internal', /multiples of 4/))
  await assert.rejects(readWords(device, buffer, 12, 2), isError('internal', /12 to 20/))
  buffer.destroy()
})

testOnDevices('a destroyed buffer is refused', async (device) => {
  const buffer = device.createBuffer('gone', 16)
  buffer.destroy()
  buffer.destroy()
  assert.throws(() => device.write(buffer, 0, bytesOf([1])), isError('internal', /'gone' was used after/))
})

testOnDevices('a dispatch that does not fit its kernel is refused before it runs', async (device) => {
  const buffers = pruneBuffers(device)
  const [values, segments, thresholds, pruned, zeros] = buffers as FiveBuffers
  const run = (
    change: Partial<{ buffers: typeof buffers; params: Uint32Array; workgroups: [number, number, number] }>,
  ) => device.submit([{ op: 'run', ...PRUNE, workgroups: [1, 1, 1], buffers, ...change }])
  await assert.rejects(run({ buffers: [values, segments] }), isError('internal', /takes 5 buffers/))
  await assert.rejects(run({ params: Uint32Array.of(1) }), isError('internal', /4 param words.*got 5 and 1/))
  await assert.rejects(run({ workgroups: [65536, 1, 1] }), isError('internal', /65536 x 1 x 1/))
  await assert.rejects(
    run({ buffers: [values, segments, thresholds, segments, zeros] }),
    isError('internal', /'pruned' writes buffer 'segments', which 'segments' also binds/),
  )
  await assert.rejects(
    device.submit([
      {
        op: 'run',
        ...PRUNE,
        workgroups: [1, 1, 1],
        buffers: [values, { buffer: segments, offsetBytes: 4, sizeBytes: 4 }, thresholds, pruned, zeros],
      },
    ]),
    isError('internal', /'segments' starts at 4/),
  )
  assert.deepEqual(await readWords(device, zeros, 0, 2), [0, 0])
  for (const buffer of buffers) buffer.destroy()
})

testOnDevices('kernel times count dispatches and bytes', async (device) => {
  const of = () => device.kernelTimes().find((time) => time.kernel === 'prune-threshold')
  const before = of()
  const buffers = pruneBuffers(device)
  const run = { op: 'run', ...PRUNE, workgroups: [1, 1, 1] as [number, number, number], buffers } as const
  await device.submit([run, run])
  const after = of()
  assert.equal((after?.dispatches ?? 0) - (before?.dispatches ?? 0), 2)
  assert.equal((after?.bytes ?? 0) - (before?.bytes ?? 0), 64)
  assert.ok((after?.seconds ?? 0) >= (before?.seconds ?? 0))
  for (const buffer of buffers) buffer.destroy()
})

for (const name of ['reference', 'auto']) {
  test(`the byte budget refuses the buffer that passes it and takes freed bytes back [${name}]`, async () => {
    const device = await openDevice(name, { budgetBytes: 4096 })
    const first = device.createBuffer('first', 3000)
    assert.throws(() => device.createBuffer('second', 2000), isError('gpu_memory_exceeded', /'second' of 2000/))
    first.destroy()
    device.createBuffer('second', 2000).destroy()
    await device.close()
  })

  test(`a closed device refuses work [${name}]`, async () => {
    const device = await openDevice(name)
    const buffer = device.createBuffer('left', 16)
    await device.close()
    await assert.rejects(async () => device.submit([], [{ buffer, offsetBytes: 0, sizeBytes: 4, consume: () => {} }]))
  })
}

test('an adapter that is not there is named in the error', async () => {
  await assert.rejects(openDevice('no-such-adapter'), isError('device_unavailable', /no-such-adapter/))
})

testOnGpu('adapters are listed under names that open them', async () => {
  const usable = (await listAdapters()).filter((adapter) => adapter.problem === null)
  assert.ok(usable.length > 0)
  for (const { name, info, limits, features } of usable) {
    assert.ok(limits['maxStorageBufferBindingSize']! >= 128 * 2 ** 20)
    assert.ok(features.length > 0)
    const device = await openDevice(name)
    assert.deepEqual(device.info, info)
    await device.close()
  }
})

testOnGpu('invalid WGSL fails with file, line and column', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'shaders-'))
  const kernel: Kernel = { ...pruneThreshold, name: 'broken' }
  writeFileSync(join(folder, 'broken.wgsl'), '// first line\nfn main( { }\n')
  const device = await openWebgpuDevice('auto', { shaderFolder: pathToFileURL(`${folder}/`) })
  await assert.rejects(device!.prepare([kernel]), isError('internal', /broken\.wgsl:2:\d+: /))
  await assert.rejects(
    device!.prepare([{ ...kernel, name: 'absent' }]),
    isError('internal', /no shader .*absent\.wgsl/),
  )
  await device!.close()
  rmSync(folder, { recursive: true })
})

testOnGpu('a shader that disagrees with its kernel about bindings is refused', async () => {
  const device = await openWebgpuDevice('auto')
  const kernel: Kernel = { ...pruneThreshold, bindings: pruneThreshold.bindings.slice(0, 3) }
  await assert.rejects(device!.prepare([kernel]), isError('internal', /prune-threshold/))
  await device!.close()
})

testOnGpu('a device destroyed during work ends the submit with device_lost', async () => {
  const opened = await requestGpuDevice('auto')
  const device = new WebgpuDevice(opened!.device, opened!.info, { budgetBytes: 2 ** 24 })
  const buffer = device.createBuffer('in flight', 2 ** 20)
  const pending = device.submit([], [{ buffer, offsetBytes: 0, sizeBytes: 2 ** 20, consume: () => undefined }])
  opened!.device.destroy()
  await assert.rejects(pending, isError('device_lost', /was lost|is gone/))
  assert.match(await device.lost, /destroyed/i)
  await assert.rejects(readWords(device, buffer), isError('device_lost', /is gone/))
})

test('a lost device fails pending submits, tells the reason and refuses later calls', async () => {
  const fake = fakeGpu()
  const buffer = fake.device.createBuffer('values', 64)
  const withReadback = fake.device.submit([], [{ buffer, offsetBytes: 0, sizeBytes: 64, consume: () => undefined }])
  const without = fake.device.submit([{ op: 'clear', buffer, offsetBytes: 0, sizeBytes: 64 }])
  fake.lose('the driver was reset')
  await assert.rejects(withReadback, isError('device_lost', /fake/))
  await assert.rejects(without, isError('device_lost', /fake/))
  assert.equal(await fake.device.lost, 'the driver was reset')
  assert.throws(() => fake.device.createBuffer('later', 16), isError('device_lost', /the driver was reset/))
})

test('staging buffers are reused from submit to submit', async () => {
  const fake = fakeGpu()
  const buffer = fake.device.createBuffer('values', 64)
  const before = fake.liveBuffers()
  for (let i = 0; i < 10; i++) {
    const done = fake.device.submit([], [{ buffer, offsetBytes: 0, sizeBytes: 64, consume: () => undefined }])
    await new Promise((resolve) => setImmediate(resolve))
    fake.finishWork()
    await done
  }
  assert.equal(fake.liveBuffers() - before, 1)
})

test('destroying a buffer is followed by a submit, which is what frees its memory', async () => {
  const fake = fakeGpu()
  const buffer = fake.device.createBuffer('values', 64)
  const before = fake.submits()
  buffer.destroy()
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  assert.equal(fake.submits() - before, 1)
})
