// The judge of an artifact: runs original and artifact in onnxruntime on the same inputs, each in a child process of its
// own, and compares (ONNX); or reads it back and compares tensors (safetensors). Entry: validateArtifact. Loads nothing
// native itself, so that the server may call it.

import { mkdtemp, rm } from 'node:fs/promises'
import { arch, cpus, platform, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { AppError } from '../errors.ts'
import type { Progress, ValidateSpec } from '../jobs/protocol.ts'
import type { SourceFile } from '../tensor/model.ts'
import type { InferenceChild } from './inference-child.ts'
import { MEMORY_VARIABLES, startInferenceChild } from './inference-child.ts'
import type { FeedSource, LatencyAnswer, OpenAnswer, RunAnswer } from './inference-protocol.ts'
import { measureAlone, measureInTurns, summarizeLatency } from './measure-latency.ts'
import type { ModelRun, RuntimeEnvironment, RunValidation, ValidationResult } from './validation.ts'
import { readVersions } from './versions.ts'

/** For everything together. A model that needs longer is better served by a smaller dataset. */
export const DEFAULT_TIMEOUT_MS = 15 * 60_000

/** Above this the original is measured alone and closed before the artifact is loaded: two such models may not fit. */
const DEFAULT_KEEP_BOTH_BYTES = 2 ** 30

export interface ValidateOptions {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: Progress) => void) | undefined
  /** Told with every reading of a child's memory. */
  onChild?: ((pid: number, rssBytes: number) => void) | undefined
  timeoutMs?: number | undefined
  /** Parent folder for the private temporary folder; default: the system's. */
  tempDir?: string | undefined
  /** Resident bytes of the original up to which it stays loaded beside the artifact, so that latency runs alternate. */
  keepBothBytes?: number | undefined
  /** Program of the inference child; another one only in tests. */
  childEntryPath?: string | undefined
}

/**
 * Validates. Throws AppError: validation_failed (a model does not load or run, or the artifact differs in names or shapes),
 * dtype_unsupported, dataset_invalid, limit_exceeded, and worker_crashed | worker_timeout | cancelled, after which no child
 * and no temporary file is left.
 */
export async function validateArtifact(spec: ValidateSpec, options: ValidateOptions = {}): Promise<ValidationResult> {
  const context = new ValidationContext(spec, options)
  try {
    return spec.original.format === 'safetensors' ? await readBackArtifact(context) : await runBoth(context)
  } finally {
    await context.close()
  }
}

class ValidationContext {
  readonly spec: ValidateSpec
  readonly timeoutMs: number
  readonly keepBothBytes: number
  readonly startedMs = performance.now()
  readonly #options: ValidateOptions
  readonly #children: InferenceChild[] = []
  #folder: string | null = null

  constructor(spec: ValidateSpec, options: ValidateOptions) {
    this.spec = spec
    this.#options = options
    this.timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
    this.keepBothBytes = options.keepBothBytes ?? DEFAULT_KEEP_BOTH_BYTES
  }

  startChild(label: 'original' | 'artifact'): InferenceChild {
    const child = startInferenceChild({
      label,
      deadlineMs: this.startedMs + this.timeoutMs,
      memoryLimitBytes: this.spec.memoryLimitBytes,
      signal: this.#options.signal,
      onMemory: this.#options.onChild,
      entryPath: this.#options.childEntryPath,
    })
    this.#children.push(child)
    return child
  }

  async temporaryPath(name: string): Promise<string> {
    this.#folder ??= await mkdtemp(join(this.#options.tempDir ?? tmpdir(), 'tensorpress-validate-'))
    return join(this.#folder, name)
  }

  /** Progress in bytes of both models: `share` of the whole validation. */
  tell(share: number): void {
    const totalBytes = sumBytes(this.spec.original.files) + sumBytes(this.spec.artifact.files)
    const doneBytes = Math.round(Math.min(1, Math.max(0, share)) * totalBytes)
    this.#options.onProgress?.({ stage: 'validating', doneBytes, totalBytes, tensor: null })
  }

  secondsSince(startMs: number): number {
    return (performance.now() - startMs) / 1000
  }

  async close(): Promise<void> {
    await Promise.all(this.#children.map((child) => child.close()))
    if (this.#folder !== null) await rm(this.#folder, { recursive: true, force: true })
  }
}

/** Shares of the whole that the phases get in the progress display. */
const SHARE = { original: 0.45, artifact: 0.9, latency: 0.95 }

async function runBoth(context: ValidationContext): Promise<RunValidation> {
  const { spec } = context
  const beforePath = await context.temporaryPath('original.outputs')
  const afterPath = await context.temporaryPath('artifact.outputs')
  const source: FeedSource =
    spec.datasetPath === null
      ? { kind: 'synthetic', seed: spec.seed, shapes: null }
      : { kind: 'dataset', path: spec.datasetPath }

  const startOriginal = performance.now()
  const original = new ModelProcess(context, 'original')
  await original.run(source, beforePath, null, (share) => context.tell(SHARE.original * share))
  const together = original.ran.rssBytes <= context.keepBothBytes
  const alone = together ? null : await measureAlone(original.child, spec.latencyRuns)
  if (!together) await original.release()
  const originalSeconds = context.secondsSince(startOriginal)

  const startArtifact = performance.now()
  const artifact = new ModelProcess(context, 'artifact')
  const sameInputs: FeedSource = source.kind === 'synthetic' ? { ...source, shapes: original.ran.shapes } : source
  const { samples } = original.ran.inputs
  await artifact.run(sameInputs, afterPath, samples, (share) =>
    context.tell(SHARE.original + (SHARE.artifact - SHARE.original) * share),
  )
  const artifactSeconds = context.secondsSince(startArtifact)
  const [latencyBefore, latencyAfter] =
    alone === null
      ? await measureInTurns(original.child, artifact.child, spec.latencyRuns)
      : [alone, await measureAlone(artifact.child, spec.latencyRuns)]
  context.tell(SHARE.latency)
  if (together) await original.release()
  await artifact.release()

  const startCompare = performance.now()
  const comparison = await artifact.child.ask(
    'compare',
    {
      beforePath,
      afterPath,
      before: original.ran.outputs,
      after: artifact.ran.outputs,
      samplesPerRun: original.ran.samplesPerRun,
      samples,
      datasetPath: spec.datasetPath,
      modelInputs: original.ran.modelInputs,
      seed: spec.seed,
    },
    (share) => context.tell(SHARE.latency + (1 - SHARE.latency) * share),
  )
  context.tell(1)
  const modelRuns = { original: original.summary(latencyBefore), artifact: artifact.summary(latencyAfter) }
  return {
    kind: 'run',
    inputs: original.ran.inputs,
    settings: {
      threads: spec.threads,
      x64QuantPrecision: spec.x64QuantPrecision,
      graphOptimization: 'all',
      timeoutMs: context.timeoutMs,
      memoryLimitBytes: spec.memoryLimitBytes,
      seed: spec.seed,
    },
    environment: environmentOf(original.opened.onnxruntime),
    ...modelRuns,
    latencyRatio: ratio(modelRuns.artifact.latency.medianMs, modelRuns.original.latency.medianMs),
    latencyInterleaved: alone === null,
    outputs: comparison.outputs,
    classification: comparison.classification,
    regression: comparison.regression,
    seconds: {
      original: originalSeconds,
      artifact: artifactSeconds,
      compare: context.secondsSince(startCompare),
      total: context.secondsSince(context.startedMs),
    },
    warnings: warningsOf(original, comparison.outputs),
  }
}

/** One model in its child, through the phases run, latency, release. */
class ModelProcess {
  readonly child: InferenceChild
  readonly #context: ValidationContext
  readonly #label: 'original' | 'artifact'
  #opened: OpenAnswer | null = null
  #ran: RunAnswer | null = null
  #peakRssBytes = 0

  constructor(context: ValidationContext, label: 'original' | 'artifact') {
    this.#context = context
    this.#label = label
    this.child = context.startChild(label)
  }

  get opened(): OpenAnswer {
    return this.#opened!
  }

  get ran(): RunAnswer {
    return this.#ran!
  }

  async run(
    feeds: FeedSource,
    outputsPath: string,
    maxSamples: number | null,
    onProgress: (share: number) => void,
  ): Promise<void> {
    const { mainPath, files } = this.#context.spec[this.#label]
    const { threads, x64QuantPrecision } = this.#context.spec
    try {
      this.#opened = await this.child.ask('open', { path: mainPath, files, threads, x64QuantPrecision })
      this.#ran = await this.child.ask('run', { feeds, outputsPath, maxSamples }, onProgress)
    } catch (error) {
      throw nameModel(error, this.#label)
    }
  }

  async release(): Promise<void> {
    this.#peakRssBytes = (await this.child.ask('release', {})).peakRssBytes
  }

  summary(latency: LatencyAnswer): ModelRun {
    return {
      fileBytes: sumBytes(this.#context.spec[this.#label].files),
      loadSeconds: this.opened.loadSeconds,
      latency: summarizeLatency(latency),
      baselineRssBytes: this.opened.baselineRssBytes,
      peakRssBytes: this.#peakRssBytes,
    }
  }
}

/** "The original model: onnxruntime could not load ...": which of the two it was matters most to the reader. */
function nameModel(error: unknown, label: 'original' | 'artifact'): unknown {
  if (!(error instanceof AppError) || error.code !== 'validation_failed') return error
  return new AppError(error.code, `the ${label}: ${error.detail}`, { ...error.context, model: label }, error)
}

function warningsOf(original: ModelProcess, outputs: RunValidation['outputs']): string[] {
  const { inputs, notes } = original.ran
  const warnings = [...original.opened.warnings, ...notes]
  if (inputs.source === 'synthetic') {
    warnings.push(
      `No dataset was given: ${inputs.samples} synthetic inputs (seed ${inputs.seed}) show how far outputs move, not how accurate the model is.`,
    )
  }
  if (inputs.limitNote !== null) warnings.push(inputs.limitNote)
  for (const { name, elements, nonFiniteBefore, nonFiniteIntroduced } of outputs) {
    if (nonFiniteBefore > 0 && nonFiniteBefore === elements)
      warnings.push(
        `Output '${name}' of the original is NaN or infinite everywhere, so nothing was compared: check the inputs and the model.`,
      )
    else if (nonFiniteBefore > 0)
      warnings.push(`Output '${name}' of the original holds ${nonFiniteBefore} NaN or infinite values.`)
    if (nonFiniteIntroduced > 0) {
      warnings.push(
        `Output '${name}' is NaN or infinite in the artifact at ${nonFiniteIntroduced} positions where the original is finite.`,
      )
    }
  }
  return warnings
}

async function readBackArtifact(context: ValidationContext): Promise<ValidationResult> {
  const { spec } = context
  const child = context.startChild('artifact')
  const request = { original: spec.original.files, artifact: spec.artifact.files, plan: spec.plan ?? null }
  const answer = await child.ask('read-back', request, (share) => context.tell(share))
  context.tell(1)
  return { ...answer, environment: environmentOf(null), seconds: { total: context.secondsSince(context.startedMs) } }
}

function environmentOf(onnxruntime: string | null): RuntimeEnvironment {
  const processors = cpus()
  return {
    onnxruntime,
    node: readVersions().node,
    platform: platform(),
    arch: arch(),
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cpuCount: processors.length,
    memoryBytes: totalmem(),
    variables: { ...MEMORY_VARIABLES },
  }
}

function sumBytes(files: readonly SourceFile[]): number {
  return files.reduce((sum, file) => sum + file.sizeBytes, 0)
}

function ratio(after: number, before: number): number | null {
  return before > 0 ? after / before : null
}
