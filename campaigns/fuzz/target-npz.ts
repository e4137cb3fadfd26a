// The .npz reader, through the dataset that the server makes of it: opened, held against the inputs of a model, its labels
// and samples read. The zip library reads files by itself, so that these cases use a real file (in memory where there is
// /dev/shm).

import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checkLabelRange, type ModelInput, matchDataset, openDataset } from '../../src/validate/dataset.ts'
import { f4, i8, npzBytes } from '../../test/support/write-npz.ts'
import { mutateNpz } from './mutate-npz.ts'
import { type FuzzInput, type FuzzTarget, withBytes } from './target.ts'

const MODELS: readonly (readonly ModelInput[])[] = [
  [{ name: 'x', dtype: 'f32', shape: ['N', 2] }],
  [{ name: 'x', dtype: 'f32', shape: [2, 2] }],
  [
    { name: 'x', dtype: 'i64', shape: ['N'] },
    { name: 'y', dtype: 'f16', shape: [1] },
  ],
]
/** Feeds are made of what the file holds; a few runs show what there is to see. */
const MAX_SAMPLES = 8

const path = join(tmpdir(), `fuzz-${process.pid}.npz`)

export const target: FuzzTarget = {
  name: 'npz',
  guided: true,
  maxBytes: 16 * 1024,
  seeds(): FuzzInput[] {
    const x = f4([3, 2], [1, 2, 3, 4, 5, 6])
    return [
      npzBytes({ x }),
      npzBytes({ x, labels: i8([3], [0, 1, 2]) }),
      npzBytes({ x, labels: i8([3, 1], [0, 1, 2]) }, { deflate: true }),
      npzBytes({ x: i8([4], [1, 2, 3, 4]), y: f4([1], [1]) }),
      npzBytes({ x: { ...x, version: 2 }, labels: f4([3], [0.5, 1, 2]) }),
      npzBytes({ x: { ...x, version: 3, fortranOrder: true } }),
      npzBytes({}),
    ].map((bytes) => [{ name: 'data.npz', bytes }])
  },
  mutate(input, other, dice) {
    return withBytes(input, 0, mutateNpz(input[0]!.bytes, other[0]!.bytes, dice))
  },
  async run(input, dice) {
    writeFileSync(path, input[0]!.bytes)
    const dataset = await openDataset(path)
    try {
      const matched = matchDataset(dataset, dice.chance(0.7) ? MODELS[0]! : dice.pick(MODELS))
      const labels = await matched.labels()
      if (labels?.kind === 'classes') checkLabelRange(labels, 1000)
      for await (const feed of matched.feeds({ maxSamples: MAX_SAMPLES })) JSON.stringify(Object.keys(feed.tensors))
      return labels === null ? 'matched' : 'matched with labels'
    } finally {
      await dataset.close()
    }
  },
}
