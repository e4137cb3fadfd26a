// tensorpress validate: compares a compressed model with its original (src/local/validate-model.ts). No device is used.

import { AppError } from '../errors.ts'
import { type ValidateOutcome, validateModel } from '../local/validate-model.ts'
import type { Command, CommandLine } from './command.ts'
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
    return interruptible(async (signal) => {
      const display = progressDisplay(process.stderr, { quiet: args.given('json') })
      try {
        const [original, artifact] = args.positionals as [string, string]
        const outcome = await validateModel({
          original,
          artifact,
          dataset: args.text('dataset'),
          require: args.texts('require'),
          signal,
          onProgress: display.show,
        })
        display.end()
        return conclude(args, outcome)
      } finally {
        display.end()
      }
    })
  },
}

function conclude(args: CommandLine, outcome: ValidateOutcome): number {
  const { validation, metrics, sizeRatio, requirement } = outcome
  const text = args.given('json')
    ? JSON.stringify(outcome)
    : validationLines(validation, metrics, sizeRatio, requirement).join('\n')
  process.stdout.write(`${text}\n`)
  if (requirement === null || requirement.met) return 0
  const unmet = requirement.checks.filter(({ met }) => !met).map(({ sentence }) => sentence)
  throw new AppError('requirement_not_met', unmet.join(' '))
}
