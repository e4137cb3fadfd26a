// Compression of one file, as the product does it: timeWorker (a started GPU worker, `--no-validate`, start-up apart) and
// timeCommand (the whole `tensorpress compress` process, start-up included).

import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { CompressionResult } from '../src/jobs/protocol.ts'
import { resolveRecipe } from '../src/jobs/recipe.ts'
import { createGpuWorker } from '../src/jobs/worker-pool.ts'
import { shaderCacheFolder } from '../src/local/children.ts'
import type { SourceFile } from '../src/tensor/model.ts'
import { processBytes } from './figures.ts'

export interface WorkerTiming {
  /** Wall seconds of each run, request to reply. */
  seconds: number[]
  /** The part of each run that flushes the artifact to disk. */
  flushSeconds: number[]
  /** From spawn to ready, shader cache as it was. */
  startSeconds: number
  /** VmHWM of the worker after its runs; what the worker says of itself where there is no /proc. */
  peakBytes: number
  outputBytes: number
  result: CompressionResult
}

/** Runs a recipe in one fresh worker, again and again. `between` runs before each, so that the floor is measured in step. */
export async function timeWorker(
  files: string[],
  recipe: string,
  runs: number,
  device: string,
  between: () => void = () => undefined,
): Promise<WorkerTiming> {
  const sources: SourceFile[] = files.map((path) => ({ name: basename(path), path, sizeBytes: statSync(path).size }))
  const worker = createGpuWorker(device, { shaderCache: shaderCacheFolder() })
  const seconds: number[] = []
  const flushSeconds: number[] = []
  let result: CompressionResult | null = null
  const spawned = performance.now()
  try {
    await worker.start()
    const startSeconds = (performance.now() - spawned) / 1000
    for (let attempt = 1; attempt <= runs; attempt++) {
      between()
      const outputDir = join(dirname(files[0]!), `out-${randomUUID()}`)
      mkdirSync(outputDir)
      const start = performance.now()
      result = await worker.compress({
        jobId: randomUUID(),
        attempt,
        files: sources,
        recipe: resolveRecipe(recipe).recipe,
        output: { externalData: 'auto', shardBytes: null, fileName: basename(files[0]!) },
        outputDir,
        measure: false,
      })
      seconds.push((performance.now() - start) / 1000)
      flushSeconds.push(result.seconds['finish'] ?? 0)
      rmSync(outputDir, { recursive: true })
    }
    if (!result) throw new Error('no run')
    const { pid } = worker.status()
    const peakBytes = (pid === null ? null : processBytes(pid, 'VmHWM')) ?? result.peakRssBytes
    const outputBytes = result.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
    return { seconds, flushSeconds, startSeconds, peakBytes, outputBytes, result }
  } finally {
    await worker.close()
  }
}

/**
 * Wall seconds of `tensorpress compress MODEL --no-validate`, process start to exit.
 * @param program path of the command
 */
export function timeCommand(program: string, model: string, recipe: string, output: string, device: string): number {
  const args = ['compress', model, '-r', recipe, '-o', output, '--no-validate', '--force', '--device', device, '--json']
  const start = performance.now()
  const run = spawnSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' })
  if (run.status !== 0) throw new Error(`tensorpress compress ended with ${run.status}: ${run.stderr}`)
  return (performance.now() - start) / 1000
}
