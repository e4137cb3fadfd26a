// Options that mean the same in several commands, with one wording.

import { PRESETS } from '../jobs/presets.ts'
import { type Command, type CommandLine, type OptionSpec, type PositionalSpec, usage } from './command.ts'

export const MODEL_POSITIONAL: PositionalSpec = {
  name: 'MODEL',
  summary: 'an .onnx or .safetensors file, a .safetensors.index.json, or a folder that holds one model',
  required: true,
}
export const DEVICE_OPTION: OptionSpec = {
  value: 'NAME',
  summary: 'where kernels run: auto (default), reference, or a part of an adapter name',
}
export const JSON_OPTION: OptionSpec = { summary: 'print one JSON document on standard output, for machines' }
export const RECIPE_OPTION: OptionSpec = {
  value: 'R',
  short: 'r',
  summary: 'a preset name, presets joined by "+", or a recipe file (.yaml, .yml, .json)',
}
export const REQUIRE_OPTION: OptionSpec = {
  value: 'COND',
  summary: 'what the result must keep to, such as metric=top1,maxDrop=0.01 or maxSizeRatio=0.5; unmet: status 4',
  multiple: true,
}
export const DATASET_OPTION: OptionSpec = {
  value: 'D.npz',
  summary: 'inputs by name, one array each, and optional labels; without it seeded synthetic inputs are used',
}
/** Of the commands that can have a server do the work. */
export const SERVER_OPTIONS: Record<'server' | 'api-key-file', OptionSpec> = {
  server: {
    value: 'URL',
    summary: 'have a Tensorpress server do the work (default: TENSORPRESS_SERVER; unset: this machine)',
  },
  'api-key-file': {
    value: 'FILE',
    summary: 'file that holds the API key for the server (default: the key in TENSORPRESS_API_KEY)',
  },
}

/** --recipe of a command that needs one. Throws usage. */
export function recipeOption(command: Command, args: CommandLine): string {
  const recipe = args.text('recipe')
  if (recipe !== undefined) return recipe
  throw usage(command, `--recipe is missing: one of ${PRESETS.map(({ name }) => name).join(', ')}, or a recipe file`)
}
