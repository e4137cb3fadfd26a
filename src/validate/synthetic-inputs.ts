// Seeded synthetic inputs for models without a dataset: entry syntheticFeed(kind). Six kinds, two of them structured (smooth
// gradients with blobs, sums of waves), since noise alone hides what a network does to real signals. Same seed, same bytes.

import { byteLength, elementCount } from '../tensor/dtype.ts'
import type { FeedTensor } from './dataset.ts'
import { SeededRandom } from './seeded-random.ts'
import type { InputInfo, InputShapes } from './synthetic-shapes.ts'
import { imageLayout, isStateInput } from './synthetic-shapes.ts'

export const SYNTHETIC_KINDS = ['structured', 'structured-255', 'waves', 'noise', 'uniform', 'impulses'] as const
export type SyntheticKind = (typeof SYNTHETIC_KINDS)[number]

/** Token ids stay below this: even character models have so many, and an id out of range is an error. */
const TOKEN_LIMIT = 32

const SAMPLE_RATE_HZ = 16000

/** One feed of the given kind. Integer inputs get small ids, masks ones, sample rates 16000, states zeros. */
export function syntheticFeed(
  inputs: readonly InputInfo[],
  shapes: InputShapes,
  kind: SyntheticKind,
  seed: number,
): Record<string, FeedTensor> {
  const feed: Record<string, FeedTensor> = Object.create(null)
  for (const [index, input] of inputs.entries()) {
    const dims = shapes[input.name] ?? []
    const random = new SeededRandom(seed + 7919 * SYNTHETIC_KINDS.indexOf(kind) + 104729 * index)
    const values = input.dtype.startsWith('f')
      ? floatValues(input, dims, kind, random)
      : integerValues(input, dims, kind, random)
    feed[input.name] = { dtype: input.dtype, dims, data: encode(input, values) }
  }
  return feed
}

function floatValues(input: InputInfo, dims: number[], kind: SyntheticKind, random: SeededRandom): Float64Array {
  const values = new Float64Array(elementCount(dims))
  if (isStateInput(input.name)) return values
  switch (kind) {
    case 'structured':
      return fillStructured(values, dims, random, 1)
    case 'structured-255':
      // Pixels of 0..255 suit only images; other inputs get the structure with zero mean.
      return imageLayout(dims) === null
        ? fillStructured(values, dims, random, 2).map((v) => v - 1)
        : fillStructured(values, dims, random, 255)
    case 'waves':
      return fillWaves(values, dims, random)
    case 'noise':
      return values.map(() => random.nextBell())
    case 'uniform':
      return values.map(() => random.next())
    case 'impulses':
      return values.map(() => (random.next() < 0.02 ? 1 : 0))
    default:
      return kind satisfies never
  }
}

/** Planes of rows x columns that a tensor is made of, and where element (row, column, plane) lies. */
function planesOf(dims: readonly number[]): { rows: number; columns: number; planes: number; interleaved: boolean } {
  const interleaved = imageLayout(dims) === 'nhwc'
  const spatial = interleaved ? dims.slice(0, -1) : dims
  const columns = spatial.at(-1) ?? 1
  const rows = spatial.at(-2) ?? 1
  return { rows, columns, planes: elementCount(dims) / Math.max(rows * columns, 1), interleaved }
}

/** A linear gradient plus three soft blobs a plane, in [0, amplitude]. Works for images and for sequences (one row). */
function fillStructured(values: Float64Array, dims: number[], random: SeededRandom, amplitude: number): Float64Array {
  if (values.length === 0) return values
  const { rows, columns, planes, interleaved } = planesOf(dims)
  for (let plane = 0; plane < planes; plane++) {
    const angle = random.next()
    const blobs = Array.from({ length: 3 }, () => ({
      y: random.next(),
      x: random.next(),
      radius: 0.05 + 0.25 * random.next(),
      height: 0.3 + 0.5 * random.next(),
    }))
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const y = (row + 0.5) / rows
        const x = (column + 0.5) / columns
        let value = 0.4 * (angle * x + (1 - angle) * y)
        for (const blob of blobs) {
          const distance = ((y - blob.y) ** 2 + (x - blob.x) ** 2) / blob.radius ** 2
          value += blob.height / (1 + distance * distance)
        }
        const at = interleaved ? (row * columns + column) * planes + plane : (plane * rows + row) * columns + column
        values[at] = amplitude * Math.min(1, value)
      }
    }
  }
  return values
}

/** Three sine waves along the last spatial axis with slowly changing loudness, in about [-1, 1]. */
function fillWaves(values: Float64Array, dims: number[], random: SeededRandom): Float64Array {
  // [1, samples, 1]: the signal runs along the longest axis whatever its place.
  const longest = Math.max(...dims, 1)
  const waves = Array.from({ length: 3 }, () => ({
    turns: 2 + random.next() * Math.min(200, longest / 8),
    phase: random.next() * 2 * Math.PI,
    height: 0.15 + 0.3 * random.next(),
  }))
  for (let i = 0; i < values.length; i++) {
    const t = (i % longest) / longest
    const loudness = 0.6 + 0.4 * Math.sin(2 * Math.PI * t)
    let value = 0
    for (const wave of waves) value += wave.height * Math.sin(2 * Math.PI * wave.turns * t + wave.phase)
    values[i] = loudness * value
  }
  return values
}

function integerValues(input: InputInfo, dims: number[], kind: SyntheticKind, random: SeededRandom): Float64Array {
  const values = new Float64Array(elementCount(dims))
  const name = input.name.toLowerCase()
  if (/(^|[^a-z])(sr|fs)([^a-z]|$)|sample_?rate/.test(name)) return values.fill(SAMPLE_RATE_HZ)
  if (input.dtype === 'bool' || /mask/.test(name)) return values.fill(1)
  if (/token_type|segment/.test(name) || isStateInput(name)) return values
  if (/position/.test(name)) return values.map((_, i) => i % Math.max(dims.at(-1) ?? 1, 1))
  if (dims.length <= 1 && /len/.test(name)) return values.fill(1)
  if (input.dtype === 'u8' || input.dtype === 'i8') {
    const span = input.dtype === 'u8' ? 255 : 127
    return imageLayout(dims) === null
      ? values.map(() => random.nextBelow(span + 1))
      : fillStructured(values, dims, random, span).map(Math.floor)
  }
  if (dims.length === 0) return values.fill(1)
  return values.map(() => random.nextBelow(kind === 'impulses' ? 2 : TOKEN_LIMIT))
}

function encode(input: InputInfo, values: Float64Array): Uint8Array {
  const bytes = new Uint8Array(byteLength(input.dtype, values.length))
  const view = new DataView(bytes.buffer)
  const put = (write: (i: number, value: number) => void) => values.forEach((value, i) => void write(i, value))
  switch (input.dtype) {
    case 'f32':
      put((i, v) => view.setFloat32(4 * i, v, true))
      break
    case 'f64':
      put((i, v) => view.setFloat64(8 * i, v, true))
      break
    case 'f16':
      put((i, v) => view.setUint16(2 * i, float16Bits(v), true))
      break
    case 'i64':
    case 'u64':
      put((i, v) => view.setBigInt64(8 * i, BigInt(v), true))
      break
    case 'i32':
    case 'u32':
      put((i, v) => view.setInt32(4 * i, v, true))
      break
    case 'i16':
    case 'u16':
      put((i, v) => view.setInt16(2 * i, v, true))
      break
    default:
      put((i, v) => view.setInt8(i, v))
  }
  return bytes
}

/** Nearest binary16 by truncation of f32: inputs need no exact rounding, only values that the type holds. */
function float16Bits(value: number): number {
  const view = new DataView(new ArrayBuffer(4))
  view.setFloat32(0, value)
  const bits = view.getUint32(0)
  const exponent = ((bits >>> 23) & 255) - 112
  const sign = (bits >>> 16) & 0x8000
  if (exponent <= 0) return sign
  if (exponent >= 31) return sign | 0x7bff
  return sign | (exponent << 10) | ((bits >>> 13) & 1023)
}
