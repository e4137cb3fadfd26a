// The API campaign in its short form: schemathesis finds no answer that /openapi.json does not describe, and it can find one.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { apiCampaign, SHORT_API } from '../../campaigns/api-schemathesis.ts'
import { skipWithoutPython } from '../support/python-environment.ts'
import { briefly, countsUnmet } from '../support/short-campaign.ts'
import { tempFolder } from '../support/temp-folder.ts'

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
