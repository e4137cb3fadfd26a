// tensorpress inspect: what a model file holds. The file is read by the inspect child, as a server would.

import { inspectModel } from '../local/describe-model.ts'
import type { Command, CommandLine } from './command.ts'
import { describeLines } from './describe-text.ts'
import { interruptible } from './interrupt.ts'
import { serverOf } from './server-argument.ts'
import { JSON_OPTION, MODEL_POSITIONAL, SERVER_OPTIONS } from './shared-options.ts'

export const command: Command = {
  name: 'inspect',
  summary: 'show what a model file holds',
  description: [
    'Format, inputs and outputs, metadata, and every tensor with its type, shape, bytes and use. Only structure is read, so it takes no longer for a large model.',
  ],
  positionals: [MODEL_POSITIONAL],
  options: { ...SERVER_OPTIONS, json: JSON_OPTION },
  examples: [
    { line: 'tensorpress inspect model.onnx', meaning: 'a table for people' },
    { line: 'tensorpress inspect llama/ --json | jq .parameterCount', meaning: 'a number for a script' },
  ],
  async run(args: CommandLine) {
    const server = serverOf(command, args)
    return interruptible(async (signal) => {
      const model = args.positionals[0]!
      const description =
        server === null
          ? await inspectModel({ model, signal })
          : await (await import('./remote-describe.ts')).inspectOnServer(server, args, { model, signal })
      const text = args.given('json') ? JSON.stringify(description) : describeLines(description).join('\n')
      process.stdout.write(`${text}\n`)
      return 0
    })
  },
}
