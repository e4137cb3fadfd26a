// docs/errors.md and docs/metrics.md against the tables in the sources, both ways: every row is documented, and nothing is
// documented that does not exist.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ERROR_CODES, type ErrorCode } from '../../src/errors.ts'
import { STATUS_OF } from '../../src/http/problem-json.ts'
import { METRIC_PREFIX, METRICS } from '../../src/telemetry/metrics.ts'

const page = (name: string) => readFileSync(join(import.meta.dirname, '..', '..', 'docs', name), 'utf8')

test('docs/errors.md lists exactly the error codes, each with its status and meaning', () => {
  const rows = [...page('errors.md').matchAll(/^\| `(\w+)` \| (\d{3}) [^|]+ \| (.+) \|$/gm)]
  const documented = rows.map(([, code, status, meaning]) => ({ code, status: Number(status), meaning }))
  const expected = (Object.keys(ERROR_CODES) as ErrorCode[]).map((code) => ({
    code,
    status: STATUS_OF[code],
    meaning: ERROR_CODES[code].summary,
  }))
  const byCode = (a: { code: string | undefined }, b: { code: string | undefined }) => (a.code! < b.code! ? -1 : 1)
  assert.deepEqual(documented.sort(byCode), expected.sort(byCode))
})

test('docs/metrics.md lists exactly the metrics, each with its type and labels', () => {
  const rows = [...page('metrics.md').matchAll(/^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \| .+ \|$/gm)]
  const documented = rows.map(([, name, type, labels]) => ({
    name,
    type,
    labels: [...labels!.matchAll(/`(\w+)`/g)].map((match) => match[1]),
  }))
  const expected = Object.entries(METRICS).map(([name, { type, labels }]) => ({
    name: METRIC_PREFIX + name,
    type,
    labels: [...labels],
  }))
  assert.deepEqual(documented, expected)
})
