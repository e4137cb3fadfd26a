// npm run campaign -- NAME [options]: runs a campaign in its long form and records the result in campaigns/results.
//   load [--size 4GiB]   soak [--minutes 60]   crash [--rounds 200]   faults [--rounds 5]   mutation
//   fuzz [--cases 1000000] [--targets onnx,npz]   api-schemathesis [--examples 200]
//   all: [--seed 1] [--device auto] [--dir FOLDER] [--short] [--append] [--no-record]
// Exit status 1 when a goal is not met or something was found. docs/campaigns.md says what each does.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { parseSize } from '../scripts/make-bench-model.ts'
import { STOP_STATUS } from '../src/stop-signal.ts'
import { apiCampaign, LONG_API, SHORT_API } from './api-schemathesis.ts'
import { type CampaignOptions, type CampaignResult, currentCommit, met, passed, recordResult } from './campaign.ts'
import { killCampaignServers } from './campaign-server.ts'
import { crashCampaign, LONG_CRASH, SHORT_CRASH } from './crash.ts'
import { faultsCampaign } from './faults.ts'
import { fuzzCampaign, LONG_FUZZ, SHORT_FUZZ } from './fuzz.ts'
import { LONG_LOAD, loadCampaign, SHORT_LOAD } from './load.ts'
import { mutationCampaign } from './mutation.ts'
import { LONG_SOAK, SHORT_SOAK, soakCampaign } from './soak.ts'

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string', default: '1' },
    device: { type: 'string', default: 'auto' },
    dir: { type: 'string', default: tmpdir() },
    short: { type: 'boolean', default: false },
    append: { type: 'boolean', default: false },
    'no-record': { type: 'boolean', default: false },
    size: { type: 'string' },
    minutes: { type: 'string' },
    cases: { type: 'string' },
    examples: { type: 'string' },
    targets: { type: 'string' },
    'store-corpus': { type: 'boolean', default: false },
    rounds: { type: 'string' },
  },
})

type Run = (options: CampaignOptions) => Promise<CampaignResult>

const CAMPAIGNS: Record<string, Run> = {
  crash: (options) => {
    const settings = given.short ? SHORT_CRASH : LONG_CRASH
    return crashCampaign(options, { ...settings, ...(given.rounds ? { rounds: Number(given.rounds) } : {}) })
  },
  load: (options) => {
    const settings = given.short ? SHORT_LOAD : LONG_LOAD
    return loadCampaign(options, { ...settings, ...(given.size ? { modelBytes: parseSize(given.size) } : {}) })
  },
  faults: (options) => faultsCampaign(options, { rounds: Number(given.rounds ?? (given.short ? 1 : 5)) }),
  mutation: (options) => mutationCampaign(options, { short: given.short }),
  soak: (options) => {
    const settings = given.short ? SHORT_SOAK : LONG_SOAK
    return soakCampaign(options, { ...settings, ...(given.minutes ? { minutes: Number(given.minutes) } : {}) })
  },
  'api-schemathesis': (options) => {
    const settings = given.short ? SHORT_API : LONG_API
    return apiCampaign(options, { ...settings, ...(given.examples ? { examples: Number(given.examples) } : {}) })
  },
  fuzz: (options) => {
    const { cases, only } = given.short ? SHORT_FUZZ : LONG_FUZZ
    return fuzzCampaign(options, {
      cases: given.cases ? Number(given.cases) : cases,
      only: given.targets?.split(',') ?? only,
      storeCorpus: given['store-corpus'],
    })
  },
}

const [name = ''] = positionals
const run = CAMPAIGNS[name]
if (run === undefined) {
  process.stderr.write(`npm run campaign -- ${Object.keys(CAMPAIGNS).join(' | ')}; see docs/campaigns.md\n`)
  process.exit(2)
}

const folder = mkdtempSync(join(given.dir, 'tensorpress-campaign-'))
const seed = Number(given.seed)
const startedAt = new Date()
const startMs = performance.now()
const commit = currentCommit()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // `timeout` and terminals send it twice; the second one must not end the clearing up.
  process.on(signal, () => {
    killCampaignServers()
    rmSync(folder, { recursive: true, force: true })
    process.exit(STOP_STATUS[signal])
  })
}
const log = (text: string) => void process.stderr.write(`${text}\n`)
try {
  const result = await run({ seed, folder, device: given.device, log })
  const seconds = (performance.now() - startMs) / 1000
  for (const figure of result.figures) {
    const goal =
      figure.goal === null
        ? ''
        : 'atMost' in figure.goal
          ? ` (at most ${figure.goal.atMost})`
          : ` (at least ${figure.goal.atLeast})`
    log(
      `${met(figure) ? ' ' : '!'} ${figure.name}: ${figure.value}${figure.unit === 'count' ? '' : ` ${figure.unit}`}${goal}`,
    )
  }
  for (const finding of result.findings) log(`FOUND ${finding}`)
  if (!given['no-record']) {
    const command = `npm run campaign -- ${process.argv.slice(2).join(' ')}`
    const path = recordResult(name, { command, seed, startedAt, seconds, commit }, result, given.append)
    log(`written: ${relative(process.cwd(), path)}`)
  }
  process.exitCode = passed(result) ? 0 : 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
