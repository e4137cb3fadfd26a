// Charts of the report page: sizeBars (boxes), intervalChart and histogramChart (inline SVG with a title for screen
// readers). Classes give the colours; no script.

import type { WeightHistogram } from '../jobs/protocol.ts'
import type { Markup } from './report-text.ts'
import { bytesText, html, NOTHING, numberText, percentText } from './report-text.ts'
import type { PairedMetric } from './validation.ts'

export interface SizeBar {
  label: string
  bytes: number
  tone: 'before' | 'after'
  note: string
}

/** Horizontal bars on one scale, as plain boxes so that their text stays readable on a phone. */
export function sizeBars(bars: SizeBar[]): Markup {
  const longest = Math.max(...bars.map((bar) => bar.bytes), 1)
  const rows = bars.map(({ label, bytes, tone, note }) => {
    const share = (100 * bytes) / longest
    return html`<div class="bar"><b>${label}</b><span><i class="${tone}" style="width:${share.toFixed(2)}%"></i></span><em>${bytesText(bytes)}${note === '' ? '' : ` · ${note}`}</em></div>`
  })
  return html`<div class="bars">${rows}</div>`
}

/** Before and after of several shares as points with 95 % whiskers, on a common axis zoomed to what is there. */
export function intervalChart(rows: { label: string; metric: PairedMetric }[]): Markup {
  if (rows.length === 0) return NOTHING
  const ends = rows.flatMap(({ metric }) =>
    [metric.before, metric.after].flatMap(({ value, ci95 }) => (ci95 === null ? [value] : [...ci95, value])),
  )
  const span = Math.max(Math.max(...ends) - Math.min(...ends), 0.002)
  const low = Math.max(0, Math.min(...ends) - 0.08 * span)
  const high = Math.min(1, Math.max(...ends) + 0.08 * span)
  const rowHeight = 40
  const left = 150
  const width = 700
  const x = (value: number) => left + ((width - left - 70) * (value - low)) / Math.max(high - low, 1e-9)
  const bottom = rows.length * rowHeight
  const ticks = Array.from({ length: 5 }, (_, i) => low + ((high - low) * i) / 4)
  const point = (metric: PairedMetric['before'], y: number, tone: 'before' | 'after') => {
    const whisker =
      metric.ci95 === null
        ? NOTHING
        : html`<line x1="${x(metric.ci95[0]).toFixed(1)}" x2="${x(metric.ci95[1]).toFixed(1)}" y1="${y}" y2="${y}" class="s-${tone}" stroke-width="2"/>`
    return html`${whisker}<circle cx="${x(metric.value).toFixed(1)}" cy="${y}" r="4.5" class="f-${tone}"/>`
  }
  const lines = rows.map(({ label, metric }, index) => {
    const y = index * rowHeight
    return html`<text x="0" y="${y + 24}" class="strong">${label}</text>${point(metric.before, y + 14, 'before')}${point(metric.after, y + 27, 'after')}`
  })
  const grid = ticks.map(
    (tick) =>
      html`<line x1="${x(tick).toFixed(1)}" x2="${x(tick).toFixed(1)}" y1="2" y2="${bottom}" class="s-line"/><text x="${x(tick).toFixed(1)}" y="${bottom + 16}" text-anchor="middle">${percentText(tick, tickDigits(high - low))}</text>`,
  )
  return html`<svg class="wide" viewBox="0 0 ${width} ${bottom + 22}" role="img"><title>Accuracy before and after with 95 % confidence intervals</title>${grid}${lines}</svg>`
}

function tickDigits(span: number): number {
  return span > 0.2 ? 0 : span > 0.02 ? 1 : 2
}

/** Plot area of one histogram, in SVG units. */
const PLOT = { width: 320, height: 120, left: 30, bottom: 20 }

/**
 * Counts per bin on a logarithmic axis (a spike at zero would flatten everything else): the original as filled columns, the
 * artifact as lines on top, the band |w| <= threshold shaded.
 */
export function histogramChart(name: string, histogram: WeightHistogram): Markup {
  const { before, after, from, to, threshold } = histogram
  const bins = before.length
  const most = Math.max(...before, ...(after ?? []), 1)
  const top = Math.log10(most + 1)
  const columnWidth = PLOT.width / Math.max(bins, 1)
  const y = (count: number) => PLOT.height - (PLOT.height * Math.log10(count + 1)) / top
  const columns = before.map((count, bin) =>
    count === 0
      ? NOTHING
      : html`<rect x="${(bin * columnWidth).toFixed(2)}" y="${y(count).toFixed(1)}" width="${Math.max(0.5, columnWidth - 0.4).toFixed(2)}" height="${(PLOT.height - y(count)).toFixed(1)}" class="f-before" opacity=".55"/>`,
  )
  const path = after === null ? '' : spikes(after, columnWidth, y)
  const span = to - from
  const position = (value: number) => (span > 0 ? (PLOT.width * (value - from)) / span : PLOT.width / 2)
  const bandFrom = Math.max(0, position(-(threshold ?? 0)))
  const bandTo = Math.min(PLOT.width, position(threshold ?? 0))
  const band =
    threshold === null || threshold <= 0 || bandTo <= bandFrom
      ? NOTHING
      : html`<rect x="${bandFrom.toFixed(1)}" y="0" width="${(bandTo - bandFrom).toFixed(1)}" height="${PLOT.height}" class="f-zero" opacity=".22"/>`
  const decades = Array.from({ length: Math.floor(top) + 1 }, (_, power) => power).filter(
    (p) => p % (top > 5 ? 2 : 1) === 0,
  )
  const grid = decades.map(
    (power) =>
      html`<line x1="0" x2="${PLOT.width}" y1="${y(10 ** power).toFixed(1)}" y2="${y(10 ** power).toFixed(1)}" class="s-line"/><text x="-4" y="${(y(10 ** power) + 4).toFixed(1)}" text-anchor="end">${decadeText(power)}</text>`,
  )
  const zero = position(0)
  const zeroMark =
    zero > 30 && zero < PLOT.width - 30
      ? html`<text x="${zero.toFixed(1)}" y="${PLOT.height + 15}" text-anchor="middle">0</text>`
      : NOTHING
  return html`<svg viewBox="${-PLOT.left} -6 ${PLOT.width + PLOT.left + 2} ${PLOT.height + PLOT.bottom + 8}" role="img"><title>Weights of ${name}: count per bin, logarithmic</title>${grid}${band}${columns}<path d="${path}" class="s-after" fill="none" stroke-width="${Math.max(1, Math.min(2, columnWidth / 2)).toFixed(1)}"/>
<line x1="0" x2="${PLOT.width}" y1="${PLOT.height}" y2="${PLOT.height}" class="s-line"/><text x="0" y="${PLOT.height + 15}">${numberText(from, 3)}</text>${zeroMark}<text x="${PLOT.width}" y="${PLOT.height + 15}" text-anchor="end">${numberText(to, 3)}</text></svg>`
}

/** One vertical line per non-empty bin: quantized values sit on few levels, which a curve would hide. */
function spikes(counts: number[], columnWidth: number, y: (count: number) => number): string {
  return counts
    .flatMap((count, bin) =>
      count === 0 ? [] : [`M${((bin + 0.5) * columnWidth).toFixed(2)} ${PLOT.height}V${y(count).toFixed(1)}`],
    )
    .join('')
}

function decadeText(power: number): string {
  return power < 3 ? String(10 ** power) : power < 6 ? `${10 ** (power - 3)}k` : `${10 ** (power - 6)}M`
}
