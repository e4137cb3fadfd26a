// Compares a compressed model with its original without a server, on the same inputs in onnxruntime (ONNX) or tensor by tensor
// (safetensors). Both meet the inspect child first, so that a bad file is told as such. Entry: validateModel().

import { basename } from 'node:path'
import { AppError } from '../errors.ts'
import { defaultValidationSettings } from '../jobs/run-job.ts'
import type { InspectChild } from '../jobs/worker-pool.ts'
import type { ModelSummary, SourceFile } from '../tensor/model.ts'
import {
  evaluateRequirements,
  METRICS,
  type Metric,
  type MetricFigure,
  metricFigure,
  parseRequirements,
  type RequirementOutcome,
} from '../validate/requirement.ts'
import { validateArtifact } from '../validate/validate-artifact.ts'
import type { ValidationResult } from '../validate/validation.ts'
import { gatherThrough, withInspectChild } from './children.ts'
import type { CompressOptions } from './compress-model.ts'
import { datasetFile } from './dataset-file.ts'
import { localWork } from './local-work.ts'

export interface ValidateOptions extends Pick<CompressOptions, 'dataset' | 'require' | 'signal' | 'onProgress'> {
  /** Paths, as `model` of CompressOptions. */
  original: string
  artifact: string
}

export interface ValidateOutcome {
  /** Artifact bytes / original bytes. */
  sizeRatio: number
  /** Those that model and data have. */
  metrics: Partial<Record<Metric, MetricFigure>>
  /** null: nothing was required. An unmet requirement is a result, not an error. */
  requirement: RequirementOutcome | null
  validation: ValidationResult
}

/** Throws AppError. */
export async function validateModel(options: ValidateOptions): Promise<ValidateOutcome> {
  const { signal, onProgress } = options
  const requirements = [options.require].flat().flatMap(parseRequirements)
  return localWork(signal, async () => {
    const dataset = await datasetFile(options.dataset)
    const [original, artifact] = await withInspectChild(async (inspect) => {
      if (dataset !== null) await inspect.describeDataset(dataset.path, { signal })
      const models = await Promise.all([
        opened(inspect, options.original, signal),
        opened(inspect, options.artifact, signal),
      ])
      if (dataset !== null) await inspect.matchDataset(dataset.path, models[0].summary, { signal })
      return models
    })
    if (original.format !== artifact.format) {
      throw new AppError(
        'usage',
        `"${options.original}" is ${original.format} and "${options.artifact}" is ${artifact.format}: models of different formats cannot be compared`,
      )
    }
    refuseOtherInputs(original, artifact)
    const validation = await validateArtifact(
      {
        original,
        artifact,
        datasetPath: dataset?.path ?? null,
        ...defaultValidationSettings(),
        memoryLimitBytes: null,
      },
      { signal, onProgress },
    )
    const sizeRatio = bytesOf(artifact.files) / Math.max(1, bytesOf(original.files))
    return {
      sizeRatio,
      metrics: figuresOf(validation),
      requirement: evaluateRequirements(requirements, { validation, sizeRatio }),
      validation,
    }
  })
}

interface Opened {
  mainPath: string
  format: 'onnx' | 'safetensors'
  files: SourceFile[]
  summary: ModelSummary
}

async function opened(inspect: InspectChild, path: string, signal: AbortSignal | undefined): Promise<Opened> {
  const { files } = await gatherThrough(inspect, path, signal)
  const { summary } = await inspect.describe(files, { signal })
  return { mainPath: files[0]!.path, format: summary.format, files, summary }
}

/** Two models that take different inputs are not a model and its compressed form; dtypes and sizes may differ. */
function refuseOtherInputs(original: Opened, artifact: Opened): void {
  const forms = [original, artifact].map(({ summary }) =>
    summary.inputs.map(({ name, shape }) => `'${name}' of rank ${shape.length}`).sort(),
  )
  const [a = [], b = []] = forms
  if (a.join() === b.join()) return
  const [first, second] = forms.map((inputs) => inputs.join(', ') || 'none')
  throw new AppError(
    'usage',
    `the models take different inputs and cannot be compared: "${basename(original.mainPath)}" ${first}; "${basename(artifact.mainPath)}" ${second}`,
  )
}

function bytesOf(files: SourceFile[]): number {
  return files.reduce((sum, file) => sum + file.sizeBytes, 0)
}

function figuresOf(validation: ValidationResult): ValidateOutcome['metrics'] {
  const metrics: ValidateOutcome['metrics'] = {}
  for (const name of METRICS) {
    const figure = metricFigure(validation, name)
    if (figure !== null) metrics[name] = figure
  }
  return metrics
}
