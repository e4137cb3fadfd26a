// Carries out a plan: calibrates what needs it, encodes every compressed tensor through the lanes, copies the rest, and leaves
// the artifact's files complete and flushed. Entry: executePlan. Memory stays near a few chunks, whatever the model; results
// do not depend on device, chunk size or lanes. A tensor whose data contradicts the plan (NaN in a tensor to be quantized,
// overflow of a 16-bit float) is reported in `facts`: the caller plans again with them and executes again.

import type { ChunkForm, ComputeDevice, Kernel } from '../compute/compute-device.ts'
import { castBfloat16, castFloat16 } from '../kernels/cast-float.ts'
import { histogram } from '../kernels/histogram.ts'
import { pruneThreshold } from '../kernels/prune-threshold.ts'
import { blockKernel, quantizeBlock } from '../kernels/quantize-block.ts'
import {
  quantizeBlockTranspose,
  quantizeInt4Block32Transpose,
  quantizeInt4Block32TransposeSubgroup,
  transposeInTeams,
} from '../kernels/quantize-block-transpose.ts'
import { quantizeInt8 } from '../kernels/quantize-int8.ts'
import { quantizeInt8Channel } from '../kernels/quantize-int8-channel.ts'
import { STATISTICS_WORDS, statistics } from '../kernels/statistics.ts'
import { statisticsColumns } from '../kernels/statistics-columns.ts'
import type { FileLayout, ModelReader, TensorPlan } from '../tensor/model.ts'
import { calibrateStatistics, calibrateThresholds, scalesFound } from './calibrate.ts'
import { copiedBytes, copyRuns } from './copy-runs.ts'
import { encodePiece, takeStatistics, writeScaledParameters } from './encode.ts'
import { shrinkCount } from './encode-blocks.ts'
import type { EncodePass } from './encode-pass.ts'
import { type CountingContext, pieceBytes } from './histogram-pass.ts'
import { type Lane, runPieces, withLanes } from './lane.ts'
import { createOutputFiles } from './output-files.ts'
import { cutPieces } from './pieces.ts'
import { SharedScales } from './shared-scales.ts'
import { createWork, type TensorWork } from './tensor-work.ts'
import { TransposeAccumulators } from './transpose-accumulators.ts'

export interface ExecutionHooks {
  signal: AbortSignal
  progress(stage: 'calibrating' | 'encoding', doneBytes: number, totalBytes: number, tensor: string | null): void
}

export interface TensorFinding {
  nonFinite?: boolean
  float16Overflow?: boolean
  bfloat16Overflow?: boolean
  /** Values that are NaN or Inf, or that overflow. */
  count: number
}

export interface ExecutedPlan {
  works: TensorWork[]
  /** By tensor name; not empty: the files are not the artifact, plan again. */
  facts: Map<string, TensorFinding>
  seconds: { calibrate: number; encode: number; finish: number }
  bytesRead: number
  bytesWritten: number
}

/**
 * Tensors are calibrated and encoded in batches of about this size, so that a tensor's second read finds it in the page cache
 * and only one batch's scales are held.
 */
const BATCH_BYTES = 256 * 1024 * 1024

export async function executePlan(
  reader: ModelReader,
  plans: readonly TensorPlan[],
  layout: FileLayout,
  outputDir: string,
  device: ComputeDevice,
  hooks: ExecutionHooks,
): Promise<ExecutedPlan> {
  const works = plans
    .filter(({ action }) => action === 'compress')
    .map((plan) => createWork(plan, layout))
    .filter(({ elements }) => elements > 0)
  // While kernels are compiled, on threads of the device, lanes get their memory.
  const preparing = prepareKernels(kernelsFor(works, device), device)
  preparing.catch(() => undefined)
  return withLanes(device, async (lanes) => {
    const accumulators = new TransposeAccumulators(device, works)
    const output = createOutputFiles(outputDir, layout)
    try {
      // before any pass is timed
      await preparing
      return await runBatches({ reader, output, accumulators }, lanes, works, layout, hooks)
    } finally {
      output.close()
      accumulators.destroy()
    }
  })
}

async function prepareKernels(kernels: Record<ChunkForm, Kernel[]>, device: ComputeDevice): Promise<void> {
  await device.prepare(kernels.chunk, 'chunk')
  await device.prepare(kernels.buffer, 'buffer')
}

/**
 * The kernels that these tensors will run, so that none is compiled in the middle of the job and none needlessly: on chunks as
 * they are read, and on buffers of pruned weights.
 */
export function kernelsFor(
  works: readonly TensorWork[],
  device: Pick<ComputeDevice, 'tuning' | 'info'>,
): Record<ChunkForm, Kernel[]> {
  const { subgroups } = device.tuning
  const forms = { chunk: new Set<Kernel>(), buffer: new Set<Kernel>() }
  for (const { plan, program, geometry, block } of works) {
    const { encode } = plan
    const kernels = plan.prune === null ? forms.chunk : forms.buffer
    if (plan.prune !== null) forms.chunk.add(pruneThreshold)
    if (plan.prune !== null && plan.prune.kind !== 'threshold') forms.chunk.add(histogram)
    if (encode.kind === 'scaled-int' && (encode.clip.kind !== 'none' || encode.deadZone !== null))
      kernels.add(histogram)
    if (geometry !== null) kernels.add(geometry.inner === 1 ? statisticsColumns : statistics)
    if (program === 'float16') kernels.add(castFloat16)
    if (program === 'bfloat16') kernels.add(castBfloat16)
    if (program === 'scaled-tensor') kernels.add(quantizeInt8)
    if (program === 'scaled-channel') kernels.add(quantizeInt8Channel)
    if (block !== null) {
      const common = blockKernel(block.bits, block.blockSize, !block.symmetric, shrinkCount(block), { subgroups })
      if (program === 'blocks') kernels.add(common)
      else if (common === quantizeBlock || block.matrix.n % 4 !== 0) kernels.add(quantizeBlockTranspose)
      else
        kernels.add(
          transposeInTeams(device, plan.prune !== null)
            ? quantizeInt4Block32TransposeSubgroup
            : quantizeInt4Block32Transpose,
        )
    }
  }
  return { chunk: [...forms.chunk], buffer: [...forms.buffer] }
}

async function runBatches(
  pass: EncodePass,
  lanes: readonly Lane[],
  works: TensorWork[],
  layout: FileLayout,
  hooks: ExecutionHooks,
): Promise<ExecutedPlan> {
  const seconds = { calibrate: 0, encode: 0, finish: 0 }
  let bytesRead = 0
  let mark = performance.now()
  const lap = (stage: keyof typeof seconds) => {
    const now = performance.now()
    seconds[stage] += (now - mark) / 1000
    mark = now
  }
  const chunkBytes = lanes[0]?.device.tuning.chunkBytes ?? 0
  const encodeBytes = works.reduce((sum, work) => sum + work.elements * 4, 0) + copiedBytes(layout)
  const calibrateBytes = works.reduce((sum, work) => sum + work.elements * 4 * thresholdPasses(work), 0)
  let calibrated = 0
  let encoded = 0
  const calibrating: CountingContext = {
    reader: pass.reader,
    lanes,
    signal: hooks.signal,
    onBytes(bytes, tensor) {
      bytesRead += bytes
      calibrated += bytes
      hooks.progress('calibrating', Math.min(calibrated, calibrateBytes), calibrateBytes, tensor)
    },
  }
  const countRead = (bytes: number) => {
    bytesRead += bytes
  }
  await calibrateThresholds(calibrating, works)
  lap('calibrate')

  const encodedBytes = (bytes: number, tensor: string | null) => {
    bytesRead += bytes
    encoded += bytes
    hooks.progress('encoding', encoded, encodeBytes, tensor)
  }
  // A failing lane must stop the copy too, and nothing may still be writing when the files are closed.
  const stop = new AbortController()
  const signal = AbortSignal.any([hooks.signal, stop.signal])
  const copying = copyRuns(pass.reader, layout, pass.output, signal, (bytes) => encodedBytes(bytes, null))
  copying.catch(() => undefined)
  try {
    for (const batch of batches(works)) {
      const large = batch.filter((work) => scalesFound(work, { chunkBytes, lanes: lanes.length }) === 'before')
      if (large.length > 0) {
        await calibrateStatistics({ ...calibrating, onBytes: countRead }, large)
        lap('calibrate')
      }
      await encodeBatch(pass, lanes, batch, chunkBytes, hooks.signal, encodedBytes)
      lap('encode')
    }
    await copying
  } catch (error) {
    stop.abort(error)
    await Promise.allSettled([copying, pass.output.settle()])
    throw error
  }
  await pass.output.settle()
  lap('encode')
  noteGlobalSparsity(works)
  await pass.output.sync()
  lap('finish')
  return { works, facts: findings(works), seconds, bytesRead, bytesWritten: pass.output.bytesWritten }
}

async function encodeBatch(
  pass: EncodePass,
  lanes: readonly Lane[],
  batch: TensorWork[],
  chunkBytes: number,
  signal: AbortSignal,
  onBytes: (bytes: number, tensor: string | null) => void,
): Promise<void> {
  const pieces = cutPieces(batch, chunkBytes, 'encode')
  for (const piece of pieces) for (const { work } of piece.spans) work.piecesLeft++
  for (const work of batch) {
    const found = scalesFound(work, { chunkBytes, lanes: lanes.length })
    work.scaledByPiece = found === 'by piece'
    if (found === 'together') work.shared = shareScales(pass, work)
    writeScaledParameters(pass.output, work)
  }
  await runPieces(
    { reader: pass.reader, lanes, signal },
    pieces,
    async (lane, piece) => {
      await encodePiece(pass, lane, piece)
      onBytes(pieceBytes(piece), piece.spans[0]?.work.name ?? null)
    },
    (error) => {
      pass.accumulators.fail(error)
      for (const work of batch) work.shared?.fail(error)
    },
  )
  for (const work of batch) {
    if (work.scaledByPiece) writeScaledParameters(pass.output, work)
    finishWork(work)
  }
}

/** Once all pieces are counted, the scales are computed and written. */
function shareScales(pass: EncodePass, work: TensorWork): SharedScales {
  const words = new Uint32Array((work.geometry?.channels ?? 1) * STATISTICS_WORDS)
  return new SharedScales(words, work.piecesLeft, (statistics) => {
    takeStatistics(work, statistics, 0)
    writeScaledParameters(pass.output, work)
  })
}

/** Reads of the whole tensor that thresholds cost, for progress. */
function thresholdPasses({ plan }: TensorWork): number {
  const { prune, encode } = plan
  let passes = prune !== null && prune.kind !== 'threshold' ? 3 : 0
  if (encode.kind === 'scaled-int') {
    if (encode.clip.kind === 'percentile') passes += 3
    if (encode.clip.kind === 'mse') passes += 2
    if (encode.deadZone?.kind === 'sparsity') passes += 3
    if (encode.deadZone?.kind === 'min-sqnr') passes += 3
  }
  return passes
}

function* batches(works: readonly TensorWork[]): Generator<TensorWork[]> {
  let batch: TensorWork[] = []
  let bytes = 0
  for (const work of works) {
    batch.push(work)
    bytes += work.elements * 4
    if (bytes >= BATCH_BYTES) {
      yield batch
      batch = []
      bytes = 0
    }
  }
  if (batch.length > 0) yield batch
}

/** Notes what the report shows and lets go of the tables. */
function finishWork(work: TensorWork): void {
  const { scaled } = work
  if (scaled !== null) {
    let least = Number.POSITIVE_INFINITY
    let largest = 0
    for (const scale of scaled.scale) {
      least = Math.min(least, scale)
      largest = Math.max(largest, scale)
    }
    work.resolved['scale'] = scaled.scale.length === 1 ? largest : { least, largest }
  }
  if (work.pruneBits !== null) work.resolved['sparsity'] = work.zerosAfter / work.elements
  work.scaled = null
  work.shared = null
}

/** Over all tensors that share a threshold, the fraction of zeros that was asked for is met together, not one by one. */
function noteGlobalSparsity(works: readonly TensorWork[]): void {
  const groups = Map.groupBy(works, ({ plan }) => (plan.prune?.kind === 'global-sparsity' ? plan.prune.group : null))
  for (const [group, members] of groups) {
    if (group === null) continue
    const elements = members.reduce((sum, work) => sum + work.elements, 0)
    const zeros = members.reduce((sum, work) => sum + work.zerosAfter, 0)
    for (const work of members) work.resolved['sparsityOfGroup'] = zeros / elements
  }
}

function findings(works: readonly TensorWork[]): Map<string, TensorFinding> {
  const facts = new Map<string, TensorFinding>()
  for (const { name, plan, nonFinite, float16Overflow } of works) {
    const { kind } = plan.encode
    if (kind === 'float16' || kind === 'bfloat16') {
      if (float16Overflow === 0) continue
      facts.set(name, {
        ...(kind === 'float16' ? { float16Overflow: true } : { bfloat16Overflow: true }),
        count: float16Overflow,
      })
    } else if (kind !== 'dense' && nonFinite > 0) {
      facts.set(name, { nonFinite: true, count: nonFinite })
    }
  }
  return facts
}
