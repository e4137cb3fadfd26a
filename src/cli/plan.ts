// tensorpress plan: what a recipe would do to each tensor and why. Nothing is computed or written.

import { planModel } from '../local/describe-model.ts'
import type { Command, CommandLine } from './command.ts'
import { planLines } from './describe-text.ts'
import { interruptible } from './interrupt.ts'
import { serverOf } from './server-argument.ts'
import { JSON_OPTION, MODEL_POSITIONAL, RECIPE_OPTION, recipeOption, SERVER_OPTIONS } from './shared-options.ts'

export const command: Command = {
  name: 'plan',
  summary: 'show what a recipe would do to each tensor and why',
  description: [
    'Sizes are exact: they follow from shapes. What only the data can tell (NaN in a weight, a value beyond fp16) is found by compress.',
  ],
  positionals: [MODEL_POSITIONAL],
  options: { recipe: RECIPE_OPTION, ...SERVER_OPTIONS, json: JSON_OPTION },
  examples: [
    { line: 'tensorpress plan model.onnx --recipe int4', meaning: 'a table: what, why, bytes before and after' },
    { line: 'tensorpress plan model.onnx --recipe my-recipe.yaml --json', meaning: 'the same as one JSON document' },
  ],
  async run(args: CommandLine) {
    const recipe = recipeOption(command, args)
    const server = serverOf(command, args)
    return interruptible(async (signal) => {
      const options = { model: args.positionals[0]!, recipe, signal }
      const plan =
        server === null
          ? await planModel(options)
          : await (await import('./remote-describe.ts')).planOnServer(server, args, options)
      process.stdout.write(`${args.given('json') ? JSON.stringify(plan) : planLines(plan).join('\n')}\n`)
      return 0
    })
  },
}
