// API: schemathesis makes requests up from /openapi.json of a real server, right and wrong ones, and holds every answer against
// the document: statuses, headers, media types, schemas, methods, keys. Entry: apiCampaign. Three servers: without keys, with
// keys and a full one sent, with keys and none sent. What a schema cannot say is in campaigns/api/hooks.py.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { newApiKey } from '../src/access/api-key.ts'
import { pythonProgram } from '../test/support/python-environment.ts'
import type { Owner } from '../test/support/server-process.ts'
import { identityWeights, linearModel } from '../test/support/troublesome-models.ts'
import { f4, i8, npzBytes } from '../test/support/write-npz.ts'
import type { CampaignOptions, CampaignResult, Figure } from './campaign.ts'
import { type CampaignServer, startCampaignServer } from './campaign-server.ts'
import { withOwner } from './owner.ts'

export interface ApiSettings {
  /** Requests made up per operation and phase. */
  examples: number
  phases: readonly string[]
}

export const LONG_API: ApiSettings = { examples: 200, phases: ['examples', 'coverage', 'fuzzing', 'stateful'] }
export const SHORT_API: ApiSettings = { examples: 3, phases: ['examples', 'fuzzing', 'stateful'] }

type Access = 'without keys' | 'with a key' | 'key left out'

/** A run that hangs must end; the long form takes minutes. */
const MAX_RUN_MS = 30 * 60_000
/** No call of this API takes longer unless it waits for a job, which the server bounds below. */
const REQUEST_SECONDS = 30
const CONFIG = join(import.meta.dirname, 'api')

/** Waits are short, limits wide: what is tested are the answers, not the patience. */
const SERVER = {
  TENSORPRESS_WAIT_SECONDS: '5',
  TENSORPRESS_QUEUE_LENGTH: '10000',
  TENSORPRESS_JOBS_PER_KEY: '10000',
  // A webhook without a secret of its own is right only where the server has one.
  TENSORPRESS_WEBHOOK_SECRET: 'for deliveries that are never made',
  TENSORPRESS_LOG_LEVEL: 'warn',
}

/** What is read of schemathesis' own report. */
interface Report {
  complete: boolean
  test_cases: { generated: number }
  failures: { type: string; title: string; count: number; operations: string[] }[]
  errors: { title: string; count: number }[]
  phases: Record<string, { status: string; skip_reason: string | null }>
}

interface Run {
  access: Access
  report: Report
  bugs: string[]
}

export async function apiCampaign(options: CampaignOptions, settings: ApiSettings): Promise<CampaignResult> {
  const runs: Run[] = []
  for (const access of ['without keys', 'with a key', 'key left out'] as const) {
    const run = await withOwner((owner) => runOnce(owner, options, settings, access))
    options.log(`${access}: ${run.report.test_cases.generated} requests, ${failuresOf(run)} failed checks`)
    runs.push(run)
  }
  const total = (of: (run: Run) => number) => runs.reduce((sum, run) => sum + of(run), 0)
  const none = { atMost: 0 }
  const figures: Figure[] = [
    ...runs.map(({ access, report }): Figure => {
      return { name: `requests ${access}`, value: report.test_cases.generated, unit: 'count', goal: null }
    }),
    { name: 'failed checks', value: total(failuresOf), unit: 'count', goal: none },
    { name: 'answers of 5xx', value: total((run) => failuresOf(run, 'ServerError')), unit: 'count', goal: none },
    { name: 'requests that could not be made', value: total(errorsOf), unit: 'count', goal: none },
    { name: 'bugs in the log of the server', value: total(({ bugs }) => bugs.length), unit: 'count', goal: none },
  ]
  return {
    settings: { examples: settings.examples, phases: settings.phases.join(', ') },
    figures,
    findings: runs.flatMap(({ access, report, bugs }) => [
      ...report.failures.map(({ title, operations }) => `${access}: ${title}: ${operations.join(', ')}`),
      ...report.errors.map(({ title, count }) => `${access}: ${title}, ${count} times`),
      ...(report.complete ? [] : [`${access}: the run did not come to its end`]),
      ...unrun(report, settings).map((phase) => `${access}: the phase "${phase}" did not run`),
      ...bugs.map((bug) => `${access}: ${bug}`),
    ]),
    device: null,
  }
}

function failuresOf({ report }: Pick<Run, 'report'>, type?: string): number {
  return report.failures.reduce((sum, failure) => sum + (type && failure.type !== type ? 0 : failure.count), 0)
}

function errorsOf({ report }: Pick<Run, 'report'>): number {
  return report.errors.reduce((sum, { count }) => sum + count, 0)
}

/** A phase that found nothing to do must not pass for one that found nothing wrong. */
function unrun({ phases }: Report, settings: ApiSettings): string[] {
  return settings.phases.filter((phase) => phases[phase] === undefined || phases[phase].status === 'skip')
}

async function runOnce(owner: Owner, options: CampaignOptions, settings: ApiSettings, access: Access): Promise<Run> {
  const folder = join(options.folder, access.replaceAll(' ', '-'))
  mkdirSync(folder, { recursive: true })
  const { secret, entry } = newApiKey('campaign', ['admin', 'submit', 'read', 'metrics'])
  const headers: Record<string, string> = access === 'without keys' ? {} : { authorization: `Bearer ${secret}` }
  const server = await startCampaignServer(owner, {
    dataDir: join(folder, 'data'),
    device: 'reference',
    logFile: join(folder, 'server.log'),
    env: { ...SERVER, ...(access === 'without keys' ? {} : { TENSORPRESS_API_KEYS: entry }) },
  })
  const seeds = await seed(server, headers)
  const sent = access === 'with a key' ? ['--header', `Authorization: Bearer ${secret}`] : []
  const output = await schemathesis(owner, server.url, folder, options.seed, settings, seeds, sent)
  const report = JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')) as Report
  if (report.failures.length > 0 || report.errors.length > 0) options.log(output)
  return { access, report, bugs: server.bugs }
}

/** Something of each kind that exists before the first request, and bytes that are a model and a dataset. */
async function seed({ api }: CampaignServer, headers: Record<string, string>): Promise<Record<string, string>> {
  const model = linearModel(identityWeights())
  const dataset = npzBytes({ x: f4([2, 4], [1, 0, 0, 0, 0, 1, 0, 0]), labels: i8([2], [0, 1]) })
  const form = new FormData()
  form.set('dataset', new File([Uint8Array.from(dataset)], 'linear.npz'))
  const encoded = new Response(form)
  const { id: models } = await api.json<{ id: string }>('PUT', '/v1/models/linear.onnx', model, headers)
  const { id: datasets } = await api.json<{ id: string }>('POST', '/v1/datasets', await encoded.bytes(), {
    ...headers,
    'content-type': encoded.headers.get('content-type')!,
  })
  const request = { model: models, dataset: datasets, recipe: 'fp16' }
  const { id: jobs } = await api.json<{ id: string }>('POST', '/v1/jobs', request, headers)
  const ended = await api.json<{ state: string }>('GET', `/v1/jobs/${jobs}`, null, headers)
  const upload = await api.send('POST', '/v1/uploads', null, {
    ...headers,
    'tus-resumable': '1.0.0',
    'upload-length': '10',
    'upload-metadata': `filename ${Buffer.from('later.onnx').toString('base64')}`,
  })
  if (upload.status !== 201) throw new Error(`the upload was not made: ${upload.status} ${upload.body.toString()}`)
  return {
    models,
    datasets,
    jobs,
    uploads: String(upload.headers.location).split('/').at(-1)!,
    tensor: 'w',
    artifact: 'linear.fp16.onnx',
    state: ended.state,
    modelHex: Buffer.from(model).toString('hex'),
    datasetHex: Buffer.from(dataset).toString('hex'),
  }
}

/** Resolves with what it printed once it has ended; its report is in the folder. */
async function schemathesis(
  owner: Owner,
  url: string,
  folder: string,
  seedNumber: number,
  settings: ApiSettings,
  seeds: Record<string, string>,
  more: readonly string[],
): Promise<string> {
  const options = {
    checks: 'all',
    // hooks.py has one in its place, deleted_is_gone.
    'exclude-checks': 'use_after_free',
    phases: settings.phases.join(','),
    'max-examples': settings.examples,
    seed: seedNumber,
    'request-timeout': REQUEST_SECONDS,
    'generation-database': 'none',
    'output-truncate': 'true',
    'report-json-path': join(folder, 'report.json'),
    'report-dir': folder,
  }
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])
  const config = ['--config-file', join(CONFIG, 'schemathesis.toml')]
  const run = ['run', `${url}/openapi.json`, ...flags, ...more, '--continue-on-failure', '--no-color']
  const child = spawn(pythonProgram('schemathesis'), [...config, ...run], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      SCHEMATHESIS_HOOKS: 'hooks',
      PYTHONPATH: CONFIG,
      PYTHONDONTWRITEBYTECODE: '1',
      TENSORPRESS_API_SEEDS: JSON.stringify(seeds),
      TENSORPRESS_API_SEED: String(seedNumber),
    },
  })
  owner.after(() => child.kill('SIGKILL'))
  const timer = setTimeout(() => child.kill('SIGKILL'), MAX_RUN_MS)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
  }
  const [status] = (await once(child, 'close')) as [number | null]
  clearTimeout(timer)
  // 0: clean, 1: checks failed, which the report tells; anything else is no run at all.
  if (status !== 0 && status !== 1) throw new Error(`schemathesis ended with ${status}: ${output.slice(-2000)}`)
  return output
}
