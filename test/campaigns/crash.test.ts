// The crash campaign in its short form: a handful of kills of the real server and its real children, under load over HTTP.
// test/crash has the same for the service without HTTP, with more kills a second.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crashCampaign, SHORT_CRASH } from '../../campaigns/crash.ts'
import { briefly, countsUnmet } from '../support/short-campaign.ts'
import { tempFolder } from '../support/temp-folder.ts'

const skip = process.platform !== 'linux' && 'needs /proc'

test('whatever is killed under load, nothing acknowledged is lost and nothing is left behind', { skip }, async (t) => {
  const result = await crashCampaign(briefly(t, tempFolder(t)), SHORT_CRASH)
  assert.deepEqual(result.findings, [])
  assert.deepEqual(countsUnmet(result), [])
})
