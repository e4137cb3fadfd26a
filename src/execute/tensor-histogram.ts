// The histogram of one tensor of the uploaded model, for GET /v1/models/{id}/histogram: exact counts in equal bins between the
// finite minimum and maximum. Entry: tensorHistogram.

import type { ComputeDevice } from '../compute/compute-device.ts'
import { AppError } from '../errors.ts'
import { histogramLinear } from '../kernels/histogram-linear.ts'
import { MOMENT_WORDS, readStatistics, STATISTICS_WORDS, statistics } from '../kernels/statistics.ts'
import { elementCount } from '../tensor/dtype.ts'
import type { ModelReader, TensorInfo, TensorPlan } from '../tensor/model.ts'
import { mergeStatistics } from './channel-window.ts'
import { type CountingContext, countLinear } from './histogram-pass.ts'
import { asWordView, clear, run, runPieces, withLanes } from './lane.ts'
import { linearEdges } from './linear-edges.ts'
import { cutPieces } from './pieces.ts'
import { flatTable } from './segment-tables.ts'
import { createWork, type TensorWork } from './tensor-work.ts'

export interface TensorHistogram {
  bins: { from: number; to: number; count: number }[]
  elements: number
  zeros: number
  nonFinite: number
  min: number
  max: number
}

/** Throws not_found for an unknown tensor and dtype_unsupported for one that is not f32. */
export async function tensorHistogram(
  reader: ModelReader,
  name: string,
  bins: number,
  device: ComputeDevice,
  signal: AbortSignal,
): Promise<TensorHistogram> {
  const tensor = reader.tensors.find((entry) => entry.name === name)
  if (tensor === undefined) throw new AppError('not_found', `the model has no tensor "${name}"`, { tensor: name })
  if (tensor.dtype !== 'f32') {
    throw new AppError('dtype_unsupported', `histograms are counted for f32 tensors, "${name}" is ${tensor.dtype}`, {
      tensor: name,
      dtype: tensor.dtype,
    })
  }
  const elements = elementCount(tensor.shape)
  if (elements === 0) return { bins: [], elements: 0, zeros: 0, nonFinite: 0, min: 0, max: 0 }
  await device.prepare([statistics, histogramLinear])
  return withLanes(device, async (lanes) => {
    const context: CountingContext = { reader, lanes, signal, onBytes: () => undefined }
    const work = createWork(keepPlan(tensor), { files: [], notes: [] })
    const { min, max, zeros, nonFinite } = await wholeStatistics(context, work)
    if (nonFinite === elements) return { bins: [], elements, zeros, nonFinite, min: 0, max: 0 }
    const edges = max > min ? linearEdges(min, max, bins) : Float32Array.of(min, max)
    const counts = await countLinear(context, work, edges)
    const rows = Array.from(counts, (count, bin) => ({ from: edges[bin] ?? 0, to: edges[bin + 1] ?? 0, count }))
    return { bins: rows, elements, zeros, nonFinite, min, max }
  })
}

function keepPlan(tensor: TensorInfo): TensorPlan {
  return {
    tensor,
    action: 'keep',
    reason: null,
    detail: '',
    steps: [],
    prune: null,
    encode: { kind: 'dense' },
    outputs: [],
    bytesBefore: 0,
    bytesAfter: 0,
  }
}

async function wholeStatistics(context: CountingContext, work: TensorWork) {
  const merged = new Uint32Array(STATISTICS_WORDS)
  const chunkBytes = context.lanes[0]?.device.tuning.chunkBytes ?? 0
  await runPieces(context, cutPieces([work], chunkBytes, 'flat'), async (lane, piece) => {
    const table = flatTable(lane, piece)
    const stats = lane.buffer('stats', STATISTICS_WORDS * 4)
    const moments = lane.buffer('moments', table.count * table.lanes * MOMENT_WORDS * 4)
    await lane.submit(
      [
        clear(stats, STATISTICS_WORDS * 4),
        run(
          statistics,
          [lane.values, table.buffer, stats, moments],
          Uint32Array.of(table.count, table.lanes, 0, 0),
          table.workgroups,
          piece.elements * 4,
        ),
      ],
      [
        {
          buffer: stats,
          offsetBytes: 0,
          sizeBytes: STATISTICS_WORDS * 4,
          consume: (view) => mergeStatistics(merged, 0, asWordView(view), 0, 1),
        },
      ],
    )
  })
  return readStatistics(merged, 0)
}
