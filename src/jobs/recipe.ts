// Recipes: what a user asks for. Entry: resolveRecipe(preset expression | YAML/JSON text | object) -> every default filled
// in, every key checked; canonicalRecipeJson gives the bytes that artifact keys hash. Keys of a step's method stand beside
// `method` (or under `params`); docs/recipes.md shows a full example.

import { createRequire } from 'node:module'
import { z } from 'zod'
import { AppError } from '../errors.ts'
import { METHODS } from '../methods/index.ts'
import { METHOD_PARAMS } from '../methods/params.ts'
import type { OutputOptions, WeightRole } from '../tensor/model.ts'
import { parseRequirements } from '../validate/requirement.ts'
import { findPreset, PRESETS } from './presets.ts'
import type { ResolvedRecipe, ResolvedStep } from './protocol.ts'

/** What a recipe says about the artifact's files; absent keys keep the caller's values. */
export type RecipeOutput = Partial<Pick<OutputOptions, 'externalData' | 'shardBytes'>>

export interface RecipeDocument {
  recipe: ResolvedRecipe
  output: RecipeOutput
  /** As parseRequirements takes it, which has checked it; null when the recipe has none. */
  require: unknown
}

/** Recipes are written by people: a bound on text and steps keeps a hostile one cheap to refuse. */
const MAX_RECIPE_CHARACTERS = 256 * 1024
const MAX_STEPS = 64
const MAX_GLOBS = 1024

/** Below this, scale, header and operator overhead outweigh what is saved. */
export const DEFAULT_MIN_ELEMENTS = 128

const ALL_ROLES = [
  'matmul',
  'gemm',
  'conv',
  'conv-transpose',
  'lstm',
  'gru',
  'gather',
  'matrix',
  'bias',
  'norm',
  'other',
] as const satisfies WeightRole[]

/** Roles that a step selects when it names none: everything but biases, norms and unclear uses. */
export const DEFAULT_ROLES: readonly WeightRole[] = ALL_ROLES.filter(
  (role) => role !== 'bias' && role !== 'norm' && role !== 'other',
)

/** ONNX operator names that may stand in `select.ops`, and the role each means. */
const ROLE_OF_OP: Record<string, WeightRole> = {
  MatMul: 'matmul',
  Gemm: 'gemm',
  Conv: 'conv',
  ConvTranspose: 'conv-transpose',
  LSTM: 'lstm',
  GRU: 'gru',
  Gather: 'gather',
}

const globs = z.union([
  z
    .string()
    .min(1)
    .transform((glob) => [glob]),
  z.array(z.string().min(1)).max(MAX_GLOBS),
])

const selectSchema = z.strictObject({
  names: globs.optional(),
  exclude: globs.optional(),
  roles: z.array(z.enum(ALL_ROLES)).min(1).optional(),
  ops: z
    .array(z.enum(Object.keys(ROLE_OF_OP) as [string, ...string[]]))
    .min(1)
    .optional(),
  min_elements: z.int().min(0).optional(),
  /** The spelling of a resolved recipe, so that the recipe in a report can be sent again. */
  minElements: z.int().min(0).optional(),
})

/** No file system holds a file of 2^50 bytes. */
export const MAX_SHARD_BYTES = 2 ** 50

const outputSchema = z.strictObject({
  externalData: z.union([z.literal('auto'), z.boolean()]).optional(),
  shardBytes: z.union([z.int().min(1024).max(MAX_SHARD_BYTES), z.null()]).optional(),
})

const recipeSchema = z.strictObject({
  version: z.literal(1).optional(),
  name: z.string().min(1).max(200).optional(),
  steps: z.array(z.looseObject({})).min(1).max(MAX_STEPS),
  select: selectSchema.optional(),
  output: outputSchema.optional(),
  require: z.unknown().optional(),
})

const stepHeadSchema = z.looseObject({
  method: z.string().optional(),
  preset: z.string().optional(),
  select: selectSchema.optional(),
  params: z.record(z.string(), z.unknown()).optional(),
})

type Select = z.output<typeof selectSchema>

function fail(path: string, detail: string): never {
  throw new AppError('recipe_invalid', path === '' ? detail : `${path}: ${detail}`, { path })
}

function check<T>(schema: z.ZodType<T>, value: unknown, at: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const keys = issue?.code === 'unrecognized_keys' ? [issue.keys[0] ?? ''] : []
  const path = [...(issue?.path ?? []), ...keys].reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text === '' ? String(key) : `${text}.${String(key)}`),
    at,
  )
  fail(path, issue?.code === 'unrecognized_keys' ? 'unknown key' : (issue?.message ?? 'not valid'))
}

function checkLength(text: string): void {
  if (text.length > MAX_RECIPE_CHARACTERS) {
    fail('', `the recipe has ${text.length} characters, at most ${MAX_RECIPE_CHARACTERS} are allowed`)
  }
}

/** Loaded when a recipe is text: 72 modules that a preset does not need. */
function parseYaml(text: string): unknown {
  const { parse } = createRequire(import.meta.url)('yaml') as typeof import('yaml')
  return parse(text, { maxAliasCount: 100 })
}

/** Parses YAML or JSON text (JSON is YAML). Throws recipe_invalid with the line of the first problem. */
export function parseRecipe(text: string): unknown {
  checkLength(text)
  try {
    return parseYaml(text)
  } catch (error) {
    fail('', `not readable as YAML or JSON: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`)
  }
}

/** A preset expression such as `int8` or `prune-50+int8`; null when the text is not of that form. */
function stepsOfExpression(expression: string): { method: string; params: Record<string, unknown> }[] | null {
  if (!/^[a-z0-9-]+(\s*\+\s*[a-z0-9-]+)*$/.test(expression)) return null
  return expression.split('+').flatMap((term) => {
    const preset = findPreset(term.trim())
    if (preset === undefined) {
      const names = PRESETS.map(({ name }) => name).join(', ')
      fail('', `there is no preset "${term.trim()}"; presets are ${names}; or give a recipe as YAML or JSON`)
    }
    return preset.steps
  })
}

/**
 * Resolves what a user gave into a recipe with every default written out. A string is a preset expression or recipe text;
 * file names are the caller's business. Throws recipe_invalid; `context.path` names the key.
 */
export function resolveRecipe(input: string | object): RecipeDocument {
  if (typeof input === 'string') {
    checkLength(input)
    const expression = input.trim()
    const steps = stepsOfExpression(expression)
    if (steps !== null) {
      const resolved = steps.map((step, index) => resolveStep(step.method, step.params, [], `steps[${index}]`))
      return {
        recipe: { version: 1, name: expression.replaceAll(/\s+/g, ''), steps: resolved },
        output: {},
        require: null,
      }
    }
    return resolveObject(parseRecipe(input))
  }
  return resolveObject(input)
}

function resolveObject(value: unknown): RecipeDocument {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    fail('', 'a recipe is a preset expression or an object with `steps`')
  }
  refuseProto(value, '', new Set())
  const recipe = check(recipeSchema, value, '')
  checkRequire(recipe.require)
  const steps = recipe.steps.flatMap((step, index) => resolveUserStep(step, recipe.select, `steps[${index}]`))
  return {
    recipe: { version: 1, name: recipe.name ?? steps.map((step) => step.method).join('+'), steps },
    output: {
      ...(recipe.output?.externalData === undefined ? {} : { externalData: recipe.output.externalData }),
      ...(recipe.output?.shardBytes === undefined ? {} : { shardBytes: recipe.output.shardBytes }),
    },
    require: recipe.require ?? null,
  }
}

/** Schemas pass over a key `__proto__` without a word; it is as unknown as any other. `seen` ends at YAML aliases. */
function refuseProto(value: unknown, at: string, seen: Set<unknown>): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return
  seen.add(value)
  for (const [key, inner] of Object.entries(value)) {
    const path = Array.isArray(value) ? `${at}[${key}]` : at === '' ? key : `${at}.${key}`
    if (key === '__proto__') fail(path, 'unknown key')
    refuseProto(inner, path, seen)
  }
}

/** So that a plan, which requires nothing, refuses it too. */
function checkRequire(require: unknown): void {
  try {
    parseRequirements(require)
  } catch (error) {
    const { detail, context } = AppError.from(error)
    throw new AppError('recipe_invalid', detail, context, error)
  }
}

function resolveUserStep(step: Record<string, unknown>, base: Select | undefined, at: string): ResolvedStep[] {
  const { method, preset, select, params, ...inline } = check(stepHeadSchema, step, at)
  const selects = [base, select].filter((entry) => entry !== undefined)
  if ((method === undefined) === (preset === undefined)) {
    fail(at, `give exactly one of method and preset; methods are ${METHODS.map(({ id }) => id).join(', ')}`)
  }
  if (preset !== undefined) {
    const key = Object.keys({ ...inline, ...params })[0]
    if (key !== undefined) fail(`${at}.${key}`, 'unknown key: a preset step takes only `select`')
    const steps = stepsOfExpression(preset) ?? fail(`${at}.preset`, `"${preset}" is not a preset expression`)
    return steps.map((entry) => resolveStep(entry.method, entry.params, selects, at))
  }
  if (params !== undefined) {
    const key = Object.keys(inline)[0]
    if (key !== undefined)
      fail(`${at}.${key}`, 'unknown key: parameters stand in `params` or beside `method`, not both')
  }
  return [resolveStep(method ?? '', params ?? inline, selects, at)]
}

function resolveStep(id: string, params: Record<string, unknown>, selects: Select[], at: string): ResolvedStep {
  const schema = METHOD_PARAMS.get(id)
  if (schema === undefined) {
    fail(`${at}.method`, `there is no method "${id}"; methods are ${METHODS.map((entry) => entry.id).join(', ')}`)
  }
  const resolved = check(schema, params, at) as Record<string, unknown>
  return { method: id, params: resolved, select: resolveSelect(selects, at) }
}

/** The step's own select wins over the recipe's key by key, except `exclude`, which adds up. */
function resolveSelect(selects: Select[], at: string): ResolvedStep['select'] {
  const select: ResolvedStep['select'] = {
    names: ['**'],
    exclude: [],
    roles: [...DEFAULT_ROLES],
    minElements: DEFAULT_MIN_ELEMENTS,
  }
  for (const entry of selects) {
    if (entry.names !== undefined) select.names = entry.names
    if (entry.exclude !== undefined) select.exclude = [...select.exclude, ...entry.exclude]
    if (entry.roles !== undefined && entry.ops !== undefined) fail(`${at}.select.ops`, 'give roles or ops, not both')
    if (entry.roles !== undefined) select.roles = entry.roles
    if (entry.ops !== undefined) select.roles = entry.ops.map((op) => ROLE_OF_OP[op] ?? 'other')
    select.minElements = entry.min_elements ?? entry.minElements ?? select.minElements
  }
  return select
}

/** JSON with sorted keys and no spaces: equal recipes give equal text. The name is left out, as it changes no byte. */
export function canonicalRecipeJson(recipe: ResolvedRecipe): string {
  return JSON.stringify({ steps: recipe.steps, version: recipe.version }, (_key, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
      : value,
  )
}
