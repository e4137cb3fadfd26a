// What `tensorpress compress` does around the work itself, which is that of src/local/compress-model.ts or of a server: options,
// progress, report and summary. Entry: compressFile.

import { AppError } from '../errors.ts'
import type { CompressOptions, CompressOutcome } from '../local/compress-model.ts'
import type { Command, CommandLine } from './command.ts'
import { progressDisplay, type ShownProgress } from './progress-display.ts'
import { checkReportOption, writeReport } from './report-file.ts'
import { summaryLines } from './report-text.ts'
import { recipeOption } from './shared-options.ts'

export interface CompressWork extends Omit<CompressOptions, 'device' | 'onProgress'> {
  signal: AbortSignal
  onProgress(progress: ShownProgress): void
}

/** Resolves with the exit code. */
export async function compressFile(
  command: Command,
  args: CommandLine,
  work: (options: CompressWork) => Promise<CompressOutcome>,
  signal: AbortSignal,
): Promise<number> {
  const recipe = recipeOption(command, args)
  const overwrite = args.given('force')
  const report = await checkReportOption(command, args.text('report'), overwrite)
  const display = progressDisplay(process.stderr, { quiet: args.given('json') })
  try {
    const outcome = await work({
      model: args.positionals[0]!,
      recipe,
      output: args.text('output'),
      dataset: args.text('dataset'),
      require: args.texts('require'),
      validate: !args.given('no-validate'),
      overwrite,
      signal,
      onProgress: display.show,
    })
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
