// Inputs that the fuzz campaign kept because they reached something new, replayed: each is taken, or refused with the same code
// as when it was stored (npm run campaign -- fuzz --store-corpus), and leaves no file open.

import '../../campaigns/fuzz/memory-hooks.ts'
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import type { FuzzTarget } from '../../campaigns/fuzz/target.ts'

// After the hooks, so that the readers read from memory.
const { openHandles } = await import('../../campaigns/fuzz/memory-files.ts')
const { judge } = await import('../../campaigns/fuzz/outcome.ts')
const { Dice } = await import('../../campaigns/fuzz/random.ts')
const { CORPUS, outcomeName, readCorpus } = await import('../../campaigns/fuzz/stored-corpus.ts')
const { TARGETS } = await import('../../campaigns/fuzz/targets.ts')

const stored = new Set(readdirSync(CORPUS).map((name) => name.replace('.jsonl', '')))

test('every reader that needs no server has a stored corpus', () => {
  assert.deepEqual([...stored].sort(), [
    'external-data',
    'json',
    'npy',
    'npz',
    'onnx',
    'protobuf',
    'recipe',
    'require',
    'safetensors',
    'shards',
  ])
})

for (const { name, module } of TARGETS.filter((entry) => stored.has(entry.name))) {
  test(`most seeds of ${name} are taken, so that their mutations get past the first check`, async () => {
    const { target } = (await import(module)) as { target: FuzzTarget }
    const seeds = target.seeds()
    let taken = 0
    // One after the other: there is one set of files in memory.
    for (const seed of seeds) {
      const isTaken = await target.run(seed, new Dice(2)).then(
        () => true,
        () => false,
      )
      if (isTaken) taken++
    }
    assert.ok(taken > seeds.length / 2, `${taken} of ${seeds.length}`)
  })
}

for (const { name, module } of TARGETS.filter((entry) => stored.has(entry.name))) {
  test(`the stored inputs of ${name} come to what they came to`, async () => {
    const { target } = (await import(module)) as { target: FuzzTarget }
    const cases = readCorpus(name)
    assert.ok(cases.length >= 15, `${cases.length}`)
    for (const [index, { outcome, checks, input }] of cases.entries()) {
      const found = await target
        .run(input, new Dice(checks))
        .then((label: string) => ({ kind: 'right', taken: true, label, signature: label }) as const, judge)
      const why = found.kind === 'finding' ? found.finding.detail : ''
      assert.equal(outcomeName(found), outcome, `line ${index + 1} of ${name}.jsonl ${why}`)
      assert.equal(openHandles(), 0, `line ${index + 1} of ${name}.jsonl`)
    }
  })
}
