// Compresses with the real GPU worker, started once for many jobs: compressInWorker. Artifacts stay in their output folders.

import { randomUUID } from 'node:crypto'
import { mkdirSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import { createGpuWorker, type GpuWorker } from '../../src/jobs/worker-pool.ts'

/** A worker on the default device; the shader cache is shared by all test runs. The caller closes it. */
export function startWorker(): GpuWorker {
  return createGpuWorker('auto', { shaderCache: join(tmpdir(), 'tensorpress-test-shaders') })
}

/** Writes the artifact of `model` into the new folder `outputDir`; returns the path of its main file. */
export async function compressInWorker(
  worker: GpuWorker,
  model: string,
  recipe: string,
  outputDir: string,
): Promise<string> {
  mkdirSync(outputDir)
  const fileName = basename(model)
  await worker.compress({
    jobId: randomUUID(),
    attempt: 1,
    files: [{ name: fileName, path: model, sizeBytes: statSync(model).size }],
    recipe: resolveRecipe(recipe).recipe,
    output: { externalData: 'auto', shardBytes: null, fileName },
    outputDir,
    measure: false,
  })
  return join(outputDir, fileName)
}
