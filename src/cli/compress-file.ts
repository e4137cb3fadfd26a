// What `tensorpress compress` does once its GPU worker is on the way: recipe and options, description of the model, the job,
// and the outputs. The artifact is made in a private folder beside its target and moved there when validation and requirement
// have passed. Entry: compressFile.

import { randomUUID } from 'node:crypto'
import { AppError } from '../errors.ts'
import { defaultValidationSettings, type JobResult, runJob } from '../jobs/run-job.ts'
import type { DescribingWorker } from '../jobs/worker-pool.ts'
import type { ModelSummary } from '../tensor/model.ts'
import { parseRequirements, type Requirement } from '../validate/requirement.ts'
import { gatherThrough, withInspectChild } from './children.ts'
import { type Command, type CommandLine, usage } from './command.ts'
import { datasetFile } from './dataset-file.ts'
import type { GatheredModel } from './model-files.ts'
import { openOutput, outputTarget, refuseInput } from './output-files.ts'
import { progressDisplay } from './progress-display.ts'
import { recipeOf } from './recipe-argument.ts'
import { checkReportOption, writeReport } from './report-file.ts'
import { summaryLines } from './report-text.ts'

/** Resolves with the exit code. Closes the worker as soon as nothing more is asked of it. */
export async function compressFile(
  command: Command,
  args: CommandLine,
  worker: DescribingWorker,
  signal: AbortSignal,
): Promise<number> {
  const { recipe, output: recipeOutput, require: recipeRequire } = await recipeOf(command, args)
  const requirements = [...parseRequirements(recipeRequire), ...args.texts('require').flatMap(parseRequirements)]
  const validate = !args.given('no-validate')
  checkCombination(command, args, requirements)
  const force = args.given('force')
  const report = await checkReportOption(command, args.text('report'), force)
  const display = progressDisplay(process.stderr, { quiet: args.given('json') })
  let closing: Promise<void> | undefined
  const compress: DescribingWorker['compress'] = async (spec, options) => {
    const compressed = await worker.compress(spec, options)
    // Its memory goes back while the result is judged and published.
    closing = worker.close()
    return compressed
  }
  try {
    const dataset = await datasetFile(args.text('dataset'))
    const { model, summary } = await describeInputs(args.positionals[0]!, dataset?.path ?? null, worker, signal)
    const target = await outputTarget(model, recipe.name, args.text('output'))
    await refuseInput(target, model)
    const output = await openOutput(target, force)
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
        { signal, onProgress: display.show },
      )
      display.end()
      const written = result.requirementMet === false ? [] : await publish(output, result, target.fileName)
      await writeReport(report, result.report)
      return conclude(args, result, written)
    } finally {
      await output.discard()
    }
  } finally {
    display.end()
    await closing
  }
}

/** The model through the GPU worker; a dataset through an inspect child, which lives as long as it is needed. */
async function describeInputs(
  argument: string,
  datasetPath: string | null,
  worker: DescribingWorker,
  signal: AbortSignal,
): Promise<{ model: GatheredModel; summary: ModelSummary }> {
  if (datasetPath === null) {
    const model = await gatherThrough(worker, argument, signal)
    const { summary } = await worker.describe(model.files, { signal })
    return { model, summary }
  }
  return withInspectChild(async (inspect) => {
    const model = await gatherThrough(worker, argument, signal)
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

function checkCombination(command: Command, args: CommandLine, requirements: Requirement[]): void {
  if (!args.given('no-validate')) return
  if (args.given('dataset')) throw usage(command, '--dataset has no use with --no-validate')
  const accuracy = requirements.find(({ metric, maxLatencyRatio }) => metric ?? maxLatencyRatio)
  if (accuracy) {
    throw usage(command, `the requirement on ${accuracy.metric ?? 'latency'} cannot be judged with --no-validate`)
  }
}

/** Companions first: whoever sees the main file finds the others there. */
async function publish(
  output: Awaited<ReturnType<typeof openOutput>>,
  result: JobResult,
  mainName: string,
): Promise<string[]> {
  const names = result.report.artifact.files.map(({ name }) => name)
  const others = names.filter((name) => name !== mainName)
  return output.publish(result.artifactDir, names.length === others.length ? others : [...others, mainName])
}

function conclude(args: CommandLine, result: JobResult, written: string[]): number {
  const { report } = result
  if (args.given('json')) process.stdout.write(`${JSON.stringify({ written, report })}\n`)
  else process.stdout.write(`${summaryLines(report, written).join('\n')}\n`)
  if (result.requirementMet !== false) return 0
  throw new AppError('requirement_not_met', `${report.verdict.sentence} Nothing was written.`, {})
}
