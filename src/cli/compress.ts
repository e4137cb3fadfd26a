// tensorpress compress: one job without a server. The GPU worker starts while the inspect child reads the model; the artifact
// is made in a private folder beside its target and moved there when validation and requirement have passed.

import { randomUUID } from 'node:crypto'
import { AppError } from '../errors.ts'
import { PRESETS } from '../jobs/presets.ts'
import { defaultValidationSettings, type JobResult, runJob } from '../jobs/run-job.ts'
import { createGpuWorker } from '../jobs/worker-pool.ts'
import { parseRequirements, type Requirement } from '../validate/requirement.ts'
import { gatherThrough, shaderCacheFolder, withInspectChild } from './children.ts'
import { type Command, type CommandLine, usage } from './command.ts'
import { datasetFile } from './dataset-file.ts'
import { interruptible } from './interrupt.ts'
import { openOutput, outputTarget, refuseInput } from './output-files.ts'
import { progressDisplay } from './progress-display.ts'
import { recipeOf } from './recipe-argument.ts'
import { checkReportOption, writeReport } from './report-file.ts'
import { summaryLines } from './report-text.ts'
import {
  DATASET_OPTION,
  DEVICE_OPTION,
  JSON_OPTION,
  MODEL_POSITIONAL,
  RECIPE_OPTION,
  REQUIRE_OPTION,
} from './shared-options.ts'

const REPORT_OPTION = { value: 'FILE', summary: 'write the report there: .json, or .html for a page' }
const FORCE_OPTION = { summary: 'replace outputs that exist' }

export const command: Command = {
  name: 'compress',
  summary: 'compress a model, validate the result, write it',
  description: [
    'The output appears only when everything has succeeded. Without -o it is <name>.<recipe>.<ending> in the current folder; a model that is a folder or an index becomes a folder. The same model, recipe and version give the same bytes on every device.',
    `Presets: ${PRESETS.map(({ name }) => name).join(', ')}; prune-1 to prune-99; any of them joined, as in prune-50+int8. docs/recipes.md says what each does and how to write a recipe.`,
  ],
  positionals: [MODEL_POSITIONAL],
  options: {
    recipe: RECIPE_OPTION,
    output: { value: 'OUT', short: 'o', summary: 'where to write: a file, or a folder' },
    dataset: DATASET_OPTION,
    require: REQUIRE_OPTION,
    report: REPORT_OPTION,
    'no-validate': { summary: 'skip validation, hashes of the input, zstd sizes and errors per tensor' },
    force: FORCE_OPTION,
    device: DEVICE_OPTION,
    json: JSON_OPTION,
  },
  examples: [
    { line: 'tensorpress compress model.onnx --recipe int8', meaning: 'writes model.int8.onnx' },
    {
      line: 'tensorpress compress mnist.onnx -r prune-50+int8 --dataset t10k.npz --require metric=top1,maxDrop=0.01 --report r.html',
      meaning: 'prune, then int8; at most one point of top-1 may be lost; the report as a page',
    },
    { line: 'tensorpress compress llama/ -r int4 -o llama-int4/', meaning: 'a sharded checkpoint' },
  ],
  async run(args: CommandLine) {
    const { recipe, output: recipeOutput, require: recipeRequire } = await recipeOf(command, args)
    const requirements = [...parseRequirements(recipeRequire), ...args.texts('require').flatMap(parseRequirements)]
    const validate = !args.given('no-validate')
    checkCombination(args, requirements)
    const force = args.given('force')
    const report = await checkReportOption(command, args.text('report'), force)

    return interruptible(async (signal) => {
      const worker = createGpuWorker(args.text('device') ?? 'auto', { shaderCache: shaderCacheFolder() })
      const started = worker.start()
      started.catch(() => {}) // the same error meets the first request
      const display = progressDisplay(process.stderr, { quiet: args.given('json') })
      try {
        const dataset = await datasetFile(args.text('dataset'))
        const { model, summary } = await withInspectChild(async (inspect) => {
          const gathered = await gatherThrough(inspect, args.positionals[0]!, signal)
          if (dataset !== null) await inspect.describeDataset(dataset.path, { signal })
          const { summary } = await inspect.describe(gathered.files, { signal })
          if (dataset !== null) await inspect.matchDataset(dataset.path, summary, { signal })
          return { model: gathered, summary }
        })
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
            { compress: worker.compress, validate: loadedValidation, store: null },
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
        await worker.close()
      }
    })
  },
}

/** Validation is loaded only when it is wanted. */
const loadedValidation: Parameters<typeof runJob>[1]['validate'] = async (spec, options) => {
  const { validateArtifact } = await import('../validate/validate-artifact.ts')
  return validateArtifact(spec, options)
}

function checkCombination(args: CommandLine, requirements: Requirement[]): void {
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
