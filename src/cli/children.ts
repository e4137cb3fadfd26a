// The child processes that commands use, with the caches of the user instead of a server's data folder.

import { homedir } from 'node:os'
import { join } from 'node:path'
import { createInspectChild, type InspectChild, type ModelDescriber } from '../jobs/worker-pool.ts'
import { type GatheredModel, gatherModel } from './model-files.ts'

/** Compiled shaders, kept between runs: XDG_CACHE_HOME or ~/.cache. */
export function shaderCacheFolder(): string {
  const base = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache')
  return join(base, 'tensorpress', 'shaders')
}

/** Runs `work` with an inspect child that is closed afterwards. */
export async function withInspectChild<T>(work: (inspect: InspectChild) => Promise<T>): Promise<T> {
  const inspect = createInspectChild({ shaderCache: shaderCacheFolder() })
  try {
    return await work(inspect)
  } finally {
    await inspect.close()
  }
}

/** The files of the MODEL argument, with what the main file names gathered through the child. */
export function gatherThrough(
  describer: ModelDescriber,
  argument: string,
  signal: AbortSignal,
): Promise<GatheredModel> {
  return gatherModel(argument, (main) => describer.companions(main, { signal }))
}
