// The soak campaign in its short form: the stories of its clients come out as they must and no file descriptor stays open.
// Memory still fills in so short a time; its trend is judged in the long form (npm run campaign -- soak).

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { met } from '../../campaigns/campaign.ts'
import { SHORT_SOAK, soakCampaign } from '../../campaigns/soak.ts'
import { briefly, countsUnmet } from '../support/short-campaign.ts'
import { tempFolder } from '../support/temp-folder.ts'

test('clients of a short soak get what they asked for, and files are closed again', async (t) => {
  const result = await soakCampaign(briefly(t, tempFolder(t)), SHORT_SOAK)
  assert.deepEqual(result.findings, [])
  assert.deepEqual(countsUnmet(result), [])
  const files = result.figures.filter(({ name }) => name.includes('open files'))
  assert.equal(files.length, 3)
  assert.deepEqual(
    files.filter((figure) => !met(figure)),
    [],
  )
  const jobs = result.figures.find(({ name }) => name === 'jobs that succeeded')
  assert.ok(jobs !== undefined && jobs.value >= 3, `only ${jobs?.value} jobs: too few to say anything`)
})
