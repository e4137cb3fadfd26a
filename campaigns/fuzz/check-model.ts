// What an accepted model must bear: every tensor can be read, plans and layouts end well or in an AppError, and the model
// written back unchanged is the same model. Entry: checkModel.

import assert from 'node:assert/strict'
import { openModel } from '../../src/formats/index.ts'
import { describeModel } from '../../src/jobs/describe-model.ts'
import { planJob } from '../../src/jobs/plan-job.ts'
import { PRESETS } from '../../src/jobs/presets.ts'
import { resolveRecipe } from '../../src/jobs/recipe.ts'
import { dataLength, type FileLayout, type ModelReader, type OutputOptions } from '../../src/tensor/model.ts'
import { keepPlans, writeLayout } from '../../test/support/write-layout.ts'
import { placeFiles } from './memory-files.ts'
import type { Dice } from './random.ts'

/** Tied tensors may name the same bytes a thousand times; such models are planned and not written. */
const MAX_WRITTEN_BYTES = 4 * 1024 * 1024

const RECIPES = PRESETS.map(({ name }) => resolveRecipe(name).recipe)

export async function checkModel(reader: ModelReader, dice: Dice): Promise<string> {
  // The description travels over IPC and into JSON.
  JSON.stringify(describeModel(reader))
  const output: OutputOptions = {
    externalData: dice.pick(['auto', true, false]),
    shardBytes: dice.chance(0.3) ? 1024 : null,
    fileName: reader.summary.format === 'onnx' ? 'out.onnx' : 'out.safetensors',
  }
  if (dice.chance(0.6)) {
    const { layout, document } = planJob(reader, dice.pick(RECIPES), output)
    checkRuns(layout)
    JSON.stringify(document)
    return 'planned'
  }
  if (reader.tensors.reduce((sum, { data }) => sum + dataLength(data), 0) > MAX_WRITTEN_BYTES) return 'opened'
  await writeBack(reader, output)
  return 'written back'
}

/** The runs ascend and cover each file; a run of no bytes or a gap would leave stale bytes in an artifact. */
function checkRuns(layout: FileLayout): void {
  for (const { name, sizeBytes, runs } of layout.files) {
    let position = 0
    for (const run of runs) {
      assert.equal(run.offsetBytes, position, `a run of ${name} starts where the one before ends`)
      position += run.kind === 'part' ? run.lengthBytes : run.kind === 'copy' ? dataLength(run.from) : run.bytes.length
    }
    assert.equal(position, sizeBytes, `the runs of ${name} cover it`)
  }
}

async function writeBack(reader: ModelReader, output: OutputOptions): Promise<void> {
  const written = await writeLayout(reader, reader.layout(keepPlans(reader), output))
  const before = await contentOf(reader)
  const files = [...written].map(([name, bytes]) => ({ name, bytes }))
  const again = await openModel(placeFiles(files)).catch((error: unknown) => {
    throw new Error('what was written back cannot be read', { cause: error })
  })
  try {
    assert.deepEqual(await contentOf(again), before, 'the model written back holds the same tensors')
  } finally {
    await again.close()
  }
}

/** Names, types, shapes and bytes; by name, as resharding may change the order. */
async function contentOf(reader: ModelReader): Promise<unknown[]> {
  const rows = []
  for (const { name, dtype, shape, data } of reader.tensors) {
    const bytes = new Uint8Array(dataLength(data))
    await reader.read(data, 0, bytes)
    rows.push({ name, dtype, shape, bytes: Buffer.from(bytes).toString('latin1') })
  }
  return rows.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}
