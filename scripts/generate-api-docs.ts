// Writes what the API's documentation takes from the sources: docs/openapi.json, docs/errors.md, docs/metrics.md whole, and
// the tables of routes and limits in docs/api.md. With --check it writes nothing and fails when a file differs.

import { readFileSync, writeFileSync } from 'node:fs'
import { STATUS_CODES } from 'node:http'
import { join } from 'node:path'
import { environmentName, LIMITS, loadConfig, RETENTION, SETTINGS, WEBHOOKS } from '../src/config.ts'
import { ERROR_CODES, type ErrorCode } from '../src/errors.ts'
import { listRoutes } from '../src/http/app.ts'
import type { HttpDeps } from '../src/http/deps.ts'
import { buildOpenApi } from '../src/http/openapi.ts'
import { STATUS_OF } from '../src/http/problem-json.ts'
import { METRIC_PREFIX, METRICS } from '../src/telemetry/metrics.ts'
import { VERSION } from '../src/version.ts'

const root = join(import.meta.dirname, '..')
// Handlers are not called here, so the routes need no service.
const routes = listRoutes({ config: loadConfig({}) } as HttpDeps)

const KINDS: Record<(typeof ERROR_CODES)[ErrorCode]['kind'], string> = {
  invalid_request: 'The request is wrong: change it',
  access: 'Who is asking',
  not_found: 'It is not there',
  conflict: 'The state does not allow it',
  format: 'The bytes of the file are wrong',
  unsupported: 'Well-formed, and outside of what is supported',
  capacity: 'A named limit was met',
  device: 'The machine failed: trying again may help',
  unprocessable: 'The outcome is not good enough',
  cancelled: 'Somebody stopped it',
  unavailable: 'Not now',
  internal: 'A bug',
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}

function errorsPage(): string {
  const sections = Object.entries(KINDS).map(([kind, title]) => {
    const rows = Object.entries(ERROR_CODES)
      .filter(([, row]) => row.kind === kind)
      .map(([code, row]) => {
        const status = STATUS_OF[code as ErrorCode]
        return `| \`${code}\` | ${status} ${STATUS_CODES[status]} | ${cell(row.summary)} |`
      })
    return [`## ${title}`, '', '| code | status | meaning |', '|---|---|---|', ...rows].join('\n')
  })
  return `# Errors

Generated from \`src/errors.ts\` and \`src/http/problem-json.ts\` by \`npm run generate\`; do not edit.

Every failed call answers with an RFC 9457 problem document (\`application/problem+json\`):

| member | meaning |
|---|---|
| \`code\` | one of the codes below: stable, for programs |
| \`detail\` | what was found, what is allowed, where, and what to do: for people |
| \`context\` | the figures behind it; for limits \`limit\`, \`allowed\` and \`requested\` |
| \`type\`, \`title\`, \`status\`, \`instance\` | as in the RFC; \`type\` is \`urn:tensorpress:error:\` and the code |
| \`requestId\` | also in the \`X-Request-Id\` header and in every log line |

A failed job carries \`code\`, \`detail\` and \`context\` in its \`error\`; the command line prints the detail and the code in
brackets, and its exit status follows the kind (see [cli.md](cli.md)).

${sections.join('\n\n')}
`
}

function metricsPage(): string {
  const rows = Object.entries(METRICS).map(([name, row]) => {
    const labels = row.labels.map((label) => `\`${label}\``).join(', ')
    return `| \`${METRIC_PREFIX}${name}\` | ${row.type} | ${labels} | ${cell(row.help)} |`
  })
  return `# Metrics

Generated from \`src/telemetry/metrics.ts\` by \`npm run generate\`; do not edit.

\`GET /metrics\` answers in the Prometheus text format. Base units throughout: seconds, bytes, ratios. Labels are bounded:
methods, stages, kernels, error codes and route templates, never ids or names from models.

| metric | type | labels | meaning |
|---|---|---|---|
${rows.join('\n')}

Beside these come the figures of the server process itself under the same prefix, as prom-client makes them: CPU seconds
(\`${METRIC_PREFIX}process_cpu_seconds_total\`), resident memory (\`${METRIC_PREFIX}process_resident_memory_bytes\`), event loop
delay (\`${METRIC_PREFIX}nodejs_eventloop_lag_p99_seconds\`), heap and garbage collection.

## Questions and queries

| question | query |
|---|---|
| bytes compressed per second of GPU time | \`rate(${METRIC_PREFIX}compressed_bytes_total[5m]) / rate(${METRIC_PREFIX}gpu_seconds_total[5m])\` |
| GB/s of each kernel | \`rate(${METRIC_PREFIX}gpu_kernel_bytes_total[5m]) / on(kernel) sum by (kernel) (rate(${METRIC_PREFIX}gpu_kernel_seconds_total[5m])) / 1e9\` |
| jobs that fail | \`sum by (code) (rate(${METRIC_PREFIX}job_failures_total[15m]))\` |
| how long jobs wait (95 % of them) | \`histogram_quantile(0.95, rate(${METRIC_PREFIX}queue_wait_seconds_bucket[15m]))\` |
| no GPU in use | \`${METRIC_PREFIX}reference_device == 1\` |
`
}

function routeTable(): string {
  const rows = routes
    .filter((route) => route.tag !== 'Pages')
    .map((route) => {
      const success = Object.keys(route.responses).filter((status) => status < '400')
      return `| \`${route.method.toUpperCase()} ${route.path}\` | ${cell(route.summary)} | ${route.scope} | ${success.join(', ')} |`
    })
  return ['| call | meaning | scope | answers |', '|---|---|---|---|', ...rows].join('\n')
}

function settingsTable(
  title: string,
  settings: Record<string, { default: number; unit: string; reason: string }>,
): string {
  const rows = Object.entries(settings).map(
    ([name, row]) =>
      `| \`${name}\` | ${row.default.toLocaleString('en-US')} ${row.unit === 'count' ? '' : row.unit} | \`${environmentName(name)}\` | ${cell(row.reason)} |`,
  )
  return [`| ${title} | default | variable | why |`, '|---|---|---|---|', ...rows].join('\n')
}

/** The settings that are texts; those that are numbers have tables of their own. */
function textSettingsTable(): string {
  const rows = Object.entries(SETTINGS).map(
    ([name, row]) =>
      `| \`${environmentName(name)}\` | ${row.default === '' ? 'not set' : `\`${row.default}\``} | ${cell(row.reason)} |`,
  )
  return ['| variable | default | what and why |', '|---|---|---|', ...rows].join('\n')
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

const files: Record<string, string> = {
  'docs/openapi.json': `${JSON.stringify(buildOpenApi(routes, VERSION), null, 2)}\n`,
  'docs/errors.md': errorsPage(),
  'docs/metrics.md': metricsPage(),
  'docs/api.md': withParts('docs/api.md', {
    routes: routeTable(),
    limits: settingsTable('limit', { ...LIMITS, ...WEBHOOKS }),
  }),
  'docs/operations.md': withParts('docs/operations.md', {
    settings: textSettingsTable(),
    retention: settingsTable('setting', RETENTION),
    webhooks: settingsTable('setting', WEBHOOKS),
  }),
}

for (const [file, text] of Object.entries(files)) {
  const path = join(root, file)
  let before = ''
  try {
    before = readFileSync(path, 'utf8')
  } catch {
    // A page that is not there yet differs.
  }
  if (before === text) continue
  if (process.argv.includes('--check')) {
    console.error(`${file} differs from its sources: run "npm run generate"`)
    process.exitCode = 1
  } else writeFileSync(path, text)
}
