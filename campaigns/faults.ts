// Faults: every scenario of test/faults and test/crash, over and over with other seeds: full disks at each write, read-only and
// damaged stores, stopped processes, jumping clocks, lost and missing devices, no memory, lost output, two servers on one
// folder, vanished files. The scenarios are tests, so that the short form is `npm test`. Entry: faultsCampaign.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { CampaignOptions, CampaignResult } from './campaign.ts'
import { runTests } from './run-tests.ts'

const ROOT = join(import.meta.dirname, '..')
const FOLDERS = ['test/faults', 'test/crash']
/** Scenarios that stand with the code they belong to. */
const FILES = ['test/store/damaged.test.ts', 'test/store/data-folder.test.ts', 'test/jobs/service.test.ts']
/** A scenario takes some seconds; on a busy machine a minute. */
const TEST_MS = 300_000

export interface FaultsSettings {
  rounds: number
}

export async function faultsCampaign(options: CampaignOptions, { rounds }: FaultsSettings): Promise<CampaignResult> {
  const files = [
    ...FOLDERS.flatMap((folder) =>
      readdirSync(join(ROOT, folder))
        .filter((name) => name.endsWith('.test.ts'))
        .map((name) => `${folder}/${name}`),
    ),
    ...FILES,
  ]
  const findings: string[] = []
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for (let round = 0; round < rounds; round++) {
    for (const file of files) {
      const env = { TENSORPRESS_CRASH_SEED: String(options.seed + round) }
      const run = await runTests({ root: ROOT, files: [file], env, testMs: TEST_MS })
      counts.passed += run.passed.length
      counts.failed += run.failed.length
      counts.skipped += run.skipped.length
      findings.push(...run.failed.map((name) => `round ${round + 1}, ${file}: ${name}`))
      if (run.passed.length + run.failed.length + run.skipped.length === 0) findings.push(`${file} ran no test`)
      options.log(`round ${round + 1}: ${file}: ${run.passed.length} passed, ${run.failed.length} failed`)
    }
  }
  return {
    settings: { rounds },
    figures: [
      { name: 'scenarios passed', value: counts.passed, unit: 'count', goal: { atLeast: 1 } },
      { name: 'scenarios failed', value: counts.failed, unit: 'count', goal: { atMost: 0 } },
      { name: 'scenarios skipped on this machine', value: counts.skipped, unit: 'count', goal: null },
    ],
    findings,
    device: null,
  }
}
