// Names of results, so that equal work is done once. artifactKey covers everything that decides the artifact's bytes (model
// files, resolved recipe, output options, version), validationKey everything that decides a validation's figures.
// Requirements are in neither: they are judged for every job.

import { createHash } from 'node:crypto'
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

const LONGEST_STEM = 120

/**
 * The artifact's file name: `mnist.onnx` with recipe `int8` is `mnist.int8.onnx`. An index of shards keeps its name, since
 * loaders look for it.
 */
export function artifactFileName(mainName: string, recipeName: string): string {
  const base = mainName.slice(mainName.lastIndexOf('/') + 1)
  if (base.endsWith('.index.json')) return base
  const dot = base.lastIndexOf('.')
  const stem = (dot > 0 ? base.slice(0, dot) : base).slice(0, LONGEST_STEM)
  const ending = dot > 0 ? base.slice(dot) : ''
  const slug = recipeName.replaceAll(/[^A-Za-z0-9+._-]+/g, '-').slice(0, LONGEST_STEM)
  return `${stem}.${slug}${ending}`
}
