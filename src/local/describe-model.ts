// What a model file holds, and what a recipe would do to it, without a server: the inspect child reads the file. Entries:
// inspectModel() and planModel(). Nothing is computed or written.

import type { ModelDescription, PlanDocument } from '../jobs/protocol.ts'
import { gatherThrough, withInspectChild } from './children.ts'
import type { CompressOptions } from './compress-model.ts'
import { localWork } from './local-work.ts'
import { outputTarget } from './output-files.ts'
import { readRecipe } from './read-recipe.ts'

export type InspectOptions = Pick<CompressOptions, 'model' | 'signal'>
export type PlanOptions = Pick<CompressOptions, 'model' | 'recipe' | 'signal'>

/** Throws AppError. */
export async function inspectModel({ model, signal }: InspectOptions): Promise<ModelDescription> {
  return localWork(signal, () =>
    withInspectChild(async (inspect) => {
      const { files } = await gatherThrough(inspect, model, signal)
      return inspect.describe(files, { signal })
    }),
  )
}

/** Throws AppError. */
export async function planModel({ model, recipe: source, signal }: PlanOptions): Promise<PlanDocument> {
  const { recipe, output } = await readRecipe(source)
  return localWork(signal, () =>
    withInspectChild(async (inspect) => {
      const gathered = await gatherThrough(inspect, model, signal)
      const { fileName } = await outputTarget(gathered, recipe.name, undefined)
      const options = { externalData: 'auto' as const, shardBytes: null, ...output, fileName }
      return inspect.plan(gathered.files, recipe, options, { signal })
    }),
  )
}
