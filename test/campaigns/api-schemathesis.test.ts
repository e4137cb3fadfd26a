// The API campaign in its short form: schemathesis finds no answer that /openapi.json does not describe, and it can find one.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { apiCampaign, SHORT_API } from '../../campaigns/api-schemathesis.ts'
import { skipWithoutPython } from '../support/python-environment.ts'
import { briefly, countsUnmet } from '../support/short-campaign.ts'
import { tempFolder } from '../support/temp-folder.ts'

/** What schemathesis 4 takes by itself. */
const USUAL = ['2xx', '5xx', '400', '401', '403', '404', '405', '406', '409', '415', '422', '428', '429']
/** A valid request may be answered so only for a reason that is ours. */
const EXPLAINED = ['3xx', '408', '410', '412', '413', '416', '422', '503', '507']

test('each status that is expected beyond the usual ones has its reason beside it', () => {
  const text = readFileSync(join(import.meta.dirname, '..', '..', 'campaigns', 'api', 'schemathesis.toml'), 'utf8')
  const checks = text.split(/^\[checks\./m).slice(1)
  assert.equal(checks.length, 3)
  for (const check of checks) {
    const statuses = (/^expected-statuses = \[(.*)\]/m.exec(check)?.[1] ?? '').replaceAll('"', '').split(', ')
    const reasons = check.replace(/^[^#].*$/gm, '')
    const positive = check.startsWith('positive')
    const unusual = statuses.filter((status) => !USUAL.includes(status) || (positive && EXPLAINED.includes(status)))
    assert.ok(unusual.length > 0)
    for (const status of unusual) assert.match(reasons, new RegExp(`\\b${status}\\b`), status)
  }
})

const skip = skipWithoutPython('requirements-api.txt')

test('made-up requests, without keys, with a key and with the key left out, get answers as described', {
  skip,
  timeout: 600_000,
}, async (t) => {
  const result = await apiCampaign(briefly(t, tempFolder(t)), SHORT_API)
  assert.deepEqual(result.findings, [])
  assert.deepEqual(countsUnmet(result), [])
  const requests = result.figures.filter(({ name }) => name.startsWith('requests w') || name.startsWith('requests k'))
  assert.equal(requests.length, 3)
  for (const { name, value } of requests) assert.ok(value >= 100, `${name}: ${value}`)
})
