// The report: everything measured about one job, and everything needed to make the artifact again byte for byte. Entry:
// buildReport. Plain JSON; report-html.ts draws it. Sizes never count dropped junk: tensors are summed by name.

import type { DeviceInfo, KernelTime } from '../compute/compute-device.ts'
import type { CompressionResult, ResolvedRecipe, TensorOutcome } from '../jobs/protocol.ts'
import type { ModelSummary, OutputOptions, SkipReason } from '../tensor/model.ts'
import type { MetricFigure, Requirement, RequirementOutcome } from './requirement.ts'
import { evaluateRequirements, METRICS, metricFigure } from './requirement.ts'
import type { ValidationResult } from './validation.ts'

export const REPORT_VERSION = 1

export interface ReportInput {
  jobId: string
  attempt: number
  createdAt: string
  model: {
    id: string | null
    fileName: string
    summary: ModelSummary
    files: { name: string; sizeBytes: number; sha256: string | null }[]
  }
  dataset: { id: string | null; fileName: string; sizeBytes: number; sha256: string | null } | null
  recipe: ResolvedRecipe
  output: OutputOptions
  compression: CompressionResult
  /** null: validation was switched off (`--no-validate`). */
  validation: ValidationResult | null
  requirements: Requirement[]
  versions: Versions
  /** Wall seconds by stage as the caller saw them: opening, compress, validate, publish. */
  stageSeconds: Record<string, number>
  /** true: the artifact came from the cache and only validation or the requirement was new. */
  artifactReused: boolean
}

export interface Versions {
  tensorpress: string
  node: string
  webgpu: string | null
  onnxruntime: string | null
}

export type Verdict = 'requirement_met' | 'requirement_not_met' | 'validated' | 'attention' | 'not_validated'

export interface SizeFigures {
  rawBytes: number
  zstdBytes: number | null
  /** true: zstd ran on a sample of a large file and the figure is scaled up. */
  zstdSampled: boolean
}

export interface Report {
  reportVersion: typeof REPORT_VERSION
  jobId: string
  attempt: number
  createdAt: string
  verdict: { outcome: Verdict; sentence: string }
  model: ReportInput['model']
  dataset: ReportInput['dataset']
  recipe: ResolvedRecipe
  output: OutputOptions
  sizes: {
    original: SizeFigures
    artifact: SizeFigures
    /** artifact / original; smaller is better. */
    rawRatio: number
    zstdRatio: number | null
    /** Bytes of tensors alone, by what happened to them. */
    tensors: { compressedBefore: number; compressedAfter: number; keptBytes: number }
    /** What a reader must know about the sizes, such as pruning that only pays after zstd. */
    sentences: string[]
  }
  artifact: { files: CompressionResult['files']; reused: boolean }
  tensors: TensorOutcome[]
  tensorCounts: { total: number; compressed: number; kept: number; byReason: Partial<Record<SkipReason, number>> }
  planNotes: { tensor: string | null; note: string }[]
  validation: ValidationResult | null
  /** The figures that `require` can name, where model and data have them. */
  metrics: Partial<Record<(typeof METRICS)[number], MetricFigure>>
  requirement: RequirementOutcome | null
  device: DeviceInfo
  versions: Versions
  seeds: { validation: number | null }
  performance: {
    stageSeconds: Record<string, number>
    workerSeconds: Record<string, number>
    gpuSeconds: number
    bytesRead: number
    bytesWritten: number
    /** Input bytes per second over open, calibrate, encode and finish; null when too short to say. */
    bytesPerSecondWall: number | null
    bytesPerSecondGpu: number | null
    kernelTimes: KernelTime[]
    workerPeakRssBytes: number
  }
  /** How to get the same bytes again. */
  reproduce: { command: string; note: string }
  warnings: string[]
}

/** Puts the report together and judges the requirement. Pure. */
export function buildReport(input: ReportInput): Report {
  const { compression, validation } = input
  const original = {
    rawBytes: compression.input.rawBytes,
    zstdBytes: compression.input.zstdBytes,
    zstdSampled: compression.input.zstdSampled,
  }
  const artifact = {
    rawBytes: compression.rawBytes,
    zstdBytes: compression.zstdBytes,
    zstdSampled: compression.files.some((file) => file.zstdSampled),
  }
  const rawRatio = ratio(artifact.rawBytes, original.rawBytes) ?? 1
  const requirement = evaluateRequirements(input.requirements, { validation, sizeRatio: rawRatio })
  const metrics: Report['metrics'] = {}
  for (const metric of METRICS) {
    const figure = metricFigure(validation, metric)
    if (figure !== null) metrics[metric] = figure
  }
  const warnings = collectWarnings(input)
  const sizes = {
    original,
    artifact,
    rawRatio,
    zstdRatio: ratio(artifact.zstdBytes, original.zstdBytes),
    tensors: sumTensors(compression.tensors),
  }
  const { device } = compression
  return {
    reportVersion: REPORT_VERSION,
    jobId: input.jobId,
    attempt: input.attempt,
    createdAt: input.createdAt,
    verdict: judge(validation, requirement),
    model: input.model,
    dataset: input.dataset,
    recipe: input.recipe,
    output: input.output,
    sizes: { ...sizes, sentences: sizeSentences(sizes, compression.tensors) },
    artifact: { files: compression.files, reused: input.artifactReused },
    tensors: compression.tensors,
    tensorCounts: countTensors(compression.tensors),
    planNotes: compression.plan.notes,
    validation,
    metrics,
    requirement,
    device,
    versions: input.versions,
    seeds: { validation: seedOf(validation) },
    performance: performanceOf(input),
    reproduce: reproduceOf(input),
    warnings,
  }
}

function judge(validation: ValidationResult | null, requirement: RequirementOutcome | null): Report['verdict'] {
  if (requirement !== null) {
    const failed = requirement.checks.filter((check) => !check.met)
    return requirement.met
      ? { outcome: 'requirement_met', sentence: requirement.checks.map((check) => check.sentence).join(' ') }
      : { outcome: 'requirement_not_met', sentence: failed.map((check) => check.sentence).join(' ') }
  }
  if (validation === null) {
    return { outcome: 'not_validated', sentence: 'Validation was switched off: nothing is known about accuracy.' }
  }
  if (validation.kind === 'read-back') {
    const { identicalTensors, changedTensors } = validation
    return {
      outcome: 'validated',
      sentence: `Read back: ${identicalTensors} tensors identical byte for byte, ${changedTensors} compressed and compared by value.`,
    }
  }
  const introduced = validation.outputs.reduce((sum, output) => sum + output.nonFiniteIntroduced, 0)
  if (introduced > 0) {
    return {
      outcome: 'attention',
      sentence: `The artifact gives ${introduced} NaN or infinite output values where the original gives finite ones.`,
    }
  }
  const source = validation.inputs.source === 'dataset' ? 'inputs of the dataset' : 'synthetic inputs'
  return {
    outcome: 'validated',
    sentence: `Original and artifact both ran in onnxruntime on ${validation.inputs.samples} ${source}; the figures below say how far they are apart.`,
  }
}

function sumTensors(tensors: TensorOutcome[]): Report['sizes']['tensors'] {
  const sums = { compressedBefore: 0, compressedAfter: 0, keptBytes: 0 }
  for (const tensor of tensors) {
    if (tensor.action === 'keep') sums.keptBytes += tensor.bytesBefore
    else {
      sums.compressedBefore += tensor.bytesBefore
      sums.compressedAfter += tensor.bytesAfter
    }
  }
  return sums
}

function sizeSentences(
  sizes: { original: SizeFigures; artifact: SizeFigures; rawRatio: number; zstdRatio: number | null },
  tensors: TensorOutcome[],
): string[] {
  const sentences: string[] = []
  const compressed = tensors.filter((tensor) => tensor.action === 'compress')
  if (compressed.length === 0) sentences.push('No tensor was compressed: the artifact holds the same weights.')
  if (compressed.some((tensor) => tensor.prune !== null && tensor.encode.kind === 'dense')) {
    const after =
      sizes.zstdRatio === null
        ? 'its gain shows only after compression such as zstd, which was not measured here'
        : `after zstd it is ${percent(sizes.zstdRatio)} of the original after zstd`
    sentences.push(`Pruned weights stay in a dense file: not smaller raw (${percent(sizes.rawRatio)}); ${after}.`)
  }
  if (sizes.rawRatio > 1) {
    const by = sizes.artifact.rawBytes - sizes.original.rawBytes
    sentences.push(
      `The artifact is ${by} bytes larger than the original: scales and added nodes outweigh what was saved.`,
    )
  }
  const dropped = droppedBytes(sizes, tensors)
  if (dropped > DROPPED_NOTICE_BYTES && dropped > 0.01 * sizes.original.rawBytes) {
    sentences.push(
      `${dropped} bytes of the difference are not tensors (structure, padding, unreferenced data); compression did not earn them.`,
    )
  }
  if (sizes.original.zstdSampled || sizes.artifact.zstdSampled) {
    sentences.push('zstd sizes of files above 256 MiB come from a sample, scaled up.')
  }
  return sentences
}

/** Below this, structure differences are not worth a sentence. */
const DROPPED_NOTICE_BYTES = 4096

function droppedBytes(sizes: { original: SizeFigures; artifact: SizeFigures }, tensors: TensorOutcome[]): number {
  let savedByTensors = 0
  for (const tensor of tensors)
    if (tensor.action === 'compress') savedByTensors += tensor.bytesBefore - tensor.bytesAfter
  return sizes.original.rawBytes - sizes.artifact.rawBytes - savedByTensors
}

function countTensors(tensors: TensorOutcome[]): Report['tensorCounts'] {
  const byReason: Partial<Record<SkipReason, number>> = {}
  let compressed = 0
  for (const tensor of tensors) {
    if (tensor.action === 'compress') compressed++
    if (tensor.reason !== null) byReason[tensor.reason] = (byReason[tensor.reason] ?? 0) + 1
  }
  return { total: tensors.length, compressed, kept: tensors.length - compressed, byReason }
}

function performanceOf(input: ReportInput): Report['performance'] {
  const { compression } = input
  const { open = 0, calibrate = 0, encode = 0, finish = 0 } = compression.seconds
  const wall = open + calibrate + encode + finish
  const bytes = compression.input.rawBytes
  return {
    stageSeconds: input.stageSeconds,
    workerSeconds: compression.seconds,
    gpuSeconds: compression.gpuSeconds,
    bytesRead: compression.bytesRead,
    bytesWritten: compression.bytesWritten,
    bytesPerSecondWall: wall > 0 ? bytes / wall : null,
    bytesPerSecondGpu: compression.gpuSeconds > 0 ? bytes / compression.gpuSeconds : null,
    kernelTimes: compression.kernelTimes,
    workerPeakRssBytes: compression.peakRssBytes,
  }
}

function reproduceOf(input: ReportInput): Report['reproduce'] {
  const { recipe, output, model, versions } = input
  const { externalData, shardBytes } = output
  const chosen = {
    ...(externalData === 'auto' ? {} : { externalData }),
    ...(shardBytes === null ? {} : { shardBytes }),
  }
  const { version, name, steps } = recipe
  const document = { version, name, steps, ...(Object.keys(chosen).length === 0 ? {} : { output: chosen }) }
  const words = ['tensorpress', 'compress', model.fileName, '--recipe', JSON.stringify(document), '-o', output.fileName]
  return {
    command: words.map(quoteForShell).join(' '),
    note: `With Tensorpress ${versions.tensorpress}, this model (hashes below) and this recipe, every adapter and the reference device give the artifact bytes whose SHA-256 is listed here.`,
  }
}

function quoteForShell(text: string): string {
  return /^[\w./+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

function collectWarnings(input: ReportInput): string[] {
  const { compression, validation } = input
  const warnings: string[] = []
  if (compression.device.kind === 'reference') {
    warnings.push('Kernels ran on the reference device (plain TypeScript, no GPU): same bytes, much slower.')
  }
  const nonFinite = compression.tensors.filter((tensor) => tensor.nonFinite > 0)
  if (nonFinite.length > 0) {
    const count = nonFinite.reduce((sum, tensor) => sum + tensor.nonFinite, 0)
    const names = nonFinite.slice(0, 3).map((tensor) => tensor.name)
    warnings.push(
      `${count} NaN or infinite weights in ${nonFinite.length} tensors (${names.join(', ')}${nonFinite.length > 3 ? ', ...' : ''}); tensors that hold such values are not quantized.`,
    )
  }
  if (input.model.summary.alreadyCompressed.length > 0) {
    warnings.push(`The model was already compressed in part: ${input.model.summary.alreadyCompressed.join(', ')}.`)
  }
  if (validation !== null) warnings.push(...validation.warnings)
  return warnings
}

function seedOf(validation: ValidationResult | null): number | null {
  return validation?.kind === 'run' ? validation.settings.seed : null
}

function ratio(after: number | null, before: number | null): number | null {
  return after === null || before === null || before === 0 ? null : after / before
}

function percent(value: number): string {
  return `${(100 * value).toFixed(1)} %`
}
