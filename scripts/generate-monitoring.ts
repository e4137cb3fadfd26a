// Writes k8s/monitoring/grafana-dashboard.json from scripts/monitoring; from the rule file beside it prometheus-rule.yaml, the same
// groups in the operator's form; and the tables of metrics and alerts in docs/operations.md. With --check nothing is written, and
// the exit status is 1 on a difference.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse, stringify } from 'yaml'
import { METRIC_PREFIX, METRICS } from '../src/telemetry/metrics.ts'
import { ROWS } from './monitoring/dashboard-rows.ts'
import { grafanaDashboard } from './monitoring/grafana-dashboard.ts'

const root = join(import.meta.dirname, '..')

interface Alert {
  alert: string
  expr: string
  for?: string
  labels: { severity: string }
  annotations: { summary: string }
}

const { groups } = parse(readFileSync(join(root, 'k8s', 'monitoring', 'prometheus-rules.yaml'), 'utf8')) as {
  groups: { rules: Alert[] }[]
}
const alerts = groups.flatMap(({ rules }) => rules)

function alertTable(): string {
  const rows = alerts.map(
    (rule) =>
      `| [${rule.alert}](#${rule.alert.toLowerCase()}) | ${rule.labels.severity} | ${rule.for ?? 'at once'} | ${rule.annotations.summary.replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, '($1)')} |`,
  )
  return ['| alert | severity | after | says |', '|---|---|---|---|', ...rows].join('\n')
}

/** Where each metric of the product is looked at. */
function metricTable(): string {
  const panels = ROWS.flatMap((row) => row.panels)
  const rows = Object.keys(METRICS).map((name) => {
    const pattern = new RegExp(`\\b${METRIC_PREFIX}${name}(_bucket|_sum|_count)?\\b`)
    const shown = panels
      .filter(({ queries }) => queries.some(({ expr }) => pattern.test(expr)))
      .map(({ title }) => title)
    const watched = alerts
      .filter(({ expr }) => pattern.test(expr))
      .map(({ alert }) => `[${alert}](#${alert.toLowerCase()})`)
    return `| \`${METRIC_PREFIX}${name}\` | ${shown.join('; ')} | ${watched.join(', ')} |`
  })
  return ['| metric | panel of the dashboard | alert |', '|---|---|---|', ...rows].join('\n')
}

/** Replaces what stands between two comments of a hand-written page. */
function withParts(file: string, parts: Record<string, string>): string {
  let text = readFileSync(join(root, file), 'utf8')
  for (const [name, content] of Object.entries(parts)) {
    const begin = `<!-- begin ${name} (npm run generate) -->`
    const start = text.indexOf(begin)
    const stop = text.indexOf(`<!-- end ${name} -->`)
    if (start === -1 || stop < start) throw new Error(`${file} has no part "${name}" between its two comments`)
    text = `${text.slice(0, start)}${begin}\n${content}\n${text.slice(stop)}`
  }
  return text
}

function prometheusRule(): string {
  const manifest = {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: 'tensorpress', labels: { 'app.kubernetes.io/name': 'tensorpress' } },
    spec: { groups },
  }
  const head = '# Generated from prometheus-rules.yaml by `npm run generate`; do not edit.\n'
  return head + stringify(manifest, { lineWidth: 0 })
}

const files: Record<string, string> = {
  'k8s/monitoring/grafana-dashboard.json': `${JSON.stringify(grafanaDashboard(), null, 2)}\n`,
  'k8s/monitoring/prometheus-rule.yaml': prometheusRule(),
  'docs/operations.md': withParts('docs/operations.md', { 'metrics in use': metricTable(), alerts: alertTable() }),
}

for (const [file, text] of Object.entries(files)) {
  const path = join(root, file)
  let before = ''
  try {
    before = readFileSync(path, 'utf8')
  } catch {
    // A file that is not there yet differs.
  }
  if (before === text) continue
  if (process.argv.includes('--check')) {
    console.error(`${file} differs from its sources: run "npm run generate"`)
    process.exitCode = 1
  } else writeFileSync(path, text)
}
