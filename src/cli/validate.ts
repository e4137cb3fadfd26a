// tensorpress validate: compares a compressed model with its original, on the same inputs in onnxruntime (ONNX) or tensor by
// tensor (safetensors). Both models meet the inspect child first, so that a bad file is told as such.

import { basename } from 'node:path'
import { AppError } from '../errors.ts'
import { defaultValidationSettings } from '../jobs/run-job.ts'
import type { InspectChild } from '../jobs/worker-pool.ts'
import type { ModelSummary, SourceFile } from '../tensor/model.ts'
import {
  evaluateRequirements,
  METRICS,
  type MetricFigure,
  metricFigure,
  parseRequirements,
  type RequirementOutcome,
} from '../validate/requirement.ts'
import { validateArtifact } from '../validate/validate-artifact.ts'
import type { ValidationResult } from '../validate/validation.ts'
import { gatherThrough, withInspectChild } from './children.ts'
import type { Command, CommandLine } from './command.ts'
import { datasetFile } from './dataset-file.ts'
import { interruptible } from './interrupt.ts'
import { progressDisplay } from './progress-display.ts'
import { validationLines } from './report-text.ts'
import { DATASET_OPTION, JSON_OPTION, REQUIRE_OPTION } from './shared-options.ts'

export const command: Command = {
  name: 'validate',
  summary: 'compare a compressed model with its original',
  description: [
    'ONNX models run side by side in onnxruntime, each in a process of its own; safetensors are read back and compared by value. No device is used.',
  ],
  positionals: [
    { name: 'A', summary: 'the original', required: true },
    { name: 'B', summary: 'the compressed model', required: true },
  ],
  options: { dataset: DATASET_OPTION, require: REQUIRE_OPTION, json: JSON_OPTION },
  examples: [
    { line: 'tensorpress validate model.onnx model.int8.onnx', meaning: 'on seeded synthetic inputs' },
    {
      line: 'tensorpress validate a.onnx b.onnx --dataset d.npz --require metric=f1_macro,maxDrop=0.02',
      meaning: 'on real data; status 4 when the requirement is not met',
    },
  ],
  async run(args: CommandLine) {
    const requirements = args.texts('require').flatMap(parseRequirements)
    return interruptible(async (signal) => {
      const dataset = await datasetFile(args.text('dataset'))
      const [original, artifact] = await withInspectChild(async (inspect) => {
        if (dataset !== null) await inspect.describeDataset(dataset.path, { signal })
        const models = await Promise.all(args.positionals.map((path) => opened(inspect, path, signal)))
        if (dataset !== null) await inspect.matchDataset(dataset.path, models[0]!.summary, { signal })
        return models
      })
      if (original!.format !== artifact!.format) {
        throw new AppError(
          'usage',
          `"${args.positionals[0]}" is ${original!.format} and "${args.positionals[1]}" is ${artifact!.format}: models of different formats cannot be compared`,
        )
      }
      refuseOtherInputs(original!, artifact!)
      const display = progressDisplay(process.stderr, { quiet: args.given('json') })
      try {
        const validation = await validateArtifact(
          {
            original: original!,
            artifact: artifact!,
            datasetPath: dataset?.path ?? null,
            ...defaultValidationSettings(),
            memoryLimitBytes: null,
          },
          { signal, onProgress: display.show },
        )
        display.end()
        const sizeRatio = bytesOf(artifact!.files) / Math.max(1, bytesOf(original!.files))
        return conclude(args, validation, evaluateRequirements(requirements, { validation, sizeRatio }), sizeRatio)
      } finally {
        display.end()
      }
    })
  },
}

interface Opened {
  mainPath: string
  format: 'onnx' | 'safetensors'
  files: SourceFile[]
  summary: ModelSummary
}

async function opened(inspect: InspectChild, argument: string, signal: AbortSignal): Promise<Opened> {
  const { files } = await gatherThrough(inspect, argument, signal)
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

function conclude(
  args: CommandLine,
  validation: ValidationResult,
  requirement: RequirementOutcome | null,
  sizeRatio: number,
): number {
  const metrics: Partial<Record<(typeof METRICS)[number], MetricFigure>> = {}
  for (const name of METRICS) {
    const figure = metricFigure(validation, name)
    if (figure !== null) metrics[name] = figure
  }
  const text = args.given('json')
    ? JSON.stringify({ sizeRatio, metrics, requirement, validation })
    : validationLines(validation, metrics, sizeRatio, requirement).join('\n')
  process.stdout.write(`${text}\n`)
  if (requirement === null || requirement.met) return 0
  const unmet = requirement.checks.filter(({ met }) => !met).map(({ sentence }) => sentence)
  throw new AppError('requirement_not_met', unmet.join(' '))
}
