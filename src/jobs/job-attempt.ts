// One attempt of a job on the server: gathers its files, runs it (run-job.ts) with results kept in the stores, and says how
// the job ended. Entry: createJobAttempt.

import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../errors.ts'
import type { ArtifactStore } from '../store/artifact-store.ts'
import type { JobOutcome, JobRecord } from '../store/catalog.ts'
import type { DataFolder } from '../store/data-folder.ts'
import type { DatasetStore } from '../store/dataset-store.ts'
import type { ModelStore } from '../store/model-store.ts'
import type { StoreQuota } from '../store/store-quota.ts'
import type { Report } from '../validate/report.ts'
import type { ValidationResult } from '../validate/validation.ts'
import { artifactKey, validationKey } from './artifact-key.ts'
import type { RequestOptions } from './child-process.ts'
import type { JobPayload } from './job.ts'
import type { CompressionResult, Progress, ValidateSpec } from './protocol.ts'
import { defaultValidationSettings, type JobSpec, type ResultStore, runJob } from './run-job.ts'
import type { ServiceLimits } from './service.ts'
import type { GpuWorker } from './worker-pool.ts'

export interface AttemptParts {
  data: DataFolder
  models: ModelStore
  datasets: DatasetStore
  artifacts: ArtifactStore
  quota: StoreQuota
  worker: GpuWorker
  validate(spec: ValidateSpec, options: RequestOptions & { tempDir: string }): Promise<ValidationResult>
  limits: ServiceLimits
}

export interface AttemptResult extends JobOutcome {
  report: Report
  stageSeconds: Record<string, number>
}

export type JobAttempt = (
  job: JobRecord,
  context: { signal: AbortSignal; onProgress(progress: Progress): void },
) => Promise<AttemptResult>

export function createJobAttempt(parts: AttemptParts): JobAttempt {
  const { data, models, datasets, artifacts, quota, worker, limits } = parts

  async function jobSpec(job: JobRecord, workDir: string): Promise<JobSpec> {
    const payload = job.payload as JobPayload
    const model = await models.get(job.modelId)
    const sources = await models.sources(model)
    const dataset = job.datasetId === null ? null : await datasets.get(job.datasetId)
    return {
      jobId: job.id,
      attempt: job.attempt,
      model: {
        id: model.id,
        files: sources.map((file, index) => ({ ...file, sha256: model.files[index]!.sha256 })),
        summary: model.summary,
      },
      dataset:
        dataset === null
          ? null
          : {
              id: dataset.id,
              path: await datasets.pathOf(dataset),
              fileName: dataset.file.name,
              sizeBytes: dataset.file.sizeBytes,
              sha256: dataset.file.sha256,
            },
      recipe: payload.recipe,
      output: payload.output,
      requirements: payload.requirements,
      validate: payload.validate,
      settings: defaultValidationSettings(),
      memoryLimitBytes: limits.childMemoryBytes,
      workDir,
    }
  }

  function resultStore(spec: JobSpec, key: string): ResultStore {
    const validation = validationKey(key, spec.dataset?.sha256 ?? null, spec.settings)
    async function kept() {
      const record = await artifacts.find(key)
      if (record !== null) return record
      throw new AppError('store_failed', `Artifact ${key} vanished from the store during the job. Run the job again.`)
    }
    return {
      async findCompression(measured) {
        const record = await artifacts.find(key)
        if (record === null || (measured && !record.measured)) return null
        try {
          await artifacts.locate(record)
          return (await artifacts.readDocument(record.resultSha256)) as CompressionResult
        } catch {
          return null // its files vanished or are damaged: made again, with the same bytes
        }
      },
      async keepCompression(folder, result) {
        const withHashes = { ...result }
        const room = quota.open()
        try {
          await room.growTo(result.files.reduce((sum, file) => sum + file.sizeBytes, 0))
          await artifacts.keep(
            key,
            folder,
            result.files,
            (stored) => {
              withHashes.files = result.files.map((file, index) => ({ ...file, sha256: stored[index]!.sha256 }))
              return withHashes
            },
            spec.validate,
          )
        } finally {
          room.release()
        }
        return withHashes
      },
      placeArtifact: async (folder) => artifacts.place(await kept(), folder),
      dropCompression: () => artifacts.drop(key),
      findValidation: async () => (await artifacts.findValidation(validation)) as ValidationResult | null,
      keepValidation: (result) => artifacts.keepValidation(validation, key, result),
    }
  }

  return async (job, { signal, onProgress }) => {
    const workDir = await data.makeTemporary(`job-${job.id}-attempt-${job.attempt}`)
    try {
      const spec = await jobSpec(job, workDir)
      const sizeBytes = spec.model.files.reduce((sum, file) => sum + file.sizeBytes, 0)
      await data.requireFree(sizeBytes, limits.minFreeBytes)
      const files = spec.model.files.map(({ name, sha256 }) => ({ name, sha256: sha256! }))
      const key = artifactKey(files, spec.recipe, spec.output)
      await artifacts.claim(job.id, key)
      const result = await runJob(
        spec,
        {
          compress: (compressSpec, options) => worker.compress(compressSpec, options),
          validate: (validateSpec, options) => parts.validate(validateSpec, { ...options, tempDir: join(workDir) }),
          store: resultStore(spec, key),
        },
        { signal, onProgress },
      )
      onProgress({ stage: 'publishing', doneBytes: 0, totalBytes: sizeBytes, tensor: null })
      const met = result.requirementMet !== false
      const unmet = new AppError('requirement_not_met', result.report.verdict.sentence, {
        checks: result.report.requirement?.checks,
      })
      return {
        state: met ? 'succeeded' : 'failed',
        artifactKey: key,
        artifactReused: result.artifactReused,
        requirementMet: result.requirementMet,
        reportSha256: await artifacts.putDocument(result.report),
        error: met ? null : unmet.toObject(),
        report: result.report,
        stageSeconds: result.stageSeconds,
      }
    } finally {
      await rm(workDir, { recursive: true, force: true }).catch(() => {}) // what is left is swept at the next start
    }
  }
}
