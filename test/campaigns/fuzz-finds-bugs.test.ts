// The fuzzer can find what it looks for: each kind of bug, planted in front of a real reader, is reported as what it is.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { superviseTarget, type TargetResult } from '../../campaigns/fuzz/supervise.ts'

function fuzzPlanted(bug: string, cases: number): Promise<TargetResult> {
  const module = new URL(`../support/planted-bugs.ts?bug=${encodeURIComponent(bug)}`, import.meta.url).href
  return superviseTarget({ module, cases, seed: 1, hangMs: 1500, maxChildren: 1 })
}

test('a TypeError in a reader is a crash, with the input that caused it and the line', async () => {
  const { findings, cases } = await fuzzPlanted('crash', 1500)
  assert.equal(cases, 1500)
  const found = findings.find(({ signature }) => signature.includes('TypeError'))
  assert.equal(found?.kind, 'crash')
  assert.match(found.signature, /test\/support\/planted-bugs\.ts\?bug=crash:\d+/)
  assert.ok(found.count > 0)
  const bytes = Buffer.from(found.input?.[0]?.bytes ?? [])
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE()))) as object
  assert.throws(() => {
    for (const entry of Object.values(header)) (entry as { shape: number[] }).shape.push(0)
  }, TypeError)
})

for (const [bug, kind, says] of [
  ['hang', 'hang', /took more than 1500 ms/],
  ['never settles', 'hang', /took more than 1500 ms/],
  ['abort', 'crash', /SIGABRT/],
] as const) {
  test(`a reader with the bug "${bug}" ends as a ${kind}, and the input outlives the process`, async () => {
    const { findings } = await fuzzPlanted(bug, 4000)
    const found = findings.find((finding) => finding.kind === kind)
    assert.match(found?.detail ?? '', says)
    const bytes = Buffer.from(found?.input?.[0]?.bytes ?? [])
    assert.equal(bytes.readBigUInt64LE(0), 2n ** 32n)
  })
}

test('an error that says it is internal is a crash', async () => {
  const { findings } = await fuzzPlanted('internal', 4000)
  assert.deepEqual(
    findings.map(({ kind, signature }) => [kind, signature.split(';')[0]]),
    [['crash', 'an AppError of kind internal']],
  )
})

test('a reader that keeps 16 KiB of each case shows as growing memory', async () => {
  const { findings, growthBytes } = await fuzzPlanted('leak', 2500)
  assert.deepEqual(
    findings.map(({ kind, signature }) => [kind, signature]),
    [['memory', 'growth']],
  )
  assert.ok(growthBytes > 20 * 2 ** 20, `${growthBytes}`)
})

test('a file that a case leaves open is named at once', async () => {
  const { findings } = await fuzzPlanted('open file', 600)
  assert.deepEqual(
    findings.map(({ kind, detail }) => [kind, detail]),
    [['handles', '1 file handles are open after the case']],
  )
})
