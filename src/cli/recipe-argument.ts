// The --recipe argument: a preset expression, a recipe file, or recipe text in YAML or JSON (as reports quote it).

import { readFile } from 'node:fs/promises'
import { AppError } from '../errors.ts'
import { findPreset, PRESETS } from '../jobs/presets.ts'
import { type RecipeDocument, resolveRecipe } from '../jobs/recipe.ts'
import { type Command, type CommandLine, nearest, usage } from './command.ts'

/** Resolves --recipe of a command that needs one. Throws usage, recipe_invalid, not_found. */
export async function recipeOf(command: Command, args: CommandLine): Promise<RecipeDocument> {
  const argument = args.text('recipe')
  if (argument === undefined) {
    throw usage(command, `--recipe is missing: one of ${PRESETS.map(({ name }) => name).join(', ')}, or a recipe file`)
  }
  const terms = argument.split('+').map((term) => term.trim())
  if (terms.every((term) => findPreset(term) !== undefined)) return resolveRecipe(argument)
  if (/[{\n]/.test(argument)) return resolveRecipe(argument)
  return resolveFile(argument, terms)
}

async function resolveFile(path: string, terms: string[]): Promise<RecipeDocument> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code !== 'ENOENT') throw new AppError('not_found', `recipe file "${path}" cannot be read (${code})`, {}, error)
    const names = PRESETS.map(({ name }) => name)
    const stranger = terms.find((term) => findPreset(term) === undefined) ?? path
    const near = nearest(stranger, names)
    const hint = near ? `did you mean ${near}?` : `presets are ${names.join(', ')}`
    throw new AppError('usage', `"${stranger}" is neither a preset nor a recipe file; ${hint}`)
  }
  try {
    const document = resolveRecipe(text.trimStart().startsWith('{') ? text : `${text}\n`)
    return document
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    throw new AppError(error.code, `${path}: ${error.detail}`, error.context, error)
  }
}
