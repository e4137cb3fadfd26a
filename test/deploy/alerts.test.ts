// The alert rules without a server: promtool's own checks and unit tests, a firing and a quiet case for every alert, and texts that
// lead to the operations guide. That their metrics exist is shown by prometheus.test.ts.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { ERROR_CODES } from '../../src/errors.ts'
import { METRICS as VALIDATION_METRICS } from '../../src/validate/requirement.ts'
import { promtool, skipWithoutPrometheus } from '../support/prometheus.ts'
import { readReferences } from '../support/promql-references.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const RULES = join(ROOT, 'k8s', 'monitoring', 'prometheus-rules.yaml')
const CASES = join(import.meta.dirname, 'alert-cases.yaml')

interface Alert {
  alert: string
  expr: string
  labels: { severity: string }
  annotations: { summary: string; description: string; runbook: string }
}

const { groups } = parse(readFileSync(RULES, 'utf8')) as { groups: { rules: Alert[] }[] }
const alerts = groups.flatMap(({ rules }) => rules)
const cases = (parse(readFileSync(CASES, 'utf8')) as { tests: { name: string }[] }).tests.map(({ name }) => name)

test('promtool takes the rules, and every unit test of them passes', { skip: skipWithoutPrometheus() }, () => {
  const check = promtool(['check', 'rules', '--lint=all', '--lint-fatal', RULES])
  assert.equal(check.status, 0, check.output)
  assert.match(check.output, new RegExp(`${alerts.length} rules found`))
  const run = promtool(['test', 'rules', CASES])
  assert.equal(run.status, 0, run.output)
})

test('each alert has a unit test in which it fires and one in which it stays quiet', () => {
  assert.ok(alerts.length >= 15)
  for (const { alert } of alerts) {
    assert.ok(
      cases.some((name) => name.startsWith(`${alert} fires`)),
      `${alert} fires`,
    )
    assert.ok(
      cases.some((name) => name.startsWith(`${alert} stays quiet`)),
      `${alert} stays quiet`,
    )
  }
})

test('each alert has a severity, a text, and a runbook heading in the operations guide', () => {
  const guide = readFileSync(join(ROOT, 'docs', 'operations.md'), 'utf8')
  const headings = [...guide.matchAll(/^#+ (.+)$/gm)].map((match) => match[1]!)
  for (const { alert, labels, annotations } of alerts) {
    assert.match(labels.severity, /^(critical|warning|info)$/)
    assert.ok(annotations.summary.length > 10 && !annotations.summary.endsWith('.'), alert)
    assert.match(annotations.description, /\.$/)
    assert.equal(annotations.runbook, `docs/operations.md#${alert.toLowerCase()}`)
    assert.ok(headings.includes(alert), `docs/operations.md has no heading "${alert}"`)
  }
  assert.ok(existsSync(join(ROOT, 'docs', 'operations.md')))
})

test('error codes and validation metrics that alerts name are real ones', () => {
  let named = 0
  for (const { expr } of alerts) {
    for (const { matchers } of readReferences(expr).selectors) {
      for (const { label, value } of matchers) {
        const known = label === 'code' ? Object.keys(ERROR_CODES) : label === 'metric' ? [...VALIDATION_METRICS] : null
        if (known === null) continue
        for (const part of value.split('|')) {
          assert.ok((known as string[]).includes(part), `${label} ${part}`)
          named++
        }
      }
    }
  }
  assert.ok(named >= 15)
})
