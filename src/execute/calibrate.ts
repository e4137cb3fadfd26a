// What must be known before a tensor can be encoded and cannot be found in the pass that encodes it: pruning thresholds, clip
// magnitudes, dead zones (calibrateThresholds, once for the model) and the statistics of tensors larger than a chunk
// (calibrateStatistics, just before they are encoded). Each question is one or more passes over exactly the tensors that ask
// it; a recipe that asks nothing reads nothing here.

import { bitsFloat } from '../kernels/float-bits.ts'
import { HISTOGRAM_BINS, HISTOGRAM_LEVELS } from '../kernels/histogram.ts'
import { ClipSearch } from './clip-search.ts'
import { DeadZoneSearch } from './dead-zone-search.ts'
import { takeStatistics } from './encode.ts'
import { type CountingContext, countChannelMagnitudes, countMagnitudes, type MagnitudeCount } from './histogram-pass.ts'
import { asByteView } from './lane.ts'
import { countTarget, MagnitudeSearch } from './magnitude-search.ts'
import { channelsStayWhole, cutPieces } from './pieces.ts'
import { magnitudeBits } from './scaled-parameters.ts'
import { findStatistics } from './tensor-statistics.ts'
import type { TensorWork } from './tensor-work.ts'

/** Values that the host looks at itself, a chunk at a time: 1 MiB, a few milliseconds of work. */
const HOST_CHUNK_WORDS = 2 ** 18

/** Channels whose histograms are held at once: 8 MiB of counters. */
const CHANNEL_WINDOW = 1024

/** Fills pruneBits, clipBits and deadZoneBits of the works, in the order in which they depend on each other. */
export async function calibrateThresholds(context: CountingContext, works: readonly TensorWork[]): Promise<void> {
  await findPruneThresholds(context, works)
  for (const work of works) await findClip(context, work)
  await findDeadZones(context, works)
}

/**
 * How the scales of a tensor are found: before, by a pass of their own; or while it is encoded, at once, piece by piece, or together
 * by lanes that hold all of its pieces.
 */
export function scalesFound(
  work: TensorWork,
  { chunkBytes, lanes }: { chunkBytes: number; lanes: number },
): 'before' | 'at once' | 'by piece' | 'together' {
  if (work.geometry === null || work.scaled !== null) return 'at once'
  const pieces = cutPieces([work], chunkBytes, 'encode')
  if (pieces[0]?.spans[0]?.whole === true) return 'at once'
  if (channelsStayWhole(work, chunkBytes)) return 'by piece'
  return pieces.length <= lanes ? 'together' : 'before'
}

/** Fills `scaled` and `nonFinite` of tensors larger than a chunk. */
export async function calibrateStatistics(context: CountingContext, works: readonly TensorWork[]): Promise<void> {
  await findStatistics(context, works)
}

/** One search over one or more tensors. */
interface Search {
  search: MagnitudeSearch
  works: TensorWork[]
  take(bits: number): void
}

async function runSearches(context: CountingContext, searches: Search[]): Promise<void> {
  for (const level of [0, 1, 2] as const) {
    const open = searches.filter(({ search }) => search.resultBits === null)
    const distributions: MagnitudeCount[] = open.map(({ search, works }) => ({
      works,
      prefix: search.prefix,
      counts: new Float64Array(HISTOGRAM_BINS),
    }))
    await countMagnitudes(context, level, distributions)
    for (const [index, { search }] of open.entries()) search.narrow(distributions[index]?.counts ?? [])
  }
  for (const { search, take } of searches) take(search.resultBits ?? 0)
}

async function findPruneThresholds(context: CountingContext, works: readonly TensorWork[]): Promise<void> {
  const searches: Search[] = []
  const groups = new Map<string, { sparsity: number; works: TensorWork[] }>()
  for (const work of works) {
    const { prune } = work.plan
    if (prune === null || work.pruneBits !== null) continue
    if (prune.kind === 'threshold') {
      setPruneBits(work, magnitudeBits(prune.threshold))
    } else if (prune.kind === 'sparsity') {
      const search = new MagnitudeSearch(countTarget(prune.sparsity, work.elements))
      searches.push({ search, works: [work], take: (bits) => setPruneBits(work, bits) })
    } else {
      const group = groups.get(prune.group) ?? { sparsity: prune.sparsity, works: [] }
      group.works.push(work)
      groups.set(prune.group, group)
    }
  }
  for (const { sparsity, works: members } of groups.values()) {
    const elements = members.reduce((sum, work) => sum + work.elements, 0)
    searches.push({
      search: new MagnitudeSearch(countTarget(sparsity, elements)),
      works: members,
      take(bits) {
        for (const work of members) setPruneBits(work, bits)
      },
    })
  }
  await runSearches(context, searches)
}

function setPruneBits(work: TensorWork, bits: number): void {
  work.pruneBits = bits
  work.resolved['threshold'] = bitsFloat(bits)
  const { prune } = work.plan
  if (prune !== null && prune.kind !== 'threshold') work.resolved['sparsityRequested'] = prune.sparsity
}

async function findClip(context: CountingContext, work: TensorWork): Promise<void> {
  const { encode } = work.plan
  if (encode.kind !== 'scaled-int' || encode.clip.kind === 'none' || work.clipBits !== null) return
  const { clip } = encode
  const channels = work.geometry?.channels ?? 1
  const perChannel = work.elements / channels
  const qMax = 2 ** (encode.bits - 1) - 1
  const clipBits = new Uint32Array(channels)
  for (let first = 0; first < channels; first += CHANNEL_WINDOW) {
    const count = Math.min(CHANNEL_WINDOW, channels - first)
    const found =
      clip.kind === 'percentile'
        ? await channelPercentiles(context, work, first, count, countTarget(clip.percentile / 100, perChannel))
        : await channelClips(context, work, first, count, qMax)
    clipBits.set(found, first)
  }
  work.clipBits = clipBits
  const values = Array.from(clipBits, bitsFloat)
  work.resolved['clip'] = channels === 1 ? values[0] : { least: least(values), largest: largest(values) }
}

function least(values: number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)
}

function largest(values: number[]): number {
  return values.reduce((a, b) => Math.max(a, b), 0)
}

async function channelPercentiles(
  context: CountingContext,
  work: TensorWork,
  first: number,
  count: number,
  target: number,
): Promise<Uint32Array> {
  const searches = Array.from({ length: count }, () => new MagnitudeSearch(target))
  for (const level of [0, 1, 2] as const) {
    const prefixes = Uint32Array.from(searches, ({ prefix }) => prefix)
    const counts = new Uint32Array(count * HISTOGRAM_BINS)
    await countChannelMagnitudes(context, work, level, first, prefixes, counts)
    for (const [index, search] of searches.entries()) {
      search.narrow(counts.subarray(index * HISTOGRAM_BINS, index * HISTOGRAM_BINS + HISTOGRAM_LEVELS[level].bins))
    }
  }
  return Uint32Array.from(searches, ({ resultBits }) => resultBits ?? 0)
}

async function channelClips(
  context: CountingContext,
  work: TensorWork,
  first: number,
  count: number,
  qMax: number,
): Promise<Uint32Array> {
  const searches = Array.from({ length: count }, () => new ClipSearch(qMax))
  const counts = new Uint32Array(count * HISTOGRAM_BINS)
  await countChannelMagnitudes(context, work, 0, first, new Uint32Array(count), counts)
  const row = (index: number) => counts.subarray(index * HISTOGRAM_BINS, (index + 1) * HISTOGRAM_BINS)
  const prefixes = Uint32Array.from(searches, (search, index) => search.coarse(row(index)))
  counts.fill(0)
  await countChannelMagnitudes(context, work, 1, first, prefixes, counts)
  for (const [index, search] of searches.entries()) search.fine(row(index))
  return Uint32Array.from(searches, ({ resultBits }) => resultBits)
}

async function findDeadZones(context: CountingContext, works: readonly TensorWork[]): Promise<void> {
  const searches: Search[] = []
  const bounded: { work: TensorWork; minSqnrDb: number }[] = []
  for (const work of works) {
    const { encode } = work.plan
    if (encode.kind !== 'scaled-int' || encode.deadZone === null) continue
    const { deadZone } = encode
    if (deadZone.kind === 'threshold') {
      setDeadZone(work, magnitudeBits(deadZone.threshold))
    } else if (deadZone.kind === 'sparsity') {
      const search = new MagnitudeSearch(countTarget(deadZone.sparsity, work.elements))
      work.resolved['sparsityRequested'] = deadZone.sparsity
      searches.push({ search, works: [work], take: (bits) => setDeadZone(work, bits) })
    } else {
      bounded.push({ work, minSqnrDb: deadZone.minSqnrDb })
    }
  }
  await runSearches(context, searches)
  // The bound needs absmax first. Statistics also set the scales, so they are taken again once the zone is known.
  const stats = await findStatistics(
    context,
    bounded.map(({ work }) => work),
  )
  for (const { work, minSqnrDb } of bounded) {
    const own = stats.get(work)
    if (own === undefined || work.scaled === null) continue
    const [scale = 1] = work.scaled.scale
    const search = new DeadZoneSearch(work.scaled.slots, scale, minSqnrDb)
    const pruneBits = work.pruneBits ?? 0
    await eachChunk(context, work, (bits) => search.add(bits, pruneBits))
    if (search.narrow()) {
      await eachChunk(context, work, (bits) => search.addAgain(bits, pruneBits))
      search.finish()
    }
    setDeadZone(work, search.resultBits)
    takeStatistics(work, own, 0)
  }
}

/** Gives the bits of every value to `use`, in order. */
async function eachChunk(context: CountingContext, work: TensorWork, use: (bits: Uint32Array) => void): Promise<void> {
  const words = new Uint32Array(Math.min(work.elements, HOST_CHUNK_WORDS))
  for (let first = 0; first < work.elements; first += words.length) {
    context.signal.throwIfAborted()
    const part = words.subarray(0, Math.min(words.length, work.elements - first))
    await context.reader.read(work.plan.tensor.data, first * 4, asByteView(part))
    use(part)
    context.onBytes(part.byteLength, work.name)
  }
}

function setDeadZone(work: TensorWork, bits: number): void {
  work.deadZoneBits = bits
  work.resolved['threshold'] = bitsFloat(bits)
}
