// tensorpress inspect: what a model file holds. The file is read by the inspect child, as a server would.

import { inspectModel } from '../local/describe-model.ts'
import type { Command, CommandLine } from './command.ts'
import { describeLines } from './describe-text.ts'
import { interruptible } from './interrupt.ts'
import { JSON_OPTION, MODEL_POSITIONAL } from './shared-options.ts'

export const command: Command = {
  name: 'inspect',
  summary: 'show what a model file holds',
  description: [
    'Format, inputs and outputs, metadata, and every tensor with its type, shape, bytes and use. Only structure is read, so it takes no longer for a large model.',
  ],
  positionals: [MODEL_POSITIONAL],
  options: { json: JSON_OPTION },
  examples: [
    { line: 'tensorpress inspect model.onnx', meaning: 'a table for people' },
    { line: 'tensorpress inspect llama/ --json | jq .parameterCount', meaning: 'a number for a script' },
  ],
  run: (args: CommandLine) =>
    interruptible(async (signal) => {
      const description = await inspectModel({ model: args.positionals[0]!, signal })
      const text = args.given('json') ? JSON.stringify(description) : describeLines(description).join('\n')
      process.stdout.write(`${text}\n`)
      return 0
    }),
}
