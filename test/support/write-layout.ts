// Turns a FileLayout into bytes without the executor: literal and copy runs as they are, part runs from a callback. Checks on
// the way what every layout promises: runs ascend, do not overlap, and cover the file exactly.

import assert from 'node:assert/strict'
import type { FileLayout, ModelReader, PartName, TensorPlan } from '../../src/tensor/model.ts'

export type FillPart = (tensor: string, part: PartName, lengthBytes: number) => Uint8Array

export async function writeLayout(
  reader: ModelReader,
  layout: FileLayout,
  fillPart: FillPart = () => assert.fail('no part was expected'),
): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>()
  for (const { name, sizeBytes, runs } of layout.files) {
    const bytes = new Uint8Array(sizeBytes)
    let position = 0
    for (const run of runs) {
      assert.equal(run.offsetBytes, position, `a run of ${name} starts where the one before ends`)
      let content: Uint8Array
      if (run.kind === 'literal') content = run.bytes
      else if (run.kind === 'part') content = fillPart(run.tensor, run.part, run.lengthBytes)
      else {
        const length = run.from.kind === 'file' ? run.from.lengthBytes : run.from.bytes.length
        content = new Uint8Array(length)
        await reader.read(run.from, 0, content)
      }
      if (run.kind === 'part') assert.equal(content.length, run.lengthBytes)
      bytes.set(content, position)
      position += content.length
    }
    assert.equal(position, sizeBytes, `the runs of ${name} cover it`)
    assert.ok(!files.has(name), `one file named ${name}`)
    files.set(name, bytes)
  }
  return files
}

/** The plan that leaves every tensor as it is. */
export function keepPlans(reader: ModelReader): TensorPlan[] {
  return reader.tensors.map((tensor) => ({
    tensor,
    action: 'keep',
    reason: 'not_selected',
    detail: 'kept by the test',
    steps: [],
    prune: null,
    encode: { kind: 'dense' },
    outputs: [],
    bytesBefore: 0,
    bytesAfter: 0,
  }))
}
