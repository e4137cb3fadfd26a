// Counts the dequantized values of one compressed tensor into the bins of its original, for the report's charts. Entry:
// countArtifact. On the CPU, from the artifact's files: chart material, exact, but bounded to tensors that take no time.

import { float16ToNumber } from '../tensor/float16.ts'
import type { ArtifactParts } from './artifact-parts.ts'
import { scaledForm } from './scaled-parameters.ts'
import { blocksPerRow, type TensorWork } from './tensor-work.ts'
import { unpackNibbles } from './write-parts.ts'

/** Elements above which a tensor gets no second histogram: decoding this many takes about 0.1 s on one core. */
export const MAX_COUNTED_ELEMENTS = 4 * 2 ** 20

/** Elements decoded at a time; even, so that nibbles pair up. */
const CHUNK_ELEMENTS = 2 ** 16

/** @param edges ascending, one more than bins; values beyond either end are counted in the bin there. null: too large. */
export async function countArtifact(
  parts: ArtifactParts,
  work: TensorWork,
  edges: Float32Array,
): Promise<number[] | null> {
  if (work.elements > MAX_COUNTED_ELEMENTS) return null
  const counts = new Array<number>(edges.length - 1).fill(0)
  const add = (value: number) => {
    const bin = binOf(edges, value)
    counts[bin] = (counts[bin] ?? 0) + 1
  }
  if (work.block !== null) await addBlocks(parts, work, add)
  else if (work.geometry !== null) await addScaled(parts, work, add)
  else await addFloats(parts, work, add)
  parts.forget(work)
  return counts
}

/** bins i with edges[i] <= value < edges[i + 1]; the last one takes its upper edge too. */
function binOf(edges: Float32Array, value: number): number {
  const bins = edges.length - 1
  const from = edges[0] ?? 0
  const to = edges[bins] ?? 0
  let bin = Math.max(0, Math.min(bins - 1, Math.floor(((value - from) / (to - from)) * bins)))
  // Edges are rounded to f32: the division may miss by one.
  while (bin > 0 && value < (edges[bin] ?? 0)) bin--
  while (bin < bins - 1 && value >= (edges[bin + 1] ?? 0)) bin++
  return bin
}

async function addFloats(parts: ArtifactParts, work: TensorWork, add: (value: number) => void): Promise<void> {
  const size = work.program === 'dense' ? 4 : 2
  for (let start = 0; start < work.elements; start += CHUNK_ELEMENTS) {
    const count = Math.min(CHUNK_ELEMENTS, work.elements - start)
    const bytes = new Uint8Array(count * size)
    await parts.read(work, 'values', start * size, bytes)
    if (size === 4) for (const value of new Float32Array(bytes.buffer)) addFinite(value, add)
    else if (work.program === 'bfloat16') {
      for (const value of new Float32Array(Uint32Array.from(new Uint16Array(bytes.buffer), (b) => b << 16).buffer)) {
        addFinite(value, add)
      }
    } else for (const bits of new Uint16Array(bytes.buffer)) addFinite(float16ToNumber(bits), add)
  }
}

/** Pruned tensors keep NaN and infinities, which have no bin. */
function addFinite(value: number, add: (value: number) => void): void {
  if (Number.isFinite(value)) add(value)
}

async function addScaled(parts: ArtifactParts, work: TensorWork, add: (value: number) => void): Promise<void> {
  const form = scaledForm(work.plan.encode)
  const { scale, zeroPoint } = await parts.scales(work)
  const { inner, channels } = work.geometry ?? { inner: work.elements, channels: 1 }
  const signed = form.symmetric && form.symmetricZeroPoint === 0
  for (let start = 0; start < work.elements; start += CHUNK_ELEMENTS) {
    const count = Math.min(CHUNK_ELEMENTS, work.elements - start)
    const codes = await readCodes(parts, work, form.bits, start, count, signed)
    const values = signed ? new Int8Array(codes.buffer, codes.byteOffset, codes.length) : codes
    for (let i = 0; i < count; i++) {
      const channel = Math.floor((start + i) / inner) % channels
      add(((values[i] ?? 0) - (zeroPoint[channel] ?? 0)) * (scale[channel] ?? 0))
    }
  }
}

async function addBlocks(parts: ArtifactParts, work: TensorWork, add: (value: number) => void): Promise<void> {
  const { block } = work
  if (block === null) return
  const { blockSize, bits, matrix } = block
  const perRow = blocksPerRow(block)
  const zeroPoints = await parts.blockZeroPoints(work)
  const scales = new Float32Array(matrix.n * perRow)
  await parts.read(work, 'scale', 0, new Uint8Array(scales.buffer))
  // Whole rows at a time; the last block of a row may be padded beyond k.
  const rowElements = perRow * blockSize
  const rowsAtOnce = Math.max(1, Math.floor(CHUNK_ELEMENTS / rowElements))
  for (let firstRow = 0; firstRow < matrix.n; firstRow += rowsAtOnce) {
    const rows = Math.min(rowsAtOnce, matrix.n - firstRow)
    const codes = await readCodes(parts, work, bits, firstRow * rowElements, rows * rowElements, false)
    for (let row = 0; row < rows; row++) {
      for (let k = 0; k < matrix.k; k++) {
        const at = (firstRow + row) * perRow + Math.floor(k / blockSize)
        add(((codes[row * rowElements + k] ?? 0) - (zeroPoints[at] ?? 0)) * (scales[at] ?? 0))
      }
    }
  }
}

async function readCodes(
  parts: ArtifactParts,
  work: TensorWork,
  bits: 8 | 4,
  start: number,
  count: number,
  signed: boolean,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.ceil((count * bits) / 8))
  await parts.read(work, 'values', (start * bits) / 8, bytes)
  return bits === 8 ? bytes : unpackNibbles(bytes, count, signed)
}
