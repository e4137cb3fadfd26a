// Results of campaigns: portions are combined into one table that says the worst, and what is recorded met its goals.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  type CampaignDocument,
  combined,
  type Figure,
  type Portion,
  passed,
  RESULTS,
} from '../../campaigns/campaign.ts'

const portion = (figures: Figure[], findings: string[] = []): Portion => ({
  command: 'npm run campaign -- x',
  seed: 1,
  startedAt: '2026-11-25T00:00:00.000Z',
  seconds: 1,
  version: '0.1.0',
  commit: 'unknown',
  settings: {},
  figures,
  findings,
})

test('counts of portions are added up, and of other figures the one furthest from its goal is kept', () => {
  const rows = (rounds: number, delay: number, share: number): Figure[] => [
    { name: 'rounds', value: rounds, unit: 'count', goal: null },
    { name: 'delay', value: delay, unit: 'ms', goal: { atMost: 10 } },
    { name: 'share', value: share, unit: 'ratio', goal: { atLeast: 1 } },
  ]
  const result = combined([portion(rows(70, 3, 2)), portion(rows(60, 9, 5))])
  assert.deepEqual(
    result.map(({ name, value }) => [name, value]),
    [
      ['rounds', 130],
      ['delay', 9],
      ['share', 2],
    ],
  )
})

test('a goal that is missed, a figure that is not a number, or anything found means that a campaign did not pass', () => {
  const delay: Figure = { name: 'delay', value: 10, unit: 'ms', goal: { atMost: 10 } }
  assert.equal(passed(portion([delay])), true)
  assert.equal(passed(portion([{ ...delay, value: 10.1 }])), false)
  assert.equal(passed(portion([{ ...delay, value: Number.NaN }])), false)
  assert.equal(passed(portion([delay], ['a job was lost'])), false)
})

test('every recorded campaign has its command, and passed', () => {
  for (const name of readdirSync(RESULTS).filter((file) => file.endsWith('.json'))) {
    const { campaign, portions } = JSON.parse(readFileSync(join(RESULTS, name), 'utf8')) as CampaignDocument
    assert.equal(`${campaign}.json`, name)
    assert.ok(portions.length > 0, name)
    for (const one of portions) {
      assert.match(one.command, new RegExp(`^npm run campaign -- ${campaign}\\b`))
      assert.ok(passed(one), `${name}, seed ${one.seed}: ${JSON.stringify(one.findings)}`)
    }
  }
})
