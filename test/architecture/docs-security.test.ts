// The threat list of docs/security.md against the repository: each threat has tests that exist, and the tests that are there for
// hostile input and for access are all named.

import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '..', '..')
const page = readFileSync(join(root, 'docs', 'security.md'), 'utf8')
const list = page.slice(page.indexOf('\n## Threats\n'))
const threats = [...list.matchAll(/^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$/gm)]
  .map(([, threat, stops, tests]) => ({ threat: threat!, stops: stops!, tests: [...tests!.matchAll(/`([^`]+)`/g)] }))
  .filter(({ threat }) => threat !== 'threat')

test('the threat list has its rows, each with what stops the threat and with a test', () => {
  assert.ok(threats.length >= 29, `${threats.length} threats`)
  for (const { threat, stops, tests } of threats) {
    assert.ok(stops.trim().length > 10 && tests.length > 0, threat)
  }
})

test('every test file that the page names exists and holds tests', () => {
  const named = [...page.matchAll(/`(test\/[^`]+)`/g)].map((match) => match[1]!)
  assert.ok(named.length > threats.length)
  const bad = named.filter((file) => {
    const path = join(root, file)
    return (
      !file.endsWith('.test.ts') ||
      !existsSync(path) ||
      !/from 'node:test'|from '\.\.\/support\//.test(readFileSync(path, 'utf8'))
    )
  })
  assert.deepEqual(bad, [])
})

test('every test of hostile input, of access and of crashes is named by a threat', () => {
  const expected = globSync(
    ['test/malformed/*.test.ts', 'test/access/*.test.ts', 'test/crash/*.test.ts', 'test/http/hostile.test.ts'],
    { cwd: root },
  )
  assert.ok(expected.length >= 10)
  const missing = expected.map((file) => file.replaceAll('\\', '/')).filter((file) => !list.includes(`\`${file}\``))
  assert.deepEqual(missing, [])
})
