// Writes the results of docs/campaigns.md from campaigns/results/*.json, which `npm run campaign` leaves, between
// `<!-- begin results -->` and `<!-- end results -->`. With --check nothing is written, and the exit status is 1 on a difference.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type CampaignDocument, combined, type Figure, passed, RESULTS } from '../campaigns/campaign.ts'

const page = join(import.meta.dirname, '..', 'docs', 'campaigns.md')

const line = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`

function showValue({ value, unit }: Figure): string {
  const text = String(Math.round(value * 100) / 100)
  return unit === 'count' || unit === 'ratio' ? text : `${text} ${unit}`
}

/** Goals of added counts are judged per run, so only the others are shown. */
function showGoal({ goal, unit }: Figure): string {
  if (goal === null || (unit === 'count' && 'atLeast' in goal)) return ''
  return 'atMost' in goal ? `at most ${goal.atMost}` : `at least ${goal.atLeast}`
}

function section({ campaign, machine, portions }: CampaignDocument): string {
  const runs = portions.map(
    ({ command, startedAt, seconds, version, commit, ...rest }) =>
      `- \`${command}\`: ${startedAt.slice(0, 10)}, ${Math.ceil(seconds / 60)} min, version ${version} (${commit}): ${passed(rest) ? 'passed' : 'FAILED'}`,
  )
  const facts = [
    `- ${machine.cpu}, ${machine.cores} cores, ${Math.round(machine.memoryBytes / 2 ** 30)} GiB, ${machine.system}`,
    ...(machine.adapter === 'none' ? [] : [`- ${machine.adapter} (${machine.driver})`]),
    ...runs,
  ]
  const rows = combined(portions).map((figure) => line([figure.name, showValue(figure), showGoal(figure)]))
  return [
    `### ${campaign}`,
    facts.join('\n'),
    [line(['figure', 'value', 'goal']), '|---|---|---|', ...rows].join('\n'),
  ].join('\n\n')
}

const documents = readdirSync(RESULTS)
  .filter((name) => name.endsWith('.json'))
  .sort()
  .map((name) => JSON.parse(readFileSync(join(RESULTS, name), 'utf8')) as CampaignDocument)
const before = readFileSync(page, 'utf8')
const tables = documents.length > 0 ? documents.map(section).join('\n\n') : 'No results are checked in.'
const after = before.replace(
  /(<!-- begin results[^>]*-->\n)[\s\S]*?(<!-- end results -->)/,
  (_match, begin: string, end: string) => `${begin}\n${tables}\n\n${end}`,
)
if (after !== before && process.argv.includes('--check')) {
  console.error('docs/campaigns.md differs from campaigns/results: run npm run generate')
  process.exitCode = 1
} else if (after !== before) writeFileSync(page, after)
