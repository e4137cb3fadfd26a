// Labelled or unlabelled samples for validation: openDataset reads an .npz, matchDataset fits its arrays to the inputs of a
// model (see fit-shape.ts) and yields feeds. Axis 0 is the sample axis.
// An array named `labels` holds class ids (integers) or regression targets (floats), one row a sample.

import { AppError } from '../errors.ts'
import type { NpzArchive, NpzArray } from '../formats/wire/npz.ts'
import { openNpz } from '../formats/wire/npz.ts'
import { byteLength, type DType, elementCount } from '../tensor/dtype.ts'
import { canConvert, convertElements, decodeElements, numpyName } from './convert-elements.ts'
import { type Fit, fitShape, shapeText } from './fit-shape.ts'

/** Bytes of one feed when the caller names no batch size; keeps the inference child small. */
export const DEFAULT_FEED_BYTES = 16 * 2 ** 20
/** Samples of one feed when the caller names no batch size. */
export const DEFAULT_BATCH_SAMPLES = 32
/** One sample or shared array is held in memory whole; larger than any model input in practice. */
export const MAX_SAMPLE_BYTES = 2 ** 30
/** Labels are held in memory whole: a million samples with 64 targets of 8 bytes. */
export const MAX_LABEL_BYTES = 512 * 2 ** 20

const LABELS = 'labels'

/** An input of a model, as in ModelSummary. Numbers below 1 and strings are dynamic dimensions. */
export interface ModelInput {
  name: string
  dtype: DType
  shape: (number | string)[]
}

export interface DatasetArray {
  name: string
  dtype: DType
  shape: number[]
}

export interface Dataset {
  path: string
  /** Every array of the file, `labels` included. */
  arrays: DatasetArray[]
  close(): Promise<void>
}

/** One input of one run: little-endian, C-order bytes, owned by the receiver. */
export interface FeedTensor {
  dtype: DType
  dims: number[]
  data: Uint8Array
}

/** The inputs of one run, for samples [firstSample, firstSample + sampleCount). */
export interface Feed {
  firstSample: number
  sampleCount: number
  tensors: Record<string, FeedTensor>
}

/** Rows of labels; `shape[0]` is the sample count. [n, 1] class ids are given as [n]. */
export type Labels =
  | { kind: 'classes'; shape: number[]; values: Int32Array }
  | { kind: 'regression'; shape: number[]; values: Float64Array }

export interface MatchedDataset {
  sampleCount: number
  /** Samples that one run must have; null: any number. */
  samplesPerRun: number | null
  /** What a reader of the report must know: roundings, shared arrays. */
  notes: string[]
  /** Reads `labels`; null when the dataset has none. */
  labels(): Promise<Labels | null>
  /** Feeds in sample order, read lazily. `maxSamples` stops early. */
  feeds(options?: { batchSize?: number; maxSamples?: number }): AsyncGenerator<Feed>
}

class NpzDataset implements Dataset {
  readonly path: string
  readonly archive: NpzArchive
  readonly arrays: DatasetArray[]

  constructor(path: string, archive: NpzArchive) {
    this.path = path
    this.archive = archive
    this.arrays = archive.arrays.map(({ name, header }) => ({ name, dtype: header.dtype, shape: header.shape }))
  }

  close(): Promise<void> {
    return this.archive.close()
  }
}

/**
 * Opens an .npz and verifies it whole (names, headers, sizes, CRC).
 * @throws AppError dataset_invalid, dtype_unsupported, limit_exceeded, store_failed.
 */
export async function openDataset(path: string): Promise<Dataset> {
  const archive = await openNpz(path)
  try {
    if (archive.arrays.length === 0) throw invalid('the dataset holds no arrays', {})
    const fortran = archive.arrays.find(({ header }) => header.fortranOrder)
    if (fortran)
      throw invalid(
        `array '${fortran.name}' is in Fortran (column-major) order; save numpy.ascontiguousarray of it instead`,
        { array: fortran.name },
      )
    return new NpzDataset(path, archive)
  } catch (error) {
    await archive.close()
    throw error
  }
}

/** How one array serves one input. `sampleBytes`: bytes of one sample (of the whole array when shared). */
interface Binding {
  input: ModelInput
  array: NpzArray
  fit: Fit
  sampleBytes: number
}

/**
 * Fits the arrays of a dataset to the inputs that a model needs (leave out inputs that have a default).
 * @throws AppError dataset_invalid that lists every expected name, dtype and shape.
 */
export function matchDataset(dataset: Dataset, inputs: readonly ModelInput[]): MatchedDataset {
  if (!(dataset instanceof NpzDataset)) throw new AppError('internal', 'a dataset that openDataset did not make')
  const arrays = new Map(dataset.archive.arrays.map((array) => [array.name, array]))
  const labelsArray = inputs.some(({ name }) => name === LABELS) ? undefined : arrays.get(LABELS)
  const problems: string[] = []
  const notes: string[] = []
  const bindings: Binding[] = []
  for (const input of inputs) {
    const array = arrays.get(input.name)
    const binding = array ? bind(input, array) : `no array named '${input.name}'`
    if (typeof binding === 'string') problems.push(binding)
    else {
      bindings.push(binding)
      if (canConvert(binding.array.header.dtype, input.dtype) === 'rounded')
        notes.push(`'${input.name}' was rounded from ${binding.array.header.dtype} to ${input.dtype}`)
      if (binding.fit.kind === 'shared') notes.push(`'${input.name}' is shared by all samples`)
    }
  }
  const names = new Set(inputs.map(({ name }) => name))
  for (const name of arrays.keys())
    if (!names.has(name) && arrays.get(name) !== labelsArray) problems.push(`array '${name}' is no input of the model`)
  if (inputs.length === 0)
    throw invalid('the model has no inputs, so a dataset has no use: leave it out', { found: dataset.arrays })
  if (problems.length > 0) throw mismatch(problems, inputs, dataset)

  const samplesPerRun = runLength(bindings, inputs, dataset)
  const sampleCount = countSamples(bindings, samplesPerRun, inputs, dataset)
  if (labelsArray && (labelsArray.header.shape[0] ?? -1) !== sampleCount)
    throw invalid(
      `labels has shape ${shapeText(labelsArray.header.shape)}; its first dimension must be the ${sampleCount} samples`,
      { array: LABELS, found: labelsArray.header.shape, expected: sampleCount },
    )
  return {
    sampleCount,
    samplesPerRun,
    notes,
    labels: () => (labelsArray ? readLabels(labelsArray) : Promise.resolve(null)),
    feeds: (options = {}) => readFeeds(bindings, sampleCount, samplesPerRun, options),
  }
}

function bind(input: ModelInput, array: NpzArray): Binding | string {
  const { dtype, shape } = array.header
  if (canConvert(dtype, input.dtype) === null)
    return `array '${input.name}' is ${dtype}, the input ${input.dtype}: save it as ${numpyName(input.dtype)}`
  const fit = fitShape(shape, input.shape)
  if (!fit) return `array '${input.name}' has shape ${shapeText(shape)}, which does not fit ${shapeText(input.shape)}`
  const sampleBytes = byteLength(dtype, elementCount(fit.kind === 'shared' ? shape : shape.slice(1)))
  if (sampleBytes > MAX_SAMPLE_BYTES)
    throw new AppError('limit_exceeded', `one sample of '${input.name}' has ${sampleBytes} bytes`, {
      limit: 'sample_bytes',
      allowed: MAX_SAMPLE_BYTES,
      requested: sampleBytes,
    })
  return { input, array, fit, sampleBytes }
}

/** Samples that each run must have, from fixed batches, whole items, and shared arrays that fix the batch symbol. */
function runLength(bindings: Binding[], inputs: readonly ModelInput[], dataset: NpzDataset): number | null {
  const lengths = new Set<number>()
  const symbols = new Map<string, number>()
  for (const { input, array, fit } of bindings)
    if (fit.kind === 'shared')
      input.shape.forEach((dim, i) => {
        if (typeof dim === 'string' && !/^\??$/.test(dim)) symbols.set(dim, array.header.shape[i] ?? 1)
      })
  for (const { input, fit } of bindings) {
    if (fit.kind === 'items') lengths.add(1)
    if (fit.kind !== 'batched') continue
    const symbol = input.shape[0]
    const fixed = fit.fixedBatch ?? (typeof symbol === 'string' ? symbols.get(symbol) : undefined)
    if (fixed !== undefined) lengths.add(fixed)
  }
  if (lengths.size > 1) {
    const list = [...lengths].sort((a, b) => a - b).join(' and ')
    throw mismatch([`the arrays ask for ${list} samples a run; give every input one more axis`], inputs, dataset)
  }
  return [...lengths][0] ?? null
}

function countSamples(
  bindings: Binding[],
  samplesPerRun: number | null,
  inputs: readonly ModelInput[],
  dataset: NpzDataset,
): number {
  const counts = new Map<number, string>()
  for (const { input, array, fit } of bindings)
    if (fit.kind !== 'shared') counts.set(array.header.shape[0] ?? 0, input.name)
  if (counts.size > 1) {
    const list = [...counts].map(([count, name]) => `'${name}' ${count}`).join(', ')
    throw mismatch([`the arrays have different numbers of samples: ${list}`], inputs, dataset)
  }
  const count = [...counts.keys()][0] ?? 1
  if (count === 0) throw mismatch(['the arrays hold no samples'], inputs, dataset)
  if (count % (samplesPerRun ?? 1) !== 0)
    throw mismatch([`${count} samples do not divide into runs of ${samplesPerRun}`], inputs, dataset)
  return count
}

async function* readFeeds(
  bindings: Binding[],
  sampleCount: number,
  samplesPerRun: number | null,
  options: { batchSize?: number; maxSamples?: number },
): AsyncGenerator<Feed> {
  const perSample = bindings.reduce((sum, { fit, sampleBytes }) => sum + (fit.kind === 'shared' ? 0 : sampleBytes), 0)
  const comfortable = Math.min(DEFAULT_BATCH_SAMPLES, Math.floor(DEFAULT_FEED_BYTES / Math.max(1, perSample)))
  const batch = samplesPerRun ?? Math.max(1, options.batchSize ?? comfortable)
  const end = Math.min(sampleCount, options.maxSamples ?? sampleCount)
  const shared = new Map<string, Uint8Array>()
  for (let first = 0; first < end; first += batch) {
    // A fixed batch is always whole, even where maxSamples ends inside it.
    const count = samplesPerRun ?? Math.min(batch, end - first)
    const tensors: Record<string, FeedTensor> = Object.create(null)
    for (const binding of bindings) tensors[binding.input.name] = await readTensor(binding, first, count, shared)
    yield { firstSample: first, sampleCount: count, tensors }
  }
}

async function readTensor(
  { input, array, fit, sampleBytes }: Binding,
  first: number,
  count: number,
  shared: Map<string, Uint8Array>,
): Promise<FeedTensor> {
  const { shape, dtype, littleEndian } = array.header
  const dims = fit.kind === 'shared' ? [...shape] : fit.kind === 'items' ? shape.slice(1) : [count, ...shape.slice(1)]
  const known = shared.get(input.name)
  if (known) return { dtype: input.dtype, dims, data: known.slice() }
  const rows = fit.kind === 'shared' ? 1 : count
  const bytes = new Uint8Array(rows * sampleBytes)
  const start = fit.kind === 'shared' ? 0 : first
  await array.read(start * sampleBytes, bytes)
  const firstElement = start * elementCount(fit.kind === 'shared' ? shape : shape.slice(1))
  const data = convertElements(bytes, dtype, input.dtype, littleEndian, { array: input.name, firstElement })
  if (fit.kind === 'shared') shared.set(input.name, data.slice())
  return { dtype: input.dtype, dims, data }
}

async function readLabels(array: NpzArray): Promise<Labels> {
  const { dtype, dataBytes, littleEndian } = array.header
  if (dataBytes > MAX_LABEL_BYTES)
    throw new AppError('limit_exceeded', `labels has ${dataBytes} bytes, allowed ${MAX_LABEL_BYTES}`, {
      limit: 'label_bytes',
      allowed: MAX_LABEL_BYTES,
      requested: dataBytes,
    })
  const bytes = new Uint8Array(dataBytes)
  await array.read(0, bytes)
  const [samples = 0, ...rest] = array.header.shape
  const shape = rest.length === 1 && rest[0] === 1 ? [samples] : [samples, ...rest]
  const where = { array: LABELS, firstElement: 0 }
  if (dtype.startsWith('f')) {
    const wide = convertElements(bytes, dtype, 'f64', littleEndian, where)
    return { kind: 'regression', shape, values: Float64Array.from(decodeElements(wide, 'f64'), Number) }
  }
  const ids = convertElements(bytes, dtype, 'i32', littleEndian, where)
  return { kind: 'classes', shape, values: Int32Array.from(decodeElements(ids, 'i32'), Number) }
}

/**
 * Refuses class ids outside of 0 .. classCount - 1.
 * @throws AppError dataset_invalid naming the first sample and its label.
 */
export function checkLabelRange(labels: Labels & { kind: 'classes' }, classCount: number): void {
  const bad = labels.values.findIndex((id) => id < 0 || id >= classCount)
  if (bad < 0) return
  const found = labels.values[bad]
  throw invalid(
    `label ${found} at position ${bad} is out of range: the model has ${classCount} classes, 0 to ${classCount - 1}`,
    {
      array: LABELS,
      element: bad,
      found,
      allowed: [0, classCount - 1],
    },
  )
}

/**
 * How many classes a model with one output declares: C of f [N, C] whose N is the samples of a run. null: not declared, or
 * only a run can tell which output the labels are held against.
 */
export function declaredClassCount(
  inputs: readonly ModelInput[],
  outputs: readonly ModelInput[],
  samplesPerRun: number | null,
): number | null {
  const [output] = outputs
  if (outputs.length !== 1 || output === undefined || !output.dtype.startsWith('f')) return null
  const [samples, classes] = output.shape
  if (output.shape.length !== 2 || typeof classes !== 'number' || classes < 2) return null
  const symbol = inputs[0]?.shape[0]
  const perSample =
    samplesPerRun === null
      ? typeof samples === 'string' && samples !== '' && samples === symbol
      : samples === samplesPerRun
  return perSample ? classes : null
}

function mismatch(problems: string[], inputs: readonly ModelInput[], dataset: Dataset): AppError {
  const expected = inputs.map(({ name, dtype, shape }) => `'${name}' ${dtype} ${shapeText(shape)}`)
  const detail = `the dataset does not match the model: ${problems.join('; ')}. Expected: ${expected.join(', ')}, each with a sample axis in front or along dim 0, and optionally '${LABELS}'`
  return invalid(detail, { problems, expected: inputs, found: dataset.arrays })
}

function invalid(detail: string, context: Record<string, unknown>): AppError {
  return new AppError('dataset_invalid', detail, context)
}
