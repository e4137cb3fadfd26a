// The fuzz campaign in its short form: a fixed seed, every reader. The long form is npm run campaign -- fuzz.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TARGETS } from '../../campaigns/fuzz/targets.ts'
import { fuzzCampaign, SHORT_FUZZ } from '../../campaigns/fuzz.ts'
import { briefly, countsUnmet } from '../support/short-campaign.ts'
import { tempFolder } from '../support/temp-folder.ts'

test('every reader takes or refuses each input of a short fuzz run, in time and without a trace', async (t) => {
  const result = await fuzzCampaign(briefly(t, tempFolder(t)), SHORT_FUZZ)
  assert.deepEqual(result.findings, [])
  assert.deepEqual(countsUnmet(result), [])
  const cases = result.figures.filter(({ name }) => name.endsWith(': cases'))
  assert.equal(cases.length, TARGETS.length)
  for (const { name, value } of cases) assert.ok(value >= 100, `${name} ${value}`)
})
