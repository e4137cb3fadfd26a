// The sections of the report page that answer "what was done and how to repeat it": weight histograms, tensor table, plan
// notes, reproduction.

import type { TensorOutcome } from '../jobs/protocol.ts'
import { SKIP_REASONS } from '../tensor/model.ts'
import type { Report } from './report.ts'
import { histogramChart } from './report-charts.ts'
import type { Markup } from './report-text.ts'
import { bytesText, countText, html, NOTHING, numberText, percentText, plural, threeDigits } from './report-text.ts'

/** More rows make a page that no browser scrolls well; the JSON report has all of them. */
const MAX_ROWS = 500

export function weightSection({ tensors }: Report): Markup {
  const drawn = tensors.flatMap((tensor) =>
    tensor.histogram === undefined ? [] : [{ tensor, histogram: tensor.histogram }],
  )
  if (drawn.length === 0) return NOTHING
  const anyBand = drawn.some(({ histogram }) => histogram.threshold !== null)
  const charts = drawn.map(({ tensor, histogram }) => {
    const threshold = histogram.threshold === null ? '' : ` · |w| ≤ ${numberText(histogram.threshold)} became 0`
    return html`<div class="chart"><p><b>${tensor.name}</b> <span class="soft">[${tensor.shape.join(', ')}]${threshold}</span></p>${histogramChart(tensor.name, histogram)}</div>`
  })
  const anyAfter = drawn.some(({ histogram }) => histogram.after !== null)
  const after = anyAfter ? html`<span class="key"><i class="after"></i>artifact, dequantized</span>` : NOTHING
  const band = anyBand ? html`<span class="key"><i class="zero"></i>set to zero</span>` : NOTHING
  return html`<section><h2>Weights before and after</h2><p><span class="key"><i></i>original</span>${after}${band}<span class="soft">The largest compressed tensors; weights per bin, logarithmic.</span></p><div class="charts">${charts}</div></section>`
}

/** A longer list of kept tensors folds away below the compressed ones. */
const MAX_UNFOLDED_KEPT = 40

export function tensorSection({ tensors, tensorCounts }: Report): Markup {
  const reasons = Object.entries(tensorCounts.byReason).map(
    ([reason, count]) =>
      html`<li><code>${reason}</code> ${countText(count)}: ${SKIP_REASONS[reason as keyof typeof SKIP_REASONS]}</li>`,
  )
  const compressed = tensors.filter((tensor) => tensor.action === 'compress')
  const kept = tensors.filter((tensor) => tensor.action === 'keep')
  const keptTable = tensorTable(kept, 'Kept as they were')
  return html`<section class="long"><h2>Every tensor</h2>
<p>${plural(tensorCounts.compressed, 'tensor')} compressed, ${countText(tensorCounts.kept)} kept${reasons.length === 0 ? '.' : ', because:'}</p>${reasons.length === 0 ? NOTHING : html`<ul>${reasons}</ul>`}
${tensorTable(compressed, 'Compressed')}${kept.length <= MAX_UNFOLDED_KEPT ? keptTable : html`<details><summary>The ${countText(kept.length)} tensors that were kept</summary>${keptTable}</details>`}</section>`
}

function tensorTable(tensors: TensorOutcome[], title: string): Markup {
  if (tensors.length === 0) return NOTHING
  const shown = [...tensors].sort((a, b) => b.bytesBefore - a.bytesBefore).slice(0, MAX_ROWS)
  const cut =
    tensors.length > MAX_ROWS
      ? html`<p class="soft">The ${MAX_ROWS} largest of ${countText(tensors.length)}; the JSON report has all.</p>`
      : NOTHING
  return html`<h3>${title}, largest first</h3>${cut}<div class="scroll"><table class="tensors"><tr><th>tensor</th><th>what happened</th><th class="n">bytes</th><th class="n">SQNR</th><th class="n">max |error|</th><th class="n">cosine</th><th class="n">zeros</th></tr>${shown.map(tensorRow)}</table></div>`
}

function tensorRow(tensor: TensorOutcome): Markup {
  const { measure } = tensor
  const pill =
    tensor.action === 'compress'
      ? html`<span class="pill on">${tensor.steps.join(' + ')}</span>`
      : html`<span class="pill">${tensor.reason ?? 'kept'}</span>`
  const bytes =
    tensor.action === 'compress'
      ? `${bytesText(tensor.bytesBefore)} → ${bytesText(tensor.bytesAfter)}`
      : bytesText(tensor.bytesBefore)
  const sqnr =
    measure === null
      ? ''
      : measure.sumSquaredError === 0
        ? 'exact'
        : measure.sqnrDb === null
          ? '-'
          : `${threeDigits(measure.sqnrDb)} dB`
  const zeros = measure === null ? '' : `${percentText(measure.zerosBefore)} → ${percentText(measure.zerosAfter)}`
  return html`<tr><td class="name">${tensor.name}<small>${tensor.dtype} [${tensor.shape.join(', ')}]${tensor.roles.length === 0 ? '' : ` · ${tensor.roles.join(', ')}`}</small></td>
<td>${pill} ${tensor.detail}${resolvedText(tensor)}</td><td class="n">${bytes}</td><td class="n">${sqnr}</td><td class="n">${measure === null ? '' : numberText(measure.maxAbsError, 3)}</td>
<td class="n">${measure === null || measure.cosine === null ? '' : measure.cosine.toFixed(5)}</td><td class="n">${zeros}</td></tr>`
}

const RESOLVED_LABELS: Readonly<Record<string, string>> = {
  sparsityRequested: 'requested sparsity',
  sparsity: 'achieved sparsity',
  clip: 'clipped at',
}

/** What was decided while running: thresholds, scales, achieved sparsity. */
function resolvedText({ resolved }: TensorOutcome): Markup {
  const entries = Object.entries(resolved).map(([key, value]) => `${RESOLVED_LABELS[key] ?? key} ${valueText(value)}`)
  return entries.length === 0 ? NOTHING : html`<br><span class="soft">${entries.join(', ')}</span>`
}

/** Numbers shortly; {least, largest} as a range. */
function valueText(value: unknown): string {
  if (typeof value === 'number') return numberText(value)
  if (typeof value !== 'object' || value === null) return String(value)
  if ('least' in value && 'largest' in value) return `${valueText(value.least)} to ${valueText(value.largest)}`
  return Object.entries(value)
    .map(([key, part]) => `${key} ${valueText(part)}`)
    .join(', ')
}

export function notesSection({ planNotes }: Report): Markup {
  if (planNotes.length === 0) return NOTHING
  const notes = planNotes.map(
    ({ tensor, note }) => html`<li>${tensor === null ? NOTHING : html`<code>${tensor}</code> `}${note}</li>`,
  )
  return html`<section><h2>Notes on the file</h2><ul>${notes}</ul></section>`
}

export function reproduceSection(report: Report): Markup {
  const { device, versions, dataset, model } = report
  const hash = (what: string, name: string, sizeBytes: number, sha256: string | null) =>
    html`<tr><td>${what}</td><td class="name">${name}</td><td class="n">${countText(sizeBytes)} bytes</td><td><code>${sha256 ?? 'not hashed (validation was off)'}</code></td></tr>`
  const environment = report.validation?.environment
  const facts: [string, string][] = [
    ['Tensorpress', versions.tensorpress],
    ['Node', versions.node],
    ['WebGPU binding (Dawn)', versions.webgpu ?? 'not installed'],
    ['onnxruntime', versions.onnxruntime ?? 'not installed'],
    ['adapter', `${device.adapter} (${device.vendor} ${device.architecture})${device.software ? ', software' : ''}`],
    ['driver', device.driver],
    ['validation seed', String(report.seeds.validation ?? 'none used')],
    ['job', `${report.jobId}, attempt ${report.attempt}`],
  ]
  if (environment !== undefined) {
    facts.push([
      'machine',
      `${environment.platform} ${environment.arch}, ${environment.cpu}, ${environment.cpuCount} CPUs, ${bytesText(environment.memoryBytes)}`,
    ])
    facts.push([
      'variables of the inference child',
      Object.entries(environment.variables)
        .map(([k, v]) => `${k}=${v}`)
        .join(' '),
    ])
  }
  const recipe = JSON.stringify(report.recipe, null, 2)
  return html`<section class="long"><h2>To get the same bytes again</h2><p>${report.reproduce.note}</p><pre>${report.reproduce.command}</pre>
<div class="scroll"><table><tr><th></th><th>file</th><th class="n">size</th><th>SHA-256</th></tr>
${model.files.map((file) => hash('original', file.name, file.sizeBytes, file.sha256))}${report.artifact.files.map((file) => hash('artifact', file.name, file.sizeBytes, file.sha256))}${dataset === null ? NOTHING : hash('dataset', dataset.fileName, dataset.sizeBytes, dataset.sha256)}</table></div>
<h3>Recipe</h3><pre>${recipe}</pre><h3>Environment</h3><div class="scroll"><table>${facts.map(([key, value]) => html`<tr><td>${key}</td><td>${value}</td></tr>`)}</table></div></section>`
}
