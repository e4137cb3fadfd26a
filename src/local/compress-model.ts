// One job without a server. The artifact is made in a private folder beside its target and moved there when validation and
// requirement have passed. Entry: compressModel(), used by the command line and by the library.

import { randomUUID } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { Progress } from '../jobs/protocol.ts'
import { defaultValidationSettings, runJob } from '../jobs/run-job.ts'
import type { DescribingWorker } from '../jobs/worker-pool.ts'
import type { ModelSummary } from '../tensor/model.ts'
import type { Report } from '../validate/report.ts'
import { parseRequirements, type Requirement } from '../validate/requirement.ts'
import { gatherThrough, withInspectChild } from './children.ts'
import { datasetFile } from './dataset-file.ts'
import type { GatheredModel } from './model-files.ts'
import { openOutput, outputTarget, refuseInput } from './output-files.ts'
import { readRecipe } from './read-recipe.ts'

export interface CompressOptions {
  /** Path of an .onnx or .safetensors file, of a .safetensors.index.json, or of a folder that holds one model. */
  model: string
  /** A preset such as `int8`, presets joined by `+`, the path of a recipe file, recipe text, or a recipe as an object. */
  recipe: string | object
  /** File or folder to write. Default: `<name>.<recipe>.<ending>` in the current folder. */
  output?: string | undefined
  /** Path of an .npz file with one array per model input and optional `labels`. Default: seeded synthetic inputs. */
  dataset?: string | undefined
  /** What the result must keep to: `{metric: 'top1', maxDrop: 0.01}`, text such as `metric=top1,maxDrop=0.01`, or several. */
  require?: Requirement | string | (Requirement | string)[] | undefined
  /** false: neither measured nor validated. Default: true. */
  validate?: boolean | undefined
  /** Replace outputs that exist. Default: false. */
  overwrite?: boolean | undefined
  /** Where kernels run: `auto` (default), `reference`, or a part of an adapter name. */
  device?: string | undefined
  /** Ends the work; the promise rejects with code `cancelled` and nothing is written. */
  signal?: AbortSignal | undefined
  onProgress?: ((progress: Progress) => void) | undefined
}

export interface CompressOutcome {
  /** Paths of the files of the artifact, the main one last; none when a requirement is not met. */
  files: string[]
  report: Report
  /** null: nothing was required. */
  requirementMet: boolean | null
}

/** An unmet requirement is a result here. Closes the worker as soon as nothing more is asked of it. Throws AppError. */
export async function compressModel(
  options: Omit<CompressOptions, 'device'>,
  worker: DescribingWorker,
): Promise<CompressOutcome> {
  const { recipe, output: recipeOutput, require: recipeRequire } = await readRecipe(options.recipe)
  const requirements = [recipeRequire, options.require].flat().flatMap(parseRequirements)
  const { validate = true, overwrite = false, signal, onProgress } = options
  if (!validate) refuseUnjudgeable(requirements, options.dataset)
  let closing: Promise<void> | undefined
  const compress: DescribingWorker['compress'] = async (spec, requestOptions) => {
    const compressed = await worker.compress(spec, requestOptions)
    // Its memory goes back while the result is judged and published.
    closing = worker.close()
    return compressed
  }
  try {
    const dataset = await datasetFile(options.dataset)
    const { model, summary } = await describeInputs(options.model, dataset?.path ?? null, worker, signal)
    const target = await outputTarget(model, recipe.name, options.output)
    await refuseInput(target, model)
    const output = await openOutput(target, overwrite)
    try {
      const result = await runJob(
        {
          jobId: randomUUID(),
          attempt: 1,
          model: { id: null, files: model.files.map((file) => ({ ...file, sha256: null })), summary },
          dataset,
          recipe,
          output: { externalData: 'auto', shardBytes: null, ...recipeOutput, fileName: target.fileName },
          requirements,
          validate,
          settings: defaultValidationSettings(),
          memoryLimitBytes: null,
          workDir: output.temporaryFolder,
        },
        { compress, validate: loadedValidation, store: null },
        { signal, onProgress },
      )
      const names = result.report.artifact.files.map(({ name }) => name)
      const unmet = result.requirementMet === false
      const files = unmet ? [] : await output.publish(result.artifactDir, publishOrder(names, target.fileName))
      return { files, report: result.report, requirementMet: result.requirementMet }
    } finally {
      await output.discard()
    }
  } finally {
    await closing
  }
}

/** The model through the GPU worker; a dataset through an inspect child, which lives as long as it is needed. */
async function describeInputs(
  path: string,
  datasetPath: string | null,
  worker: DescribingWorker,
  signal: AbortSignal | undefined,
): Promise<{ model: GatheredModel; summary: ModelSummary }> {
  if (datasetPath === null) {
    const model = await gatherThrough(worker, path, signal)
    const { summary } = await worker.describe(model.files, { signal })
    return { model, summary }
  }
  return withInspectChild(async (inspect) => {
    const model = await gatherThrough(worker, path, signal)
    await inspect.describeDataset(datasetPath, { signal })
    const { summary } = await worker.describe(model.files, { signal })
    await inspect.matchDataset(datasetPath, summary, { signal })
    return { model, summary }
  })
}

/** Validation is loaded only when it is wanted. */
const loadedValidation: Parameters<typeof runJob>[1]['validate'] = async (spec, options) => {
  const { validateArtifact } = await import('../validate/validate-artifact.ts')
  return validateArtifact(spec, options)
}

/** For a run without validation. Throws request_invalid. */
export function refuseUnjudgeable(requirements: readonly Requirement[], dataset: string | undefined): void {
  const accuracy = requirements.find(({ metric, maxLatencyRatio }) => metric ?? maxLatencyRatio)
  if (dataset === undefined && accuracy === undefined) return
  const what = accuracy
    ? `the requirement on ${accuracy.metric ?? 'latency'} cannot be judged`
    : `the dataset "${dataset}" has no use`
  throw new AppError(
    'request_invalid',
    `${what} without validation; leave out --no-validate (in code: validate: false)`,
  )
}

/** Companions first: whoever sees the main file finds the others there. */
export function publishOrder(names: readonly string[], mainName: string): string[] {
  const others = names.filter((name) => name !== mainName)
  return names.length === others.length ? others : [...others, mainName]
}
