// What `tensorpress compress` does once its GPU worker is on the way: options, progress, the work of
// src/local/compress-model.ts, report and summary. Entry: compressFile.

import { AppError } from '../errors.ts'
import type { DescribingWorker } from '../jobs/worker-pool.ts'
import { type CompressOutcome, compressModel } from '../local/compress-model.ts'
import type { Command, CommandLine } from './command.ts'
import { progressDisplay } from './progress-display.ts'
import { checkReportOption, writeReport } from './report-file.ts'
import { summaryLines } from './report-text.ts'
import { recipeOption } from './shared-options.ts'

/** Resolves with the exit code. Closes the worker as soon as nothing more is asked of it. */
export async function compressFile(
  command: Command,
  args: CommandLine,
  worker: DescribingWorker,
  signal: AbortSignal,
): Promise<number> {
  const recipe = recipeOption(command, args)
  const overwrite = args.given('force')
  const report = await checkReportOption(command, args.text('report'), overwrite)
  const display = progressDisplay(process.stderr, { quiet: args.given('json') })
  try {
    const outcome = await compressModel(
      {
        model: args.positionals[0]!,
        recipe,
        output: args.text('output'),
        dataset: args.text('dataset'),
        require: args.texts('require'),
        validate: !args.given('no-validate'),
        overwrite,
        signal,
        onProgress: display.show,
      },
      worker,
    )
    display.end()
    await writeReport(report, outcome.report)
    return conclude(args, outcome)
  } finally {
    display.end()
  }
}

function conclude(args: CommandLine, { files, report, requirementMet }: CompressOutcome): number {
  if (args.given('json')) process.stdout.write(`${JSON.stringify({ written: files, report })}\n`)
  else process.stdout.write(`${summaryLines(report, files).join('\n')}\n`)
  if (requirementMet !== false) return 0
  throw new AppError('requirement_not_met', `${report.verdict.sentence} Nothing was written.`, {})
}
