// The mutation campaign in its short form, and that it can fail itself: a text that is not there, a test that does not notice.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { GUARDS, type Guard } from '../../campaigns/guards.ts'
import { mutationCampaign } from '../../campaigns/mutation.ts'
import { readTap } from '../../campaigns/run-tests.ts'
import { briefly, countsUnmet } from '../support/short-campaign.ts'
import { tempFolder } from '../support/temp-folder.ts'

const ROOT = join(import.meta.dirname, '..', '..')

test('guards of store, jobs, readers and access are missed by their tests when they are taken away', async (t) => {
  const result = await mutationCampaign(briefly(t, tempFolder(t)), { short: true })
  assert.deepEqual(result.findings, [])
  assert.deepEqual(countsUnmet(result), [])
  assert.equal(result.settings['guards'], 4)
})

test('the whole list names each promise once, with texts that stand in the code as it is', () => {
  assert.equal(new Set(GUARDS.map(({ promise }) => promise)).size, GUARDS.length)
  assert.ok(GUARDS.length >= 20, `${GUARDS.length}`)
  for (const { promise, file, text, test: named } of GUARDS) {
    // Whoever changes such a line moves the entry of campaigns/guards.ts along.
    assert.equal(readFileSync(join(ROOT, file), 'utf8').split(text).length - 1, 1, `${file}: ${promise}`)
    assert.ok(existsSync(join(ROOT, named.file)), named.file)
  }
})

test('a guard that has drifted, one that no test misses, and one whose test does not exist are found', async (t) => {
  const good: Guard = {
    promise: 'p',
    file: 'campaigns/statistics.ts',
    text: 'share * sorted.length',
    without: '0.5 * sorted.length',
    test: {
      file: 'test/campaigns/statistics.test.ts',
      name: 'a percentile is the smallest value that so many do not exceed',
    },
  }
  const guards: Guard[] = [
    good,
    { ...good, promise: 'drifted', text: 'no such text' },
    { ...good, promise: 'untested', without: 'sorted.length * share' },
    { ...good, promise: 'no such test', test: { ...good.test, name: 'nobody wrote this' } },
  ]
  const { findings, figures } = await mutationCampaign(briefly(t, tempFolder(t)), { short: false }, guards)
  assert.deepEqual(
    figures.map(({ value }) => value),
    [4, 1],
  )
  assert.deepEqual(
    findings.map((text) => text.slice(0, 40)),
    [
      'campaigns/statistics.ts: the text of "dr',
      'untested: without it test/campaigns/stat',
      'no such test: test/campaigns/statistics.',
    ],
  )
})

test('outcomes are read from TAP, subtests and escapes included', () => {
  const tap = ['ok 1 - plain', '    not ok 2 - inner \\# one', 'ok 3 - later # SKIP no adapter', '# pass 1'].join('\n')
  assert.deepEqual(readTap(tap), { passed: ['plain'], failed: ['inner # one'], skipped: ['later'] })
})
