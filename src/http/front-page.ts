// The page at `/`: what this server is, which device it works on, and the calls to try first. No script, no outside resource.

import type { Health } from '../jobs/service.ts'

export interface FrontPageFacts {
  version: string
  /** Scheme, host and port under which the reader came. */
  origin: string
  /** null: the reader showed no key that may see it. */
  health: Health | null
  keysRequired: boolean
}

const STYLE = `
  :root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2563eb }
  @media (prefers-color-scheme: dark) { :root { --accent: #7aa7ff } }
  body { font: 16px/1.55 system-ui, sans-serif; margin: 0; padding: 2rem 1.25rem 4rem }
  main { max-width: 58rem; margin: 0 auto }
  h1 { font-size: 1.9rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
  p { margin: .5rem 0 } .lead { font-size: 1.1rem }
  a { color: var(--accent) }
  pre { background: var(--soft); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; font-size: .86rem }
  table { border-collapse: collapse; width: 100% } td { border-top: 1px solid var(--line); padding: .4rem .75rem .4rem 0; vertical-align: top }
  td:first-child { white-space: nowrap; opacity: .75 }
  .state { display: inline-block; border-radius: 99px; padding: .05rem .7rem; font-size: .85rem; border: 1px solid var(--line) }
  .ok { background: #16a34a22 } .bad { background: #dc262622 }
`

export function renderFrontPage({ version, origin, health, keysRequired }: FrontPageFacts): string {
  const key = keysRequired ? '-H "Authorization: Bearer $KEY" ' : ''
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tensorpress</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
<main>
<h1>Tensorpress</h1>
<p class="lead">Upload an ONNX or safetensors model, compress its weights on the GPU, read what accuracy is left, download the result.</p>
${health ? `<p><span class="state ${health.ready ? 'ok' : 'bad'}">${health.ready ? 'ready' : 'not ready'}</span></p>` : ''}
${keysRequired ? '<p>Calls need an API key. A browser asks for it as a password; the user name does not matter.</p>' : ''}

<h2>In one call</h2>
<pre>curl -f ${key}-F model=@model.onnx -F recipe=int8 ${escapeHtml(origin)}/v1/compress -o model.int8.onnx</pre>

<h2>Step by step</h2>
<pre>curl ${key}-T model.onnx ${escapeHtml(origin)}/v1/models/
curl ${key}${escapeHtml(origin)}/v1/jobs \\
     --json '{"model": "&lt;id&gt;", "recipe": "int8", "require": {"metric": "cosine", "maxDrop": 0.01}}'
curl -N ${key}${escapeHtml(origin)}/v1/jobs/&lt;id&gt;/events
curl -OJ ${key}${escapeHtml(origin)}/v1/jobs/&lt;id&gt;/artifact</pre>
<p>The report of a job is at <code>/v1/jobs/&lt;id&gt;/report</code>: JSON for programs, a page with charts for browsers.</p>

<h2>More</h2>
<table>
<tr><td><a href="/docs">/docs</a></td><td>every call, with schemas and examples</td></tr>
<tr><td><a href="/openapi.json">/openapi.json</a></td><td>the same for machines (OpenAPI 3.1)</td></tr>
<tr><td><a href="/v1/jobs">/v1/jobs</a>, <a href="/v1/models">/v1/models</a></td><td>what is here</td></tr>
<tr><td><a href="/readyz">/readyz</a></td><td>whether work can be done</td></tr>
<tr><td><a href="/metrics">/metrics</a></td><td>Prometheus metrics</td></tr>
</table>

${health ? serverTable(version, health) : ''}
</main>
`
}

function serverTable(version: string, { worker, queue }: Health): string {
  const { device } = worker
  const deviceText = device
    ? device.kind === 'reference'
      ? 'the scalar reference device (no GPU adapter was found): exact, and slow'
      : `${device.adapter}, ${device.driver}${device.software ? ' (software adapter)' : ''}`
    : 'none yet: the worker is starting, or could not start'
  return `<h2>This server</h2>
<table>
<tr><td>Version</td><td>${escapeHtml(version)}</td></tr>
<tr><td>Device</td><td>${escapeHtml(deviceText)}</td></tr>
<tr><td>Queue</td><td>${queue.queued} waiting (at most ${queue.limit}), ${queue.running} in work</td></tr>
</table>`
}

export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
  return text.replaceAll(/[&<>"']/g, (character) => entities[character]!)
}
