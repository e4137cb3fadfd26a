// tensorpress compress: one job, here or on a server. The GPU worker is started before anything else is loaded: its start is what
// a short run waits for. The work itself is in src/cli/compress-file.ts.

import { PRESETS } from '../jobs/presets.ts'
import { withGpuWorker } from '../local/children.ts'
import type { Command, CommandLine } from './command.ts'
import { interruptible } from './interrupt.ts'
import { serverOf } from './server-argument.ts'
import {
  DATASET_OPTION,
  DEVICE_OPTION,
  JSON_OPTION,
  MODEL_POSITIONAL,
  RECIPE_OPTION,
  REQUIRE_OPTION,
  SERVER_OPTIONS,
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
    ...SERVER_OPTIONS,
    json: JSON_OPTION,
  },
  examples: [
    { line: 'tensorpress compress model.onnx --recipe int8', meaning: 'writes model.int8.onnx' },
    {
      line: 'tensorpress compress mnist.onnx -r prune-50+int8 --dataset t10k.npz --require metric=top1,maxDrop=0.01 --report r.html',
      meaning: 'prune, then int8; at most one point of top-1 may be lost; the report as a page',
    },
    { line: 'tensorpress compress llama/ -r int4 -o llama-int4/', meaning: 'a sharded checkpoint' },
    {
      line: 'tensorpress compress model.onnx -r int8 --server http://gpu:8080',
      meaning: 'the same on a server: sends the model unless it is there, fetches the result',
    },
  ],
  run(args: CommandLine) {
    const server = serverOf(command, args)
    return interruptible(async (signal) => {
      if (server !== null) {
        const [{ compressFile }, { compressOnServer }, { connect }] = await Promise.all([
          import('./compress-file.ts'),
          import('./remote-compress.ts'),
          import('./remote-server.ts'),
        ])
        const client = await connect(server, args)
        return compressFile(command, args, (options) => compressOnServer(client, options), signal)
      }
      return withGpuWorker(args.text('device'), async (worker) => {
        const [{ compressFile }, { compressModel }] = await Promise.all([
          import('./compress-file.ts'),
          import('../local/compress-model.ts'),
        ])
        return compressFile(command, args, (options) => compressModel(options, worker), signal)
      })
    })
  },
}
