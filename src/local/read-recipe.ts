// The recipe that somebody gave on their own machine: a preset expression, the name of a recipe file, recipe text in YAML or
// JSON (as reports quote it), or an object. Entry: readRecipe().

import { readFile } from 'node:fs/promises'
import { AppError } from '../errors.ts'
import { findPreset, PRESETS } from '../jobs/presets.ts'
import { type RecipeDocument, resolveRecipe } from '../jobs/recipe.ts'
import { nearest } from '../nearest.ts'

/** Throws recipe_invalid, not_found. */
export async function readRecipe(source: string | object): Promise<RecipeDocument> {
  if (typeof source !== 'string') return resolveRecipe(source)
  const terms = source.split('+').map((term) => term.trim())
  if (terms.every((term) => findPreset(term) !== undefined)) return resolveRecipe(source)
  if (/[{\n]/.test(source)) return resolveRecipe(source)
  return resolveFile(source, terms)
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
    throw new AppError('recipe_invalid', `"${stranger}" is neither a preset nor a recipe file; ${hint}`)
  }
  try {
    const document = resolveRecipe(text.trimStart().startsWith('{') ? text : `${text}\n`)
    return document
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    throw new AppError(error.code, `${path}: ${error.detail}`, error.context, error)
  }
}
