// GB/s of every kernel against a device copy measured in the same run. Run by hand:
//   node bench/kernels.bench.ts [--device NAME] [--mib 64] [--runs 5] [--only PREFIX] [--buffers] [--json]
// --buffers: weights in storage buffers, also where the device would keep them in textures.
// Times come from timestamp queries (wall time where the adapter has none), median of the runs. "moved" counts bytes read and
// written; "of copy" is the share of the copy's moved rate; "per core" is input bytes per second of this process's CPU time, the
// figure that means something on a software adapter of a busy machine. --json writes bench/results/kernels-<adapter>.json.

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { BufferSlice, Command, ComputeDevice, Kernel } from '../src/compute/compute-device.ts'
import { openDevice } from '../src/compute/open-device.ts'
import { castBfloat16, castFloat16 } from '../src/kernels/cast-float.ts'
import { compareBlock } from '../src/kernels/compare-block.ts'
import { compareFloat } from '../src/kernels/compare-float.ts'
import { compareInt8, writeCompareInt8Slot } from '../src/kernels/compare-int8.ts'
import { floatBits } from '../src/kernels/float-bits.ts'
import { HISTOGRAM_BINS, histogram } from '../src/kernels/histogram.ts'
import { histogramLinear } from '../src/kernels/histogram-linear.ts'
import { type Workgroups, workgroupsFor } from '../src/kernels/kernel-support.ts'
import { pruneThreshold } from '../src/kernels/prune-threshold.ts'
import { quantizeBlock, quantizeInt4Block32, quantizeInt4Block32Subgroup } from '../src/kernels/quantize-block.ts'
import {
  quantizeBlockTranspose,
  quantizeInt4Block32Transpose,
  quantizeInt4Block32TransposeSubgroup,
  transposeParams,
  transposeWorkgroups,
} from '../src/kernels/quantize-block-transpose.ts'
import { INT8_SLOT_WORDS, quantizeInt8, writeInt8Slot } from '../src/kernels/quantize-int8.ts'
import { channelWorkgroups, quantizeInt8Channel } from '../src/kernels/quantize-int8-channel.ts'
import {
  lanesForBlocks,
  lanesForCounting,
  lanesForSegments,
  segmentWorkgroups,
  writeSegment,
} from '../src/kernels/segments.ts'
import { statistics } from '../src/kernels/statistics.ts'
import { rowsPerItem, statisticsColumns, statisticsColumnsWorkgroups } from '../src/kernels/statistics-columns.ts'
import { resultsFolder } from './figures.ts'

const MIB = 2 ** 20
/** Columns of the matrix that column and transposing kernels see; a common hidden size. */
const COLUMNS = 4096
const ELEMENTS_PER_INVOCATION = 256

const { values: options } = parseArgs({
  options: {
    device: { type: 'string', default: 'auto' },
    mib: { type: 'string', default: '64' },
    runs: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
    buffers: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})

interface Case {
  label: string
  kernel: Kernel
  buffers: BufferSlice[]
  params: number[]
  workgroups: Workgroups
  /** Bytes read from `values` and other large inputs, and written. */
  readBytes: number
  writtenBytes: number
}

interface Row {
  label: string
  inputGBps: number
  movedGBps: number
  ofCopy: number
  perCoreGBps: number
}

function median(numbers: number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}

const device = await openDevice(options.device, { timeEveryPass: true })
const bytes = Number(options.mib) * MIB
const runs = Number(options.runs)
const elements = bytes / 4
const rows = elements / COLUMNS

function upload(label: string, words: Uint32Array | Float32Array): BufferSlice {
  const buffer = device.createBuffer(label, words.byteLength)
  device.write(buffer, 0, new Uint8Array(words.buffer, words.byteOffset, words.byteLength))
  return buffer
}

/** Heavy-tailed weights: a sum of uniforms times a scale per 64 elements. */
function weights(): Float32Array {
  const out = new Float32Array(elements)
  let state = 12345
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  for (let i = 0; i < elements; i++) {
    out[i] = (uniform() + uniform() - 1) * (i % 64 === 0 ? 0.4 : 0.05)
  }
  return out
}

async function uploadChunk(label: string, words: Float32Array): Promise<BufferSlice> {
  if (options.buffers) return upload(label, words)
  const buffer = device.createChunk(label, words.byteLength)
  const host = await buffer.host()
  host.set(new Uint8Array(words.buffer, words.byteOffset, words.byteLength))
  buffer.upload(words.byteLength)
  return buffer
}

const values = await uploadChunk('values', weights())
const segmentElements = device.tuning.segmentElements
const segmentCount = Math.ceil(elements / segmentElements)
const segmentLanes = lanesForSegments(segmentCount, segmentElements, device.info.software)
const table = new Uint32Array(segmentCount * 4)
const blockTable = new Uint32Array(segmentCount * 4)
for (let row = 0; row < segmentCount; row++) {
  const start = row * segmentElements
  const length = Math.min(segmentElements, elements - start)
  writeSegment(table, row, { start, length, slot: 0, aux: start })
  writeSegment(blockTable, row, { start, length, slot: 0, aux: start / 32 })
}
const segments = upload('segments', table)
const blockSegments = upload('block segments', blockTable)
const slots = new Uint32Array(COLUMNS * INT8_SLOT_WORDS)
const compareSlots = new Uint32Array(COLUMNS * 4)
for (let slot = 0; slot < COLUMNS; slot++) {
  writeInt8Slot(slots, slot, {
    inverseScale: 300,
    zeroPoint: 0,
    qMin: -127,
    qMax: 127,
    deadZoneBits: 0,
    minMagnitude: 0,
  })
  writeCompareInt8Slot(compareSlots, slot, 1 / 300, 0)
}
const int8Slots = upload('slots', slots)
const dequantizeSlots = upload('compare slots', compareSlots)
const deadZoneWords = slots.slice(0, INT8_SLOT_WORDS)
deadZoneWords[4] = floatBits(0.01)
deadZoneWords[5] = 1
const deadZone = upload('dead zone slot', deadZoneWords)
const stats = device.createBuffer('stats', COLUMNS * 32)
const out = device.createBuffer('out', bytes)
const counts = device.createBuffer('counts', HISTOGRAM_BINS * 4)
const invocations = Math.ceil(elements / ELEMENTS_PER_INVOCATION)
const sums = device.createBuffer('sums', Math.max(invocations, segmentCount * segmentLanes) * 16)
const scales = device.createBuffer('scales', (elements / 16) * 4)
const zeroPoints = device.createBuffer('zero points', (elements / 16) * 4)
const flags = device.createBuffer('flags', 64)
const prefixes = device.createBuffer('prefixes', 64)
const edges = upload(
  'edges',
  Float32Array.from({ length: 65 }, (_, i) => -0.4 + (0.8 * i) / 64),
)
const blockOut: BufferSlice[] = [out, scales, zeroPoints, flags]

function transposed(kernel: Kernel, blockSize: number, asymmetric: boolean): Case {
  const params = transposeParams({
    rows,
    n: COLUMNS,
    firstBlock: 0,
    blocksPerColumn: rows / blockSize,
    bits: 4,
    blockSize,
    asymmetric,
    shrinkCount: 0,
    valuesStart: 0,
    packedWordBase: 0,
    blockBase: 0,
    slot: 0,
  })
  return {
    label: `${kernel.name} (block ${blockSize}${asymmetric ? ', asymmetric' : ''})`,
    kernel,
    buffers: [values, ...blockOut],
    params: [...params],
    workgroups: transposeWorkgroups(kernel, rows, COLUMNS, blockSize),
    readBytes: bytes,
    writtenBytes: bytes / 8 + (elements / blockSize) * 8,
  }
}

function block(kernel: Kernel, bits: number, blockSize: number, asymmetric: number, shrinkCount: number): Case {
  const least = kernel.subgroups ? 8 : 1
  const lanes = lanesForBlocks(segmentCount, segmentElements / blockSize, least, device.info.software)
  const detail = `${bits} bits, block ${blockSize}${asymmetric ? ', asymmetric' : ''}${shrinkCount ? ', mse' : ''}`
  return {
    label: `${kernel.name} (${detail})`,
    kernel,
    buffers: [values, blockSegments, ...blockOut],
    params: [segmentCount, lanes, bits, blockSize, asymmetric, shrinkCount, 0, 0],
    workgroups: segmentWorkgroups(segmentCount, lanes),
    readBytes: bytes,
    writtenBytes: (bytes * bits) / 32 + (elements / blockSize) * 8,
  }
}

function perSegment(label: string, kernel: Kernel, buffers: BufferSlice[], written: number, ...extra: number[]): Case {
  const lanesFor = kernel === histogram ? lanesForCounting : lanesForSegments
  const lanes = lanesFor(segmentCount, segmentElements, device.info.software)
  return {
    label,
    kernel,
    buffers,
    params: [segmentCount, lanes, ...extra],
    workgroups: segmentWorkgroups(segmentCount, lanes),
    readBytes: bytes,
    writtenBytes: written,
  }
}

const cases: Case[] = [
  perSegment('statistics', statistics, [values, segments, stats, sums], 0, 0, 0),
  {
    label: 'statistics-columns',
    kernel: statisticsColumns,
    buffers: [values, stats],
    params: [rows, COLUMNS, 0, rowsPerItem(rows, COLUMNS)],
    workgroups: statisticsColumnsWorkgroups(rows, COLUMNS, rowsPerItem(rows, COLUMNS)),
    readBytes: bytes,
    writtenBytes: 0,
  },
  perSegment('histogram', histogram, [values, segments, prefixes, counts], 0, 20, 32, 0, 0, 0, 1),
  perSegment('histogram-linear', histogramLinear, [values, segments, edges, counts], 0, 64, floatBits(80)),
  perSegment('prune-threshold', pruneThreshold, [values, segments, prefixes, out, flags], bytes, 0, 0),
  perSegment('quantize-int8', quantizeInt8, [values, segments, int8Slots, out], bytes / 4, 0, 0),
  perSegment('quantize-int8 (dead zone)', quantizeInt8, [values, segments, deadZone, out], bytes / 4, 0, 0),
  {
    label: 'quantize-int8-channel (columns)',
    kernel: quantizeInt8Channel,
    buffers: [values, int8Slots, out],
    params: [elements, 1, COLUMNS, 0],
    workgroups: channelWorkgroups(elements, 1, COLUMNS),
    readBytes: bytes,
    writtenBytes: bytes / 4,
  },
  {
    label: 'quantize-int8-channel (rows)',
    kernel: quantizeInt8Channel,
    buffers: [values, int8Slots, out],
    params: [elements, 576, COLUMNS, 0],
    workgroups: channelWorkgroups(elements, 576, COLUMNS),
    readBytes: bytes,
    writtenBytes: bytes / 4,
  },
  block(quantizeInt4Block32, 4, 32, 0, 0),
  block(quantizeInt4Block32Subgroup, 4, 32, 0, 0),
  block(quantizeBlock, 4, 32, 0, 0),
  block(quantizeBlock, 4, 128, 1, 0),
  block(quantizeBlock, 8, 32, 0, 0),
  block(quantizeBlock, 4, 32, 0, 10),
  transposed(quantizeInt4Block32Transpose, 32, false),
  transposed(quantizeInt4Block32TransposeSubgroup, 32, false),
  transposed(quantizeBlockTranspose, 32, false),
  transposed(quantizeBlockTranspose, 128, true),
  perSegment('cast-float16', castFloat16, [values, segments, out, flags], bytes / 2, 0, 0),
  perSegment('cast-bfloat16', castBfloat16, [values, segments, out, flags], bytes / 2, 0, 0),
  perSegment('compare-float (float16)', compareFloat, [values, out, segments, stats, sums], 0, 16, 0),
  {
    label: 'compare-int8 (columns)',
    kernel: compareInt8,
    buffers: [values, out, dequantizeSlots, stats, sums],
    params: [elements, 1, COLUMNS, 0, 1, 0, ELEMENTS_PER_INVOCATION, 0],
    workgroups: workgroupsFor(invocations),
    readBytes: bytes * 1.25,
    writtenBytes: 0,
  },
  {
    label: 'compare-block ([N,K])',
    kernel: compareBlock,
    buffers: [values, out, scales, zeroPoints, stats, sums],
    params: [elements, 0, COLUMNS, rows, 0, 4, 32, 0, ELEMENTS_PER_INVOCATION, 0, 0, 0],
    workgroups: workgroupsFor(invocations),
    readBytes: bytes * 1.125,
    writtenBytes: 0,
  },
]

/** Seconds on the device and of this process's CPU for one dispatch. */
async function time(run: () => Promise<number>): Promise<{ seconds: number; cpuSeconds: number }> {
  const samples: { seconds: number; cpuSeconds: number }[] = []
  await run()
  for (let i = 0; i < runs; i++) {
    const cpu = process.cpuUsage()
    const seconds = await run()
    const used = process.cpuUsage(cpu)
    samples.push({ seconds, cpuSeconds: (used.user + used.system) / 1e6 })
  }
  return {
    seconds: median(samples.map((sample) => sample.seconds)),
    cpuSeconds: median(samples.map((sample) => sample.cpuSeconds)),
  }
}

function kernelSeconds(compute: ComputeDevice, kernel: Kernel): number {
  return compute.kernelTimes().find((entry) => entry.kernel === kernel.name)?.seconds ?? 0
}

const copySource = device.createBuffer('copy source', bytes)
const COPIES = 4
const copy = await time(async () => {
  const commands: Command[] = Array.from({ length: COPIES }, () => ({
    op: 'copy',
    from: copySource,
    fromOffsetBytes: 0,
    to: out,
    toOffsetBytes: 0,
    sizeBytes: bytes,
  }))
  const started = performance.now()
  await device.submit(commands)
  return (performance.now() - started) / 1000 / COPIES
})
const copyRate = (2 * bytes) / copy.seconds / 1e9

const results: Row[] = []
for (const { label, kernel, buffers, params, workgroups, readBytes, writtenBytes } of cases) {
  if (!label.startsWith(options.only) || (kernel.subgroups && !device.tuning.subgroups)) continue
  await device.prepare([kernel], options.buffers ? 'buffer' : 'chunk')
  const { seconds, cpuSeconds } = await time(async () => {
    const before = kernelSeconds(device, kernel)
    await device.submit([
      { op: 'run', kernel, buffers, params: Uint32Array.from(params), workgroups, bytes: readBytes + writtenBytes },
    ])
    return kernelSeconds(device, kernel) - before
  })
  const movedGBps = (readBytes + writtenBytes) / seconds / 1e9
  results.push({
    label,
    inputGBps: bytes / seconds / 1e9,
    movedGBps,
    ofCopy: movedGBps / copyRate,
    perCoreGBps: bytes / cpuSeconds / 1e9,
  })
}

console.log(`${device.info.adapter} | ${device.info.driver} | ${cpus()[0]?.model ?? ''} x ${cpus().length}`)
console.log(`${options.mib} MiB input, median of ${runs}; device copy moves ${copyRate.toFixed(1)} GB/s`)
for (const row of results) {
  const cells = [row.inputGBps, row.movedGBps, row.ofCopy, row.perCoreGBps].map((cell) => cell.toFixed(2).padStart(9))
  console.log(`${row.label.padEnd(58)}${cells.join('')}`)
}
console.log(`${''.padEnd(58)} in GB/s    moved  of copy per core`)

if (options.json) {
  const name = `kernels-${device.info.adapter.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}.json`
  const machine = { cpu: cpus()[0]?.model ?? '', cores: cpus().length, node: process.version }
  const result = { device: device.info, machine, mib: Number(options.mib), runs, copyGBps: copyRate, rows: results }
  writeFileSync(join(resultsFolder(), name), `${JSON.stringify(result, null, 2)}\n`)
}
await device.close()
