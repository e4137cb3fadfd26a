// Writes k8s/monitoring/grafana-dashboard.json from scripts/monitoring, and k8s/monitoring/prometheus-rule.yaml from the rule file
// beside it: the same groups in the operator's form. With --check nothing is written, and the exit status is 1 on a difference.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse, stringify } from 'yaml'
import { grafanaDashboard } from './monitoring/grafana-dashboard.ts'

const folder = join(import.meta.dirname, '..', 'k8s', 'monitoring')

function prometheusRule(): string {
  const { groups } = parse(readFileSync(join(folder, 'prometheus-rules.yaml'), 'utf8')) as { groups: unknown[] }
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
  'grafana-dashboard.json': `${JSON.stringify(grafanaDashboard(), null, 2)}\n`,
  'prometheus-rule.yaml': prometheusRule(),
}

for (const [file, text] of Object.entries(files)) {
  const path = join(folder, file)
  let before = ''
  try {
    before = readFileSync(path, 'utf8')
  } catch {
    // A file that is not there yet differs.
  }
  if (before === text) continue
  if (process.argv.includes('--check')) {
    console.error(`k8s/monitoring/${file} differs from its sources: run "npm run generate"`)
    process.exitCode = 1
  } else writeFileSync(path, text)
}
