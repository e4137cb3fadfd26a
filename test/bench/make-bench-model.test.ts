// Benchmark models: seeded, of the promised size, and readable as the formats they claim to be.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeBenchModel } from '../../scripts/make-bench-model.ts'
import { openModel } from '../../src/formats/index.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MIB = 2 ** 20

for (const format of ['safetensors', 'onnx'] as const) {
  test(`a ${format} model of 16 MiB has heavy-tailed weights of about that size, the same for the same seed`, async (t) => {
    const folder = tempFolder(t)
    const digest = (name: string, seed: number) => {
      const path = join(folder, name)
      const { weightBytes } = makeBenchModel(format, 16 * MIB, path, seed)
      assert.ok(weightBytes >= 16 * MIB && weightBytes < 24 * MIB, `${weightBytes}`)
      return createHash('sha256').update(readFileSync(path)).digest('hex')
    }
    assert.equal(digest('a', 1), digest('b', 1))
    assert.notEqual(digest('a', 1), digest('c', 2))
    const path = join(folder, 'a')
    const reader = await openModel([{ name: `a.${format}`, path, sizeBytes: statSync(path).size }])
    const largest = reader.tensors.toSorted(
      (x, y) => y.shape.reduce((p, d) => p * d) - x.shape.reduce((p, d) => p * d),
    )[0]
    assert.ok(largest && largest.shape.length === 2)
    const values = new Float32Array(2 ** 18)
    await reader.read(largest.data, 0, new Uint8Array(values.buffer))
    await reader.close()
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length)
    const peak = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    assert.ok(
      peak / deviation > 8,
      `the largest of 262,144 normal values would be near 5 deviations, found ${peak / deviation}`,
    )
  })
}
