// The child processes that do the work, with the caches of the user instead of a server's data folder.

import { homedir } from 'node:os'
import { join } from 'node:path'
import {
  createDescribingWorker,
  createInspectChild,
  type DescribingWorker,
  type InspectChild,
  type ModelDescriber,
} from '../jobs/worker-pool.ts'
import { type GatheredModel, gatherModel } from './model-files.ts'

/** Compiled shaders, kept between runs: XDG_CACHE_HOME or ~/.cache. null: this user has no home, and the driver decides. */
export function shaderCacheFolder(): string | null {
  const xdg = process.env['XDG_CACHE_HOME']
  if (xdg) return join(xdg, 'tensorpress', 'shaders')
  try {
    return join(homedir(), '.cache', 'tensorpress', 'shaders')
  } catch {
    return null
  }
}

/** Runs `work` with a GPU worker that starts at once and is closed afterwards. */
export async function withGpuWorker<T>(
  device: string | undefined,
  work: (worker: DescribingWorker) => Promise<T>,
): Promise<T> {
  const worker = createDescribingWorker(device ?? 'auto', { shaderCache: shaderCacheFolder() })
  worker.start().catch(() => {}) // the same error meets the first request
  try {
    return await work(worker)
  } finally {
    await worker.close()
  }
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

/** The files of the model at `path`, with what the main file names gathered through the child. */
export function gatherThrough(
  describer: ModelDescriber,
  path: string,
  signal: AbortSignal | undefined,
): Promise<GatheredModel> {
  return gatherModel(path, (main) => describer.companions(main, { signal }))
}
