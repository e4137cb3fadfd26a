// Names of results, so that equal work is done once. artifactKey covers everything that decides the artifact's bytes (model
// files, resolved recipe, output options, version), validationKey everything that decides a validation's figures.
// Requirements are in neither: they are judged for every job.

import { createHash } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { OutputOptions } from '../tensor/model.ts'
import { VERSION } from '../version.ts'
import type { ResolvedRecipe, ValidateSpec } from './protocol.ts'
import { canonicalRecipeJson } from './recipe.ts'

export interface ModelFileHash {
  name: string
  sha256: string
}

/** How a validation is run; part of its key. */
export type ValidationSettings = Pick<ValidateSpec, 'seed' | 'threads' | 'x64QuantPrecision' | 'latencyRuns'>

/** @param files in the order in which they form the model, the main one first. */
export function artifactKey(files: readonly ModelFileHash[], recipe: ResolvedRecipe, output: OutputOptions): string {
  const { externalData, shardBytes, fileName } = output
  return digest([
    'artifact',
    VERSION,
    files.map(({ name, sha256 }) => [name, sha256]),
    canonicalRecipeJson(recipe),
    { externalData, shardBytes, fileName },
  ])
}

export function validationKey(artifact: string, datasetSha256: string | null, settings: ValidationSettings): string {
  const { seed, threads, x64QuantPrecision, latencyRuns } = settings
  return digest(['validation', artifact, datasetSha256, { seed, threads, x64QuantPrecision, latencyRuns }])
}

/** A digest of any JSON value that does not depend on the order of its keys. */
export function digest(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex')
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
}

/** File systems take 255; a name gets `.data` or `-00001-of-00002` appended for the other files of an artifact. */
export const MAX_ARTIFACT_NAME_BYTES = 200
/** Longer endings are no file type, they are a part of the name behind a dot. */
const MAX_ENDING_BYTES = 40
const MAX_SLUG_BYTES = 120

/** C0, DEL and C1, as they stand in a character class. */
const CONTROL = '\\u0000-\\u001f\\u007f-\\u009f'
/** A bare name: no folder, no control character, not hidden. Without \p: the OpenAPI document has it too. */
export const ARTIFACT_NAME = new RegExp(`^[^./\\\\${CONTROL}][^/\\\\${CONTROL}]*$`, 'u')

/** Throws request_invalid for a chosen name that is no ARTIFACT_NAME, too long, or holds half a surrogate pair, which no URL can. */
export function checkArtifactName(name: string): void {
  const bytes = Buffer.byteLength(name)
  if (bytes <= MAX_ARTIFACT_NAME_BYTES && ARTIFACT_NAME.test(name) && name.isWellFormed()) return
  throw new AppError(
    'request_invalid',
    `output.fileName: ${JSON.stringify(name)} (${bytes} bytes) is not a bare file name of at most ${MAX_ARTIFACT_NAME_BYTES} bytes in UTF-8: no slash, backslash or control character in it, no dot in front.`,
    { path: 'output.fileName' },
  )
}

/**
 * The artifact's file name: `mnist.onnx` with recipe `int8` is `mnist.int8.onnx`. An index of shards keeps its name, since
 * loaders look for it. Any other is an ARTIFACT_NAME of at most MAX_ARTIFACT_NAME_BYTES: of a longer one the middle is left out.
 */
export function artifactFileName(mainName: string, recipeName: string): string {
  const found = mainName.slice(mainName.lastIndexOf('/') + 1)
  if (found.endsWith('.index.json')) return found
  const base = bareName(found)
  const dot = base.lastIndexOf('.')
  const ending = dot > 0 && Buffer.byteLength(base.slice(dot)) <= MAX_ENDING_BYTES ? base.slice(dot) : ''
  const slug = firstBytes(recipeName.replaceAll(/[^A-Za-z0-9+._-]+/g, '-'), MAX_SLUG_BYTES)
  const behind = `.${slug}${ending}`
  const stem = base.slice(0, base.length - ending.length)
  return firstBytes(stem, MAX_ARTIFACT_NAME_BYTES - Buffer.byteLength(behind)) + behind
}

/** Without control characters and the dots that would hide it. */
function bareName(base: string): string {
  return base.replace(/^\.+/, '').replaceAll(/[\\\p{Cc}]/gu, '-') || 'model'
}

/** The longest beginning of `text` that has at most `bytes` in UTF-8; no character is cut through. */
function firstBytes(text: string, bytes: number): string {
  let end = 0
  let taken = 0
  for (const character of text) {
    taken += Buffer.byteLength(character)
    if (taken > bytes) break
    end += character.length
  }
  return text.slice(0, end)
}
