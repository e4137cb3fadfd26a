// The whole story of a job on one screen: compress -> keep -> validate -> report -> requirement. Entry: runJob. It knows no
// server and no catalogue: the server passes a store that keeps results between jobs, the command line passes none. Nothing
// becomes visible here; the caller publishes what is returned.

import { mkdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { AppError } from '../errors.ts'
import { inStore } from '../store/file-errors.ts'
import type { ModelSummary, OutputOptions, SourceFile } from '../tensor/model.ts'
import { buildReport, type Report } from '../validate/report.ts'
import type { Requirement } from '../validate/requirement.ts'
import type { ValidationResult } from '../validate/validation.ts'
import { readVersions } from '../validate/versions.ts'
import type { ValidationSettings } from './artifact-key.ts'
import type { RequestOptions } from './child-process.ts'
import type { CompressionResult, CompressSpec, Progress, ResolvedRecipe, ValidateSpec } from './protocol.ts'

export interface JobSpec {
  jobId: string
  attempt: number
  model: {
    id: string | null
    /** The main file first. */
    files: (SourceFile & { sha256: string | null })[]
    summary: ModelSummary
  }
  dataset: { id: string | null; path: string; fileName: string; sizeBytes: number; sha256: string | null } | null
  recipe: ResolvedRecipe
  output: OutputOptions
  requirements: Requirement[]
  /** false: neither measured nor validated. */
  validate: boolean
  settings: ValidationSettings
  memoryLimitBytes: number | null
  /** Private to the attempt; the artifact's files appear in its folder `artifact`. */
  workDir: string
}

/** Results that outlive the job. `measured`: whether hashes of the input, zstd sizes and errors per tensor are wanted. */
export interface ResultStore {
  findCompression(measured: boolean): Promise<CompressionResult | null>
  /** Moves the files out of `folder`; returns the result with every hash filled in. */
  keepCompression(folder: string, result: CompressionResult): Promise<CompressionResult>
  /** Puts the kept files into `folder`. */
  placeArtifact(folder: string): Promise<void>
  /** The artifact turned out not to load. */
  dropCompression(): Promise<void>
  findValidation(): Promise<ValidationResult | null>
  keepValidation(result: ValidationResult): Promise<void>
}

export interface JobSteps {
  compress(spec: CompressSpec, options: RequestOptions): Promise<CompressionResult>
  validate(spec: ValidateSpec, options: RequestOptions): Promise<ValidationResult>
  store: ResultStore | null
}

export interface JobContext {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: Progress) => void) | undefined
}

export interface JobResult {
  /** Folder with the artifact's files; with a store, links to what it keeps. */
  artifactDir: string
  report: Report
  /** null: nothing was required. */
  requirementMet: boolean | null
  artifactReused: boolean
  stageSeconds: Record<string, number>
}

const VALIDATION_SEED = 1
const LATENCY_RUNS = 20
/** More threads than this make latency noisier on shared machines and small models slower. */
const MOST_THREADS = 4

/** How validations are run unless the caller wants otherwise; onnxruntime as a user gets it, so no x64quantprecision. */
export function defaultValidationSettings(): ValidationSettings {
  return {
    seed: VALIDATION_SEED,
    threads: Math.min(MOST_THREADS, availableParallelism()),
    x64QuantPrecision: null,
    latencyRuns: LATENCY_RUNS,
  }
}

/**
 * Runs one attempt. An unmet requirement is a result, not an exception. Throws the AppErrors of compression and validation,
 * `cancelled` (or whatever the signal's reason is), worker_crashed, worker_timeout and device_lost when a child died.
 */
export async function runJob(spec: JobSpec, steps: JobSteps, context: JobContext = {}): Promise<JobResult> {
  const artifactDir = join(spec.workDir, 'artifact')
  const stageSeconds: Record<string, number> = {}
  async function stage<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (context.signal?.aborted) throw AppError.from(context.signal.reason)
    const start = performance.now()
    try {
      return await work()
    } finally {
      stageSeconds[name] = (performance.now() - start) / 1000
    }
  }

  await inStore(`creating ${artifactDir}`, () => mkdir(artifactDir, { recursive: true }))
  const found = (await steps.store?.findCompression(spec.validate)) ?? null
  const compression = await stage('compress', async () => {
    if (found !== null) return found
    const result = await steps.compress(compressSpec(spec, artifactDir), context)
    return (await steps.store?.keepCompression(artifactDir, result)) ?? result
  })
  await steps.store?.placeArtifact(artifactDir)

  const validation = spec.validate
    ? await stage('validate', () => validateOnce(spec, steps, compression, artifactDir, context))
    : null

  const report = buildReport({
    jobId: spec.jobId,
    attempt: spec.attempt,
    createdAt: new Date().toISOString(),
    model: {
      id: spec.model.id,
      fileName: spec.model.files[0]!.name,
      summary: spec.model.summary,
      files: spec.model.files.map(({ name, sizeBytes, sha256 }) => ({
        name,
        sizeBytes,
        sha256: sha256 ?? compression.input.files.find((file) => file.name === name)?.sha256 ?? null,
      })),
    },
    dataset: spec.dataset,
    recipe: spec.recipe,
    output: spec.output,
    compression,
    validation,
    requirements: spec.requirements,
    versions: readVersions(),
    stageSeconds,
    artifactReused: found !== null,
  })
  const requirementMet = report.requirement?.met ?? null
  return { artifactDir, report, requirementMet, artifactReused: found !== null, stageSeconds }
}

function compressSpec(spec: JobSpec, outputDir: string): CompressSpec {
  const { jobId, attempt, recipe, output } = spec
  const files = spec.model.files.map(({ name, path, sizeBytes }) => ({ name, path, sizeBytes }))
  return { jobId, attempt, files, recipe, output, outputDir, measure: spec.validate }
}

async function validateOnce(
  spec: JobSpec,
  steps: JobSteps,
  compression: CompressionResult,
  artifactDir: string,
  context: JobContext,
): Promise<ValidationResult> {
  const known = await steps.store?.findValidation()
  if (known) return known
  const { files, summary } = spec.model
  const artifactFiles = compression.files.map(({ name, sizeBytes }) => ({
    name,
    path: join(artifactDir, name),
    sizeBytes,
  }))
  const main = artifactFiles.find((file) => file.name === spec.output.fileName) ?? artifactFiles[0]!
  try {
    const result = await steps.validate(
      {
        original: { mainPath: files[0]!.path, format: summary.format, files },
        artifact: { mainPath: main.path, files: [main, ...artifactFiles.filter((file) => file !== main)] },
        datasetPath: spec.dataset?.path ?? null,
        ...spec.settings,
        memoryLimitBytes: spec.memoryLimitBytes,
        ...(summary.format === 'onnx'
          ? {}
          : { plan: compression.tensors.map(({ name, action }) => ({ name, action })) }),
      },
      context,
    )
    await steps.store?.keepValidation(result)
    return result
  } catch (error) {
    if (AppError.from(error).code === 'validation_failed') await steps.store?.dropCompression()
    throw error
  }
}
