// The GPU writes the same bytes as the reference device, for every kernel, over inputs that find bugs: random bit patterns, NaN,
// infinities, denormals, ties, constants, outliers; sizes around blocks and vec4s; unaligned starts; one or many lanes.

import assert from 'node:assert/strict'
import type { Kernel } from '../../src/compute/compute-device.ts'
import { castBfloat16, castFloat16 } from '../../src/kernels/cast-float.ts'
import { compareBlock } from '../../src/kernels/compare-block.ts'
import { compareFloat } from '../../src/kernels/compare-float.ts'
import { compareInt8, writeCompareInt8Slot } from '../../src/kernels/compare-int8.ts'
import { floatBits } from '../../src/kernels/float-bits.ts'
import { HISTOGRAM_BINS, HISTOGRAM_LEVELS, histogram } from '../../src/kernels/histogram.ts'
import { histogramLinear } from '../../src/kernels/histogram-linear.ts'
import { invocationCount, type Workgroups, workgroupsFor } from '../../src/kernels/kernel-support.ts'
import { pruneThreshold } from '../../src/kernels/prune-threshold.ts'
import { quantizeBlock, quantizeInt4Block32, quantizeInt4Block32Subgroup } from '../../src/kernels/quantize-block.ts'
import {
  quantizeBlockTranspose,
  quantizeInt4Block32Transpose,
  quantizeInt4Block32TransposeSubgroup,
  type TransposeParams,
  transposeParams,
  transposeWorkgroups,
} from '../../src/kernels/quantize-block-transpose.ts'
import { INT8_SLOT_WORDS, quantizeInt8, writeInt8Slot } from '../../src/kernels/quantize-int8.ts'
import { channelWorkgroups, quantizeInt8Channel } from '../../src/kernels/quantize-int8-channel.ts'
import { type SegmentLanes, segmentWorkgroups, writeSegment } from '../../src/kernels/segments.ts'
import { statistics } from '../../src/kernels/statistics.ts'
import { statisticsColumns, statisticsColumnsWorkgroups } from '../../src/kernels/statistics-columns.ts'
import { runKernel, type Words } from '../support/run-kernel.ts'
import { randomWords, VALUE_KINDS, valueBits } from '../support/value-cases.ts'
import { referenceDevice, testOnGpu } from '../support/with-device.ts'

interface Dispatch {
  kernel: Kernel
  buffers: Record<string, Words>
  params: number[]
  workgroups: Workgroups
  label: string
  /** Written buffers that only hold statistics: f32 sums, checked in total with this relative tolerance. */
  sums?: { name: string; stride: number; relative: number }
}

/** Runs on both devices and compares every written word; sums only in total. */
async function agree(device: Parameters<Parameters<typeof testOnGpu>[1]>[0], dispatch: Dispatch): Promise<void> {
  const { kernel, buffers, params, workgroups, label } = dispatch
  const expected = await runKernel(referenceDevice(), kernel, buffers, params, workgroups)
  for (const form of ['chunk', 'buffer'] as const) {
    const actual = await runKernel(device, kernel, buffers, params, workgroups, form)
    compareWords({ ...dispatch, label: `${label}, ${form}` }, expected, actual)
  }
}

function compareWords(
  { kernel, label, sums }: Dispatch,
  expected: Record<string, Words>,
  actual: Record<string, Words>,
): void {
  for (const [name, words] of Object.entries(expected)) {
    if (name === sums?.name) continue
    const found = actual[name]!
    const at = words.findIndex((word, i) => word !== found[i])
    if (at < 0) continue
    assert.fail(
      `${kernel.name} (${label}): ${name}[${at}] is 0x${found[at]!.toString(16)}, reference 0x${words[at]!.toString(16)}`,
    )
  }
  if (sums === undefined) return
  const total = (words: Words, column: number): number => {
    const floats = new Float32Array(words.buffer)
    let sum = 0
    for (let i = column; i < floats.length; i += sums.stride) sum += floats[i]!
    return sum
  }
  for (let column = 0; column < sums.stride; column++) {
    const reference = total(expected[sums.name]!, column)
    const found = total(actual[sums.name]!, column)
    if (!Number.isFinite(reference)) continue
    const scale = Math.max(...Array.from({ length: sums.stride }, (_, c) => Math.abs(total(expected[sums.name]!, c))))
    if (Math.abs(found - reference) > sums.relative * Math.max(scale, 1e-30)) {
      assert.fail(`${kernel.name} (${label}): sum ${column} of ${sums.name} is ${found}, reference ${reference}`)
    }
  }
}

interface Layout {
  label: string
  elements: number
  /** [start, length, slot, aux] */
  rows: [number, number, number, number][]
}

/** Segments that no two share a vec4 of: starts are multiples of 4. */
const ALIGNED_LAYOUTS: Layout[] = [
  { label: 'one empty segment', elements: 4, rows: [[0, 0, 0, 0]] },
  { label: 'one element', elements: 1, rows: [[0, 1, 0, 0]] },
  {
    label: 'odd lengths',
    elements: 300,
    rows: [
      [0, 31, 0, 0],
      [32, 33, 1, 1],
      [68, 5, 0, 3],
      [76, 97, 2, 4],
      [176, 64, 1, 8],
      [240, 58, 2, 10],
    ],
  },
  {
    label: 'whole vec4s',
    elements: 1160,
    rows: [
      [0, 1024, 0, 0],
      [1024, 128, 1, 32],
      [1152, 8, 2, 36],
    ],
  },
  {
    label: 'long',
    elements: 5000,
    rows: [
      [0, 4099, 0, 0],
      [4100, 900, 1, 129],
    ],
  },
]

/** Any start: neighbours share vec4s. */
const UNALIGNED_LAYOUTS: Layout[] = [
  ...ALIGNED_LAYOUTS,
  {
    label: 'unaligned starts',
    elements: 700,
    rows: [
      [1, 1, 0, 0],
      [2, 3, 1, 1],
      [5, 2, 2, 2],
      [7, 257, 0, 3],
      [264, 301, 1, 12],
      [565, 134, 2, 22],
    ],
  },
]

const LANES: SegmentLanes[] = [1, 8, 64]

function segmentTable(layout: Layout): Words {
  const table = new Uint32Array(layout.rows.length * 4)
  for (const [row, [start, length, slot, aux]] of layout.rows.entries()) {
    writeSegment(table, row, { start, length, slot, aux })
  }
  return table
}

function* cases(layouts: Layout[]) {
  for (const kind of VALUE_KINDS) {
    for (const layout of layouts) {
      for (const lanes of LANES) {
        const workgroups = segmentWorkgroups(layout.rows.length, lanes)
        const label = `${kind}, ${layout.label}, ${lanes} lanes`
        yield {
          kind,
          layout,
          lanes,
          label,
          workgroups,
          values: valueBits(kind, layout.elements),
          segments: segmentTable(layout),
          rows: layout.rows.length,
        }
      }
    }
  }
}

const SLOTS = 3

testOnGpu('statistics of rows agree', async (device) => {
  for (const kind of VALUE_KINDS) {
    for (const [rows, cols] of [
      [24, 20],
      [100, 12],
      [70, 7],
    ] as const) {
      for (const lanes of LANES) {
        const layout: Layout = {
          label: `${rows} rows of ${cols}`,
          elements: rows * cols,
          rows: Array.from({ length: rows }, (_, row) => [row * cols, cols, row, 0]),
        }
        const workgroups = segmentWorkgroups(rows, lanes)
        await agree(device, {
          kernel: statistics,
          buffers: {
            values: valueBits(kind, layout.elements),
            segments: segmentTable(layout),
            stats: new Uint32Array(rows * 8),
            moments: new Uint32Array(invocationCount(workgroups) * 2),
          },
          params: [rows, lanes, 0, 0],
          workgroups,
          label: `${kind}, ${layout.label}, ${lanes} lanes`,
          sums: { name: 'moments', stride: 2, relative: 1e-4 },
        })
      }
    }
  }
})

testOnGpu('statistics agree', async (device) => {
  for (const c of cases(UNALIGNED_LAYOUTS)) {
    await agree(device, {
      ...c,
      kernel: statistics,
      buffers: {
        values: c.values,
        segments: c.segments,
        stats: new Uint32Array(SLOTS * 8),
        moments: new Uint32Array(invocationCount(c.workgroups) * 2),
      },
      params: [c.rows, c.lanes, 0, 0],
      sums: { name: 'moments', stride: 2, relative: 1e-4 },
    })
  }
})

testOnGpu('statistics of columns agree', async (device) => {
  for (const kind of VALUE_KINDS) {
    for (const [rows, cols, rowsPerItem] of [
      [1, 1, 1],
      [7, 3, 2],
      [65, 4, 64],
      [33, 12, 5],
      [40, 31, 64],
      [50, 16, 25],
      [9, 20, 4],
      [24, 20, 1],
    ] as const) {
      await agree(device, {
        kernel: statisticsColumns,
        buffers: { values: valueBits(kind, rows * cols), stats: new Uint32Array((cols + 2) * 8) },
        params: [rows, cols, 1, rowsPerItem],
        workgroups: statisticsColumnsWorkgroups(rows, cols, rowsPerItem),
        label: `${kind} ${rows}x${cols} by ${rowsPerItem}`,
      })
    }
  }
})

testOnGpu('histograms agree at every level', async (device) => {
  for (const c of cases(UNALIGNED_LAYOUTS)) {
    for (const { shift, prefixShift } of HISTOGRAM_LEVELS) {
      const middle = (c.values[Math.floor(c.values.length / 2)]! & 0x7fffffff) >>> 0
      await agree(device, {
        ...c,
        kernel: histogram,
        buffers: {
          values: c.values,
          segments: c.segments,
          prefixes: new Uint32Array(SLOTS).fill(prefixShift === 32 ? 0 : middle >>> prefixShift),
          counts: new Uint32Array(SLOTS * HISTOGRAM_BINS),
        },
        params: [c.rows, c.lanes, shift, prefixShift, 0, 0, 0, SLOTS],
      })
    }
  }
})

testOnGpu('histograms by channel agree, also for part of the channels', async (device) => {
  for (const [inner, channels] of [
    [1, 5],
    [1, 8],
    [3, 2],
    [16, 7],
    [300, 3],
  ] as const) {
    for (const layout of UNALIGNED_LAYOUTS) {
      for (const lanes of LANES) {
        await agree(device, {
          kernel: histogram,
          buffers: {
            values: valueBits('weights', layout.elements),
            segments: segmentTable(layout),
            prefixes: new Uint32Array(2).fill(0x3d8),
            counts: new Uint32Array(2 * HISTOGRAM_BINS),
          },
          params: [layout.rows.length, lanes, 9, 20, inner, channels, 1, 2],
          workgroups: segmentWorkgroups(layout.rows.length, lanes),
          label: `${inner} x ${channels}, ${layout.label}, ${lanes} lanes`,
        })
      }
    }
  }
})

testOnGpu('linear histograms agree', async (device) => {
  for (const c of cases(UNALIGNED_LAYOUTS)) {
    for (const [low, high, bins] of [
      [-0.2, 0.2, 64],
      [-8, 8, 7],
      [-1, 1, 3000],
      [0, 0, 1],
    ] as const) {
      const edges = Float32Array.from({ length: bins + 1 }, (_, i) => low + ((high - low) * i) / bins)
      const inverseWidth = high > low ? bins / (high - low) : 0
      await agree(device, {
        ...c,
        kernel: histogramLinear,
        buffers: {
          values: c.values,
          segments: c.segments,
          edges: new Uint32Array(edges.buffer),
          counts: new Uint32Array(bins),
        },
        params: [c.rows, c.lanes, bins, floatBits(inverseWidth)],
      })
    }
  }
})

testOnGpu('pruning agrees and leaves the elements between segments alone', async (device) => {
  for (const c of cases(ALIGNED_LAYOUTS)) {
    await agree(device, {
      ...c,
      kernel: pruneThreshold,
      buffers: {
        values: c.values,
        segments: c.segments,
        thresholds: Uint32Array.of(0, floatBits(0.0625), 0x7f800000),
        pruned: new Uint32Array(c.values.length),
        zeros: new Uint32Array(SLOTS * 2),
      },
      params: [c.rows, c.lanes, 0, 0],
    })
  }
})

function int8Slots(): Words {
  const slots = new Uint32Array(SLOTS * INT8_SLOT_WORDS)
  const symmetric = { zeroPoint: 0, qMin: -127, qMax: 127 }
  writeInt8Slot(slots, 0, { ...symmetric, inverseScale: 2, deadZoneBits: 0, minMagnitude: 0 })
  writeInt8Slot(slots, 1, { ...symmetric, inverseScale: 635, deadZoneBits: floatBits(0.0625), minMagnitude: 1 })
  writeInt8Slot(slots, 2, { inverseScale: 33.3, zeroPoint: 131, qMin: 0, qMax: 255, deadZoneBits: 0, minMagnitude: 0 })
  return slots
}

testOnGpu('int8 quantization agrees', async (device) => {
  for (const c of cases(ALIGNED_LAYOUTS)) {
    await agree(device, {
      ...c,
      kernel: quantizeInt8,
      buffers: {
        values: c.values,
        segments: c.segments,
        slots: int8Slots(),
        out: new Uint32Array(Math.ceil(c.layout.elements / 4)),
      },
      params: [c.rows, c.lanes, 0, 0],
    })
  }
})

testOnGpu('int8 quantization by channel agrees for columns, rows and any other axis', async (device) => {
  for (const kind of VALUE_KINDS) {
    for (const [elements, inner, channels, firstElement] of [
      [0, 1, 4, 0],
      [1000, 1, 8, 0],
      [1003, 1, 8, 12],
      [999, 1, 7, 0],
      [513, 1, 8, 5],
      [2048, 64, 5, 0],
      [2050, 12, 5, 100],
      [700, 3, 4, 2],
      [77, 1000, 3, 1990],
      [4096, 1, 1024, 0],
    ] as const) {
      const slots = new Uint32Array(channels * INT8_SLOT_WORDS)
      for (let channel = 0; channel < channels; channel++) {
        writeInt8Slot(slots, channel, {
          inverseScale: 100 / (1 + (channel % 5)),
          zeroPoint: channel % 3,
          qMin: -127,
          qMax: 127,
          deadZoneBits: channel % 2 === 0 ? 0 : floatBits(0.02),
          minMagnitude: channel % 4 === 3 ? 1 : 0,
        })
      }
      await agree(device, {
        kernel: quantizeInt8Channel,
        buffers: {
          values: valueBits(kind, Math.max(1, elements)),
          slots,
          out: new Uint32Array(Math.ceil(elements / 4) + 1),
        },
        params: [elements, inner, channels, firstElement],
        workgroups: channelWorkgroups(elements, inner, channels),
        label: `${kind} ${elements}, ${inner} x ${channels} from ${firstElement}`,
      })
    }
  }
})

const BLOCK_SETTINGS = [
  { bits: 4, blockSize: 32, asymmetric: 0, shrinkCount: 0 },
  { bits: 4, blockSize: 16, asymmetric: 0, shrinkCount: 8 },
  { bits: 4, blockSize: 128, asymmetric: 1, shrinkCount: 1 },
  { bits: 4, blockSize: 32, asymmetric: 1, shrinkCount: 12 },
  { bits: 8, blockSize: 32, asymmetric: 0, shrinkCount: 1 },
  { bits: 8, blockSize: 64, asymmetric: 1, shrinkCount: 6 },
] as const

function blockBuffers(blocks: number, bits: number, blockSize: number): Record<string, Words> {
  return {
    packed: new Uint32Array((blocks * blockSize * bits) / 32).fill(0xdeadbeef),
    scales: new Uint32Array(blocks),
    zero_points: new Uint32Array(blocks),
    flags: new Uint32Array(SLOTS * 2),
  }
}

testOnGpu('block quantization agrees', async (device) => {
  for (const c of cases(UNALIGNED_LAYOUTS)) {
    for (const { bits, blockSize, asymmetric, shrinkCount } of BLOCK_SETTINGS) {
      // aux rows are first blocks of 32; smaller blocks need twice as many
      const rows = c.layout.rows.map(([start, length, slot, aux]): [number, number, number, number] => [
        start,
        length,
        slot,
        aux * 2,
      ])
      await agree(device, {
        ...c,
        kernel: quantizeBlock,
        buffers: {
          values: c.values,
          segments: segmentTable({ ...c.layout, rows }),
          ...blockBuffers(400, bits, blockSize),
        },
        params: [c.rows, c.lanes, bits, blockSize, asymmetric, shrinkCount, 0, 0],
        label: `${c.label}, ${bits} bits, block ${blockSize}, asymmetric ${asymmetric}, shrink ${shrinkCount}`,
      })
    }
  }
})

for (const kernel of [quantizeInt4Block32, quantizeInt4Block32Subgroup]) {
  testOnGpu(`${kernel.name} agrees`, async (device) => {
    if (kernel.subgroups && !device.tuning.subgroups) return
    for (const c of cases(ALIGNED_LAYOUTS)) {
      if (kernel.subgroups && c.lanes < 8) continue
      await agree(device, {
        ...c,
        kernel,
        buffers: { values: c.values, segments: c.segments, ...blockBuffers(200, 4, 32) },
        params: [c.rows, c.lanes, 4, 32, 0, 0, 0, 0],
      })
    }
  })
}

testOnGpu('lavapipe has subgroups of 8, so that the kernels made for them are tested', (device) => {
  if (device.info.driver.includes('llvmpipe')) assert.equal(device.tuning.subgroups, true)
})

testOnGpu('transposing block quantization agrees, also in pieces', async (device) => {
  for (const kind of VALUE_KINDS) {
    for (const [rows, n, valuesStart] of [
      [1, 1, 0],
      [64, 8, 0],
      [70, 12, 4],
      [33, 7, 3],
      [160, 5, 0],
    ] as const) {
      for (const { bits, blockSize, asymmetric, shrinkCount } of BLOCK_SETTINGS) {
        const p: TransposeParams = {
          rows,
          n,
          firstBlock: 1,
          blocksPerColumn: Math.ceil(rows / blockSize) + 2,
          bits,
          blockSize,
          asymmetric: asymmetric === 1,
          shrinkCount,
          valuesStart,
          packedWordBase: 4,
          blockBase: 3,
          slot: 1,
        }
        const common = bits === 4 && blockSize === 32 && asymmetric === 0 && n % 4 === 0
        const teams = device.tuning.subgroups ? [quantizeInt4Block32TransposeSubgroup] : []
        const fast = common ? [quantizeInt4Block32Transpose, ...teams] : []
        for (const kernel of [quantizeBlockTranspose, ...fast]) {
          await agree(device, {
            kernel,
            buffers: {
              values: valueBits(kind, valuesStart + rows * n),
              ...blockBuffers(n * p.blocksPerColumn + 8, bits, blockSize),
            },
            params: [...transposeParams(p)],
            workgroups: transposeWorkgroups(kernel, rows, n, blockSize),
            label: `${kind} ${rows}x${n}, ${bits} bits, block ${blockSize}, asymmetric ${asymmetric}, shrink ${shrinkCount}`,
          })
        }
      }
    }
  }
})

testOnGpu('casts agree', async (device) => {
  for (const kernel of [castFloat16, castBfloat16]) {
    for (const c of cases(ALIGNED_LAYOUTS)) {
      await agree(device, {
        ...c,
        kernel,
        buffers: {
          values: c.values,
          segments: c.segments,
          out: new Uint32Array(Math.ceil(c.layout.elements / 4) * 2),
          flags: new Uint32Array(SLOTS * 2),
        },
        params: [c.rows, c.lanes, 0, 0],
      })
    }
  }
})

const LOOSE = { stride: 4, relative: 1e-4 }

testOnGpu('comparison with 32- and 16-bit artifacts agrees', async (device) => {
  for (const c of cases(ALIGNED_LAYOUTS)) {
    for (const [artifactBits, bfloat] of [
      [32, 0],
      [16, 0],
      [16, 1],
    ] as const) {
      await agree(device, {
        ...c,
        kernel: compareFloat,
        buffers: {
          values: c.values,
          artifact:
            artifactBits === 32 ? valueBits('specials', c.layout.elements, 5) : valueBits('bits', c.layout.elements, 3),
          segments: c.segments,
          stats: new Uint32Array(SLOTS * 8),
          sums: new Uint32Array(invocationCount(c.workgroups) * 4),
        },
        params: [c.rows, c.lanes, artifactBits, bfloat],
        sums: { name: 'sums', ...LOOSE },
      })
    }
  }
})

testOnGpu('comparison with int8 artifacts agrees', async (device) => {
  for (const kind of VALUE_KINDS) {
    for (const [elements, inner, channels, firstElement, signed, each] of [
      [1000, 1000, 1, 0, 1, 64],
      [1001, 1, 8, 4, 1, 60],
      [1001, 16, 8, 4, 0, 128],
      [333, 5, 3, 2, 1, 4],
    ] as const) {
      const slots = new Uint32Array(channels * 4)
      for (let channel = 0; channel < channels; channel++) {
        writeCompareInt8Slot(slots, channel, 0.01 * (channel + 1), channel - 2)
      }
      const invocations = Math.ceil(elements / each)
      await agree(device, {
        kernel: compareInt8,
        buffers: {
          values: valueBits(kind, elements),
          artifact: valueBits('bits', Math.ceil(elements / 4), 9),
          slots,
          stats: new Uint32Array(16),
          sums: new Uint32Array(invocations * 4),
        },
        params: [elements, inner, channels, firstElement, signed, 1, each, 0],
        workgroups: workgroupsFor(invocations),
        label: `${kind} ${elements}, ${inner} x ${channels}`,
        sums: { name: 'sums', ...LOOSE },
      })
    }
  }
})

testOnGpu('comparison with block-packed artifacts agrees in both orders', async (device) => {
  const next = randomWords(77)
  for (const kind of VALUE_KINDS) {
    for (const order of [0, 1]) {
      for (const [k, n, bits, blockSize, each] of [
        [64, 8, 4, 32, 64],
        [70, 9, 4, 32, 20],
        [130, 3, 8, 64, 16],
      ] as const) {
        const blocks = Math.ceil(k / blockSize) * n
        const firstElement = order === 0 ? 0 : n * 2
        const elements = k * n - firstElement
        const invocations = Math.ceil(elements / each)
        await agree(device, {
          kernel: compareBlock,
          buffers: {
            values: valueBits(kind, elements),
            packed: valueBits('bits', (blocks * blockSize * bits) / 32, 4),
            scales: valueBits('weights', blocks),
            zero_points: Uint32Array.from({ length: blocks }, () => next() % 2 ** bits),
            stats: new Uint32Array(16),
            sums: new Uint32Array(invocations * 4),
          },
          params: [elements, firstElement, k, n, order, bits, blockSize, 1, each, 0, 0, 0],
          workgroups: workgroupsFor(invocations),
          label: `${kind} ${k}x${n} order ${order}, ${bits} bits`,
          sums: { name: 'sums', ...LOOSE },
        })
      }
    }
  }
})
