// The report as one self-contained page: no script, no external file, readable in light and dark, on a phone and on paper.
// Entry: renderReportHtml. Sections are in report-sections.ts and report-tables.ts, charts in report-charts.ts.

import type { Report, Verdict } from './report.ts'
import { accuracySection, requirementSection, sizeSection, speedSection } from './report-sections.ts'
import { REPORT_STYLE } from './report-style.ts'
import { notesSection, reproduceSection, tensorSection, weightSection } from './report-tables.ts'
import type { Markup } from './report-text.ts'
import {
  bytesText,
  escapeHtml,
  html,
  NOTHING,
  numberText,
  percentText,
  signedText,
  threeDigits,
} from './report-text.ts'

const VERDICTS: Readonly<Record<Verdict, { tone: string; title: string }>> = {
  requirement_met: { tone: 'good', title: 'Requirement met' },
  requirement_not_met: { tone: 'bad', title: 'Requirement not met' },
  validated: { tone: 'plain', title: 'Checked; no requirement to judge by' },
  attention: { tone: 'warn', title: 'Look before you use it' },
  not_validated: { tone: 'warn', title: 'Not validated' },
}

/** The whole page. Pure and quick; every name in it is escaped. */
export function renderReportHtml(report: Report): string {
  const { tone, title } = VERDICTS[report.verdict.outcome]
  const warnings = report.warnings.map((warning) => html`<li>${warning}</li>`)
  const body = html`<main>
<header><span class="brand">Tensorpress</span><h1>${report.model.fileName}</h1><span class="soft">recipe ${report.recipe.name} · ${report.createdAt.replace('T', ' ').replace(/\.\d+Z$/, ' UTC')}</span></header>
<div class="verdict ${tone}" role="status"><b>${title}</b>${report.verdict.sentence}</div>
<div class="figures">${keyFigures(report)}</div>
${warnings.length === 0 ? NOTHING : html`<section><h2>Know this first</h2><ul>${warnings}</ul></section>`}
${requirementSection(report)}
${sizeSection(report)}
${accuracySection(report)}
${weightSection(report)}
${speedSection(report)}
${tensorSection(report)}
${notesSection(report)}
${reproduceSection(report)}
</main>`
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(report.model.fileName)} · ${escapeHtml(report.recipe.name)} · Tensorpress report</title>
<style>${REPORT_STYLE}</style></head><body>${body.text}</body></html>
`
}

function keyFigures(report: Report): Markup[] {
  const { sizes } = report
  const figures: [string, string][] = [
    [
      percentText(sizes.rawRatio),
      `of the original size: ${bytesText(sizes.original.rawBytes)} → ${bytesText(sizes.artifact.rawBytes)}`,
    ],
  ]
  if (sizes.zstdRatio !== null) {
    figures.push([
      percentText(sizes.zstdRatio),
      `after zstd on both: ${bytesText(sizes.original.zstdBytes)} → ${bytesText(sizes.artifact.zstdBytes)}`,
    ])
  }
  const accuracy = accuracyFigure(report)
  if (accuracy !== null) figures.push(accuracy)
  const { validation } = report
  if (validation?.kind === 'run') {
    if (validation.latencyRatio !== null) {
      figures.push([
        `${threeDigits(validation.latencyRatio)} ×`,
        `median latency: ${threeDigits(validation.original.latency.medianMs)} → ${threeDigits(validation.artifact.latency.medianMs)} ms`,
      ])
    }
  }
  figures.push([
    `${report.tensorCounts.compressed} of ${report.tensorCounts.total}`,
    `tensors compressed; ${report.tensorCounts.kept} kept as they were`,
  ])
  return figures.map(([value, text]) => html`<div class="figure"><b>${value}</b><span>${text}</span></div>`)
}

/** The one number that says most about accuracy, by what data there was. */
function accuracyFigure({ validation, metrics }: Report): [string, string] | null {
  if (validation?.kind === 'run' && validation.classification !== null) {
    const { top1 } = validation.classification
    const points = `${signedText(100 * top1.difference.value, 3)} pt`
    const before = percentText(top1.before.value, 2)
    return [points, `top-1: ${before} → ${percentText(top1.after.value, 2)} on ${top1.n} labelled items`]
  }
  if (validation?.kind === 'run' && validation.regression !== null) {
    const { rmse, n } = validation.regression
    return [
      signedText(rmse.difference.value),
      `RMSE: ${numberText(rmse.before.value)} → ${numberText(rmse.after.value)} (n = ${n})`,
    ]
  }
  const { agreement, sqnr_db: sqnr } = metrics
  if (agreement?.after !== undefined && agreement.after !== null) {
    return [percentText(agreement.after, 2), `of ${agreement.n ?? 0} decisions stay the same (worst output)`]
  }
  if (sqnr === undefined) return null
  const readBack = validation?.kind === 'read-back'
  return sqnr.after === null
    ? ['identical', readBack ? 'every weight of both models' : 'every output of both models']
    : [
        `${threeDigits(sqnr.after)} dB`,
        `signal to quantization noise, ${readBack ? 'all changed weights' : 'worst output'}`,
      ]
}
