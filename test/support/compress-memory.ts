// Runs plan and executor over an in-memory model on a given device and gives back the artifact's bytes and parts.

import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ComputeDevice } from '../../src/compute/compute-device.ts'
import { compressModel } from '../../src/jobs/compress-job.ts'
import { planJob } from '../../src/jobs/plan-job.ts'
import type { CompressionResult, Progress } from '../../src/jobs/protocol.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import type { ModelReader, PartName } from '../../src/tensor/model.ts'

export interface CompressedModel {
  result: CompressionResult
  bytes: Uint8Array
  /** Bytes of one part of one compressed tensor. */
  part(tensor: string, part: PartName): Uint8Array
}

export interface CompressOptions {
  measure?: boolean
  signal?: AbortSignal
  progress?: (progress: Progress) => void
}

const OUTPUT = { externalData: 'auto', shardBytes: null, fileName: 'artifact.bin' } as const

export async function compressInMemory(
  reader: ModelReader,
  recipe: string | object,
  device: ComputeDevice,
  options: CompressOptions = {},
): Promise<CompressedModel> {
  const outputDir = await mkdtemp(join(tmpdir(), 'tensorpress-execute-'))
  try {
    const resolved = resolveRecipe(recipe).recipe
    const result = await compressModel(
      reader,
      { recipe: resolved, output: OUTPUT, outputDir, measure: options.measure ?? false },
      device,
      { signal: options.signal ?? new AbortController().signal, progress: options.progress ?? (() => undefined) },
    )
    const bytes = new Uint8Array(await readFile(join(outputDir, OUTPUT.fileName)))
    return { result, bytes, part: (tensor, part) => partBytes(reader, result, bytes, tensor, part) }
  } finally {
    await rm(outputDir, { recursive: true })
  }
}

/** The layout is a function of the final plan, which the outcomes carry. */
function partBytes(
  reader: ModelReader,
  result: CompressionResult,
  bytes: Uint8Array,
  tensor: string,
  part: PartName,
): Uint8Array {
  const facts = new Map(
    result.tensors.map((row) => [
      row.name,
      { nonFinite: row.nonFinite > 0, float16Overflow: row.reason === 'fp16_overflow' },
    ]),
  )
  const { layout } = planJob(reader, result.plan.recipe, OUTPUT, facts)
  for (const run of layout.files[0]?.runs ?? []) {
    if (run.kind === 'part' && run.tensor === tensor && run.part === part) {
      return bytes.slice(run.offsetBytes, run.offsetBytes + run.lengthBytes)
    }
  }
  throw new Error(`the artifact has no ${part} of ${tensor}`)
}
