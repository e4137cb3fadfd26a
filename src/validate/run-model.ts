// Runs one open model on every input of a dataset or on synthetic inputs, and stores the outputs. Entry: runModel. Samples
// are run one by one (or in the fixed batch of the model), as a deployed model meets them; a batch would also share one
// dynamic quantization range between samples.

import { AppError } from '../errors.ts'
import type { ModelSession, OutputTensor, ValueInfo } from '../runtime/ort-session.ts'
import type { Feed, FeedTensor } from './dataset.ts'
import { matchDataset, openDataset } from './dataset.ts'
import type { FeedSource, InferenceRequests, RunAnswer } from './inference-protocol.ts'
import { OutputWriter } from './output-store.ts'
import { SYNTHETIC_KINDS, syntheticFeed } from './synthetic-inputs.ts'
import type { InputInfo, InputShapes } from './synthetic-shapes.ts'
import { candidateShapes } from './synthetic-shapes.ts'

/** Stored outputs of the original beyond this end the runs early, which the report states. 1 GiB: 268 million f32 values. */
export const MAX_STORED_OUTPUT_BYTES = 2 ** 30

/** Progress is told at most this often. */
const PROGRESS_INTERVAL_MS = 250

type RunRequest = InferenceRequests['run']['request']

interface FeedPlan {
  feeds: AsyncIterable<Feed>
  available: number
  samplesPerRun: number
  shapes: InputShapes | null
  kinds: string[]
  seed: number | null
  notes: string[]
  close(): Promise<void>
}

/** Runs all feeds in order. Throws validation_failed (the model refuses an input), dataset_invalid, dtype_unsupported. */
export async function runModel(
  session: ModelSession,
  request: RunRequest,
  progress: (doneShare: number) => void,
): Promise<{ answer: Omit<RunAnswer, 'rssBytes'>; firstFeed: Feed['tensors'] }> {
  const modelInputs = session.inputs.map(asInput)
  const outputs = session.outputs.flatMap(({ name, dtype }) => (dtype === null ? [] : [{ name, dtype }]))
  const plan = await planFeeds(session, modelInputs, request.feeds)
  const wanted = Math.min(plan.available, request.maxSamples ?? plan.available)
  const writer = new OutputWriter(request.outputsPath)
  let samples = 0
  let firstFeed: Feed['tensors'] | null = null
  const withNaN = new Set<string>()
  let told = performance.now()
  try {
    for await (const feed of plan.feeds) {
      if (samples >= wanted || writer.totalBytes > MAX_STORED_OUTPUT_BYTES) break
      const results = await session.run(feed.tensors)
      for (const { name } of outputs) writer.write(requireOutput(results, name))
      firstFeed ??= feed.tensors
      for (const [name, tensor] of Object.entries(feed.tensors)) if (holdsNaN(tensor)) withNaN.add(name)
      samples += feed.sampleCount
      if (performance.now() - told > PROGRESS_INTERVAL_MS) {
        told = performance.now()
        progress(samples / wanted)
        // Lets the message leave and a closed channel be noticed: run() never yields by itself.
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
  } finally {
    writer.close()
    await plan.close()
  }
  if (firstFeed === null) throw new AppError('dataset_invalid', 'the dataset gave no sample to run', {})
  const tensors = Object.entries(firstFeed).map(([name, { dtype, dims }]) => ({ name, dtype, dims: [...dims] }))
  const limitNote =
    samples < wanted
      ? `Only the first ${samples} of ${wanted} samples were run: their outputs fill the limit of ${MAX_STORED_OUTPUT_BYTES} bytes.`
      : null
  return {
    answer: {
      inputs: {
        source: request.feeds.kind,
        samples,
        available: plan.available,
        limitNote,
        seed: plan.seed,
        kinds: plan.kinds,
        tensors,
      },
      shapes: plan.shapes,
      modelInputs,
      outputs,
      samplesPerRun: plan.samplesPerRun,
      notes: [...plan.notes, ...Array.from(withNaN, (name) => `'${name}' holds NaN in the dataset`)],
    },
    firstFeed,
  }
}

/** A NaN as input spoils every figure behind it, and both models alike. */
function holdsNaN({ dtype, data }: FeedTensor): boolean {
  if (dtype === 'f32') return new Float32Array(data.slice().buffer).some(Number.isNaN)
  return dtype === 'f64' && new Float64Array(data.slice().buffer).some(Number.isNaN)
}

function asInput({ name, dtype, shape }: ValueInfo): InputInfo {
  if (dtype === null) {
    throw new AppError('feature_unsupported', `input '${name}' is not a numeric tensor, so it cannot be run`, {
      input: name,
    })
  }
  return { name, dtype, shape }
}

function requireOutput(results: Map<string, OutputTensor>, name: string): OutputTensor {
  const output = results.get(name)
  if (output === undefined) throw new AppError('internal', `onnxruntime gave no output '${name}'`)
  return output
}

async function planFeeds(session: ModelSession, inputs: InputInfo[], source: FeedSource): Promise<FeedPlan> {
  if (source.kind === 'synthetic') return planSynthetic(session, inputs, source)
  const dataset = await openDataset(source.path)
  try {
    const matched = matchDataset(dataset, inputs)
    return {
      feeds: matched.feeds({ batchSize: 1 }),
      available: matched.sampleCount,
      samplesPerRun: matched.samplesPerRun ?? 1,
      shapes: null,
      kinds: [],
      seed: null,
      notes: matched.notes,
      close: () => dataset.close(),
    }
  } catch (error) {
    await dataset.close()
    throw error
  }
}

async function planSynthetic(
  session: ModelSession,
  inputs: InputInfo[],
  source: FeedSource & { kind: 'synthetic' },
): Promise<FeedPlan> {
  const shapes = source.shapes ?? (await findShapes(session, inputs, source.seed))
  const feedOf = (index: number): Record<string, FeedTensor> =>
    syntheticFeed(inputs, shapes, SYNTHETIC_KINDS[index]!, source.seed)
  return {
    feeds: (async function* () {
      for (const index of SYNTHETIC_KINDS.keys()) yield { firstSample: index, sampleCount: 1, tensors: feedOf(index) }
    })(),
    available: SYNTHETIC_KINDS.length,
    samplesPerRun: 1,
    shapes,
    kinds: [...SYNTHETIC_KINDS],
    seed: source.seed,
    notes: [],
    close: () => Promise.resolve(),
  }
}

/** The first candidate that the model runs on. Throws validation_failed when it refuses all of them. */
async function findShapes(session: ModelSession, inputs: InputInfo[], seed: number): Promise<InputShapes> {
  const candidates = candidateShapes(inputs)
  let refusal: unknown = null
  for (const shapes of candidates) {
    try {
      await session.run(syntheticFeed(inputs, shapes, 'structured', seed))
      return shapes
    } catch (error) {
      refusal ??= error
    }
  }
  const declared = inputs.map(
    ({ name, dtype, shape }) => `'${name}' ${dtype} [${shape.map((d) => d || '?').join(', ')}]`,
  )
  const reason = refusal instanceof AppError ? refusal.detail : String(refusal)
  throw new AppError(
    'validation_failed',
    `no synthetic input fits the model (${candidates.length} shapes tried for ${declared.join(', ')}). Give a dataset with real inputs. First refusal: ${reason}`,
    { stage: 'synthetic', tried: candidates },
    refusal,
  )
}
