// The load campaign in its short form: every request, upload, stream and connection is answered. How fast depends on what else
// this machine does while tests run, so times are judged in the long form alone (npm run campaign -- load).

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadCampaign, SHORT_LOAD } from '../../campaigns/load.ts'
import { briefly, countsUnmet } from '../support/short-campaign.ts'
import { tempFolder } from '../support/temp-folder.ts'

test('under a job, open uploads, followers and connections every request of a short load is answered', async (t) => {
  const options = briefly(t, tempFolder(t))
  const result = await loadCampaign(options, SHORT_LOAD)
  assert.deepEqual(result.findings, [])
  assert.deepEqual(countsUnmet(result), [])
  const counted = result.figures.filter(({ unit }) => unit === 'count').map(({ name }) => name)
  assert.equal(counted.length, 6 + 3)
})
