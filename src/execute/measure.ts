// The measuring stage, after the artifact is written: per tensor the error of the dequantized artifact and statistics of the
// original (both from kernels), histograms of the largest tensors, sha256 and zstd sizes of every file. Entry: measureArtifact.

import { join } from 'node:path'
import type { ComputeDevice, DeviceBuffer } from '../compute/compute-device.ts'
import { blockWords } from '../kernels/block-codes.ts'
import type { FileLayout, ModelReader, TensorPlan } from '../tensor/model.ts'
import { countArtifact } from './artifact-histogram.ts'
import { type ArtifactParts, openArtifactParts } from './artifact-parts.ts'
import { type ComparePass, type Comparison, comparePiece, compareTransposed, newComparison } from './compare-pass.ts'
import { type FileMeasure, hashFile } from './hash-files.ts'
import { type CountingContext, countLinear, pieceBytes } from './histogram-pass.ts'
import { type Lane, runPieces, withLanes } from './lane.ts'
import { linearEdges } from './linear-edges.ts'
import { cutPieces } from './pieces.ts'
import { createWork, type TensorWork } from './tensor-work.ts'
import { blockCount } from './transpose-accumulators.ts'

/** Tensors whose histogram the report draws. */
const HISTOGRAM_TENSORS = 6
const HISTOGRAM_BINS = 121

export interface MeasuredTensor {
  measure: {
    name: string
    maxAbsError: number
    sumSquaredError: number
    sqnrDb: number | null
    cosine: number | null
    zerosBefore: number
    zerosAfter: number
  }
  statistics: {
    min: number
    max: number
    absMax: number
    mean: number
    standardDeviation: number
    zeros: number
    nonFinite: number
  }
  resolved: Record<string, unknown>
  histogram?: { from: number; to: number; before: number[]; after: number[] | null; threshold: number | null }
}

export interface Measured {
  tensors: Map<string, MeasuredTensor>
  outputs: FileMeasure[]
  inputs: FileMeasure[]
}

export interface MeasureHooks {
  signal: AbortSignal
  progress(doneBytes: number, totalBytes: number, tensor: string | null): void
}

/** @param thresholds pruning threshold or dead zone by tensor name, for the charts */
export async function measureArtifact(
  reader: ModelReader,
  plans: readonly TensorPlan[],
  layout: FileLayout,
  outputDir: string,
  device: ComputeDevice,
  hooks: MeasureHooks,
  thresholds: ReadonlyMap<string, number> = new Map(),
): Promise<Measured> {
  const works = plans
    .filter(({ action }) => action === 'compress')
    .map((plan) => createWork(plan, layout))
    .filter(({ elements }) => elements > 0)
  const inputBytes = reader.files.reduce((sum, file) => sum + file.sizeBytes, 0)
  const outputBytes = layout.files.reduce((sum, file) => sum + file.sizeBytes, 0)
  const totalBytes = works.reduce((sum, work) => sum + work.elements * 4, 0) + inputBytes + outputBytes
  let done = 0
  const onBytes = (bytes: number, tensor: string | null) => {
    done += bytes
    hooks.progress(Math.min(done, totalBytes), totalBytes, tensor)
  }
  const tensors = await compareTensors(reader, works, layout, outputDir, device, hooks.signal, onBytes, thresholds)
  const inputs: FileMeasure[] = []
  for (const { name, path } of reader.files) {
    inputs.push(await hashFile(name, path, hooks.signal, (bytes) => onBytes(bytes, null)))
  }
  const outputs: FileMeasure[] = []
  for (const { name } of layout.files) {
    outputs.push(await hashFile(name, join(outputDir, name), hooks.signal, (bytes) => onBytes(bytes, null)))
  }
  return { tensors, inputs, outputs }
}

async function compareTensors(
  reader: ModelReader,
  works: TensorWork[],
  layout: FileLayout,
  outputDir: string,
  device: ComputeDevice,
  signal: AbortSignal,
  onBytes: (bytes: number, tensor: string | null) => void,
  thresholds: ReadonlyMap<string, number>,
): Promise<Map<string, MeasuredTensor>> {
  const parts = await openArtifactParts(outputDir, layout)
  try {
    return await withLanes(device, async (lanes) => {
      const results = new Map(works.map((work) => [work, newComparison()]))
      const pass: ComparePass = { reader, parts, results }
      const { chunkBytes } = device.tuning
      const simple = works.filter((work) => work.program !== 'blocks-transpose')
      const pieces = cutPieces(simple, chunkBytes, 'encode')
      for (const piece of pieces) for (const { work } of piece.spans) work.piecesLeft++
      await runPieces({ reader, lanes, signal }, pieces, async (lane, piece) => {
        await comparePiece(pass, lane, piece)
        onBytes(pieceBytes(piece), piece.spans[0]?.work.name ?? null)
        for (const { work } of piece.spans) {
          work.piecesLeft--
          if (work.piecesLeft === 0) parts.forget(work)
        }
      })
      for (const work of works) {
        if (work.program === 'blocks-transpose')
          await compareTransposedTensor(pass, lanes, device, work, signal, onBytes)
      }
      const counting: CountingContext = { reader, lanes, signal, onBytes: () => undefined }
      return await summarize(counting, parts, works, results, thresholds)
    })
  } finally {
    await parts.close()
  }
}

async function compareTransposedTensor(
  pass: ComparePass,
  lanes: readonly Lane[],
  device: ComputeDevice,
  work: TensorWork,
  signal: AbortSignal,
  onBytes: (bytes: number, tensor: string | null) => void,
): Promise<void> {
  const { block } = work
  if (block === null) return
  const blocks = blockCount(block)
  const codeBytes = blocks * blockWords(block.bits, block.blockSize) * 4
  const buffers: DeviceBuffer[] = []
  try {
    const make = (label: string, sizeBytes: number) => {
      const buffer = device.createBuffer(label, sizeBytes)
      buffers.push(buffer)
      return buffer
    }
    const codes = make('artifact codes', codeBytes)
    const scales = make('artifact scales', blocks * 4)
    const zeroPoints = make('artifact zero points', blocks * 4)
    const { chunkBytes } = device.tuning
    await loadPart(pass.parts, device, work, 'values', codes, codeBytes, chunkBytes)
    await loadPart(pass.parts, device, work, 'scale', scales, blocks * 4, chunkBytes)
    const points = await pass.parts.blockZeroPoints(work)
    for (let at = 0; at < blocks; at += chunkBytes / 4) {
      const words = Uint32Array.from(points.subarray(at, at + chunkBytes / 4))
      device.write(zeroPoints, at * 4, new Uint8Array(words.buffer))
    }
    pass.parts.forget(work)
    await runPieces(
      { reader: pass.reader, lanes, signal },
      cutPieces([work], chunkBytes, 'flat'),
      async (lane, piece) => {
        await compareTransposed(pass, lane, piece, { codes, scales, zeroPoints })
        onBytes(pieceBytes(piece), work.name)
      },
    )
  } finally {
    for (const buffer of buffers) buffer.destroy()
  }
}

async function loadPart(
  parts: ArtifactParts,
  device: ComputeDevice,
  work: TensorWork,
  part: 'values' | 'scale',
  buffer: DeviceBuffer,
  totalBytes: number,
  chunkBytes: number,
): Promise<void> {
  const chunk = new Uint8Array(Math.min(chunkBytes, totalBytes))
  for (let at = 0; at < totalBytes; at += chunk.length) {
    const bytes = chunk.subarray(0, Math.min(chunk.length, totalBytes - at))
    await parts.read(work, part, at, bytes)
    device.write(buffer, at, bytes)
  }
}

async function summarize(
  context: CountingContext,
  parts: ArtifactParts,
  works: TensorWork[],
  results: ReadonlyMap<TensorWork, Comparison>,
  thresholds: ReadonlyMap<string, number>,
): Promise<Map<string, MeasuredTensor>> {
  const largest = new Set([...works].sort((a, b) => b.elements - a.elements).slice(0, HISTOGRAM_TENSORS))
  const measured = new Map<string, MeasuredTensor>()
  for (const work of works) {
    const found = results.get(work)
    if (found === undefined) continue
    const entry = measuredTensor(work, found)
    if (largest.has(work) && found.max > found.min) {
      const edges = linearEdges(found.min, found.max, HISTOGRAM_BINS)
      const before = [...(await countLinear(context, work, edges))]
      const after = await countArtifact(parts, work, edges)
      const threshold = thresholds.get(work.name) ?? null
      entry.histogram = { from: found.min, to: found.max, before, after, threshold }
    }
    measured.set(work.name, entry)
  }
  return measured
}

function measuredTensor(work: TensorWork, found: Comparison): MeasuredTensor {
  const { sums } = found
  const finite = work.elements - found.nonFinite
  const mean = finite > 0 ? found.sum / finite : 0
  const variance = finite > 0 ? Math.max(0, found.sumSquares / finite - mean * mean) : 0
  const norms = Math.sqrt(sums.squaredOriginal * sums.squaredArtifact)
  return {
    measure: {
      name: work.name,
      maxAbsError: found.maxAbsError,
      sumSquaredError: sums.squaredError,
      // No error has no ratio in dB, and neither has no signal.
      sqnrDb:
        sums.squaredError > 0 && sums.squaredOriginal > 0
          ? 10 * Math.log10(sums.squaredOriginal / sums.squaredError)
          : null,
      cosine: norms > 0 ? Math.min(1, sums.dot / norms) : null,
      zerosBefore: found.zerosBefore / work.elements,
      zerosAfter: found.zerosAfter / work.elements,
    },
    statistics: {
      min: finite > 0 ? found.min : 0,
      max: finite > 0 ? found.max : 0,
      absMax: found.absMax,
      mean,
      standardDeviation: Math.sqrt(variance),
      zeros: found.zeros,
      nonFinite: found.nonFinite,
    },
    resolved:
      work.plan.encode.kind === 'scaled-int' && work.plan.encode.deadZone !== null
        ? { sparsity: found.zerosAfter / work.elements }
        : {},
  }
}
