// The sections of the report page that answer "is it good": requirement, sizes, accuracy, speed and memory.

import type { Report, SizeFigures } from './report.ts'
import type { SizeBar } from './report-charts.ts'
import { intervalChart, sizeBars } from './report-charts.ts'
import type { Markup } from './report-text.ts'
import {
  bytesText,
  countText,
  html,
  intervalText,
  NOTHING,
  numberText,
  percentText,
  plural,
  secondsText,
  signedText,
  threeDigits,
} from './report-text.ts'
import type { ClassificationResult, ModelRun, PairedMetric, ReadBackValidation, RunValidation } from './validation.ts'

export function requirementSection({ requirement }: Report): Markup {
  if (requirement === null) return NOTHING
  const rows = requirement.checks.map(
    (check) =>
      html`<tr><td class="${check.met ? 'ok' : 'no'}">${check.met ? 'met' : 'not met'}</td><td>${check.metric} ${check.condition}</td><td class="n">${numberText(check.required)}</td><td class="n">${numberText(check.found)}</td>
<td class="n">${intervalText(check.ci95, (value) => numberText(value))}</td><td class="n">${check.n === null ? '' : countText(check.n)}</td></tr>`,
  )
  return html`<section><h2>Requirement</h2><div class="scroll"><table><tr><th></th><th>condition</th><th class="n">required</th><th class="n">found</th><th class="n">95 % interval</th><th class="n">n</th></tr>${rows}</table></div>
<p class="soft">Judged on the point estimate; the interval says how sure it is.</p></section>`
}

export function sizeSection({ sizes, artifact }: Report): Markup {
  const bars: SizeBar[] = [
    { label: 'original', bytes: sizes.original.rawBytes, tone: 'before', note: '' },
    { label: 'artifact', bytes: sizes.artifact.rawBytes, tone: 'after', note: percentText(sizes.rawRatio) },
    ...zstdBar('original, zstd', 'before', sizes.original, null),
    ...zstdBar('artifact, zstd', 'after', sizes.artifact, sizes.zstdRatio),
  ]
  const { compressedBefore, compressedAfter, keptBytes } = sizes.tensors
  const sentences = sizes.sentences.map((sentence) => html`<li>${sentence}</li>`)
  const files = artifact.files.map(
    (file) =>
      html`<tr><td class="name">${file.name}</td><td class="n">${bytesText(file.sizeBytes)}</td><td class="n">${countText(file.sizeBytes)} bytes</td><td class="n">${file.zstdBytes === null ? '' : `${bytesText(file.zstdBytes)} after zstd`}</td></tr>`,
  )
  return html`<section><h2>Size</h2>${sizeBars(bars)}
<p>Compressed tensors: ${bytesText(compressedBefore)} → ${bytesText(compressedAfter)}${compressedBefore > 0 ? ` (${percentText(compressedAfter / compressedBefore)})` : ''}. Tensors kept as they were: ${bytesText(keptBytes)}.</p>
${sentences.length === 0 ? NOTHING : html`<ul>${sentences}</ul>`}
<div class="scroll"><table><caption></caption>${files}</table></div></section>`
}

function zstdBar(label: string, tone: SizeBar['tone'], figures: SizeFigures, ratio: number | null): SizeBar[] {
  if (figures.zstdBytes === null) return []
  const notes = [ratio === null ? '' : percentText(ratio), figures.zstdSampled ? 'sampled' : ''].filter(
    (note) => note !== '',
  )
  return [{ label, bytes: figures.zstdBytes, tone, note: notes.join(', ') }]
}

export function accuracySection({ validation, dataset }: Report): Markup {
  if (validation === null) {
    return html`<section><h2>Accuracy</h2><p>Validation was switched off for this job, so nothing is known about accuracy.</p></section>`
  }
  if (validation.kind === 'read-back') return readBackSection(validation)
  const { inputs } = validation
  const source =
    inputs.source === 'dataset'
      ? html`${plural(inputs.samples, 'sample')} of <b>${dataset?.fileName ?? 'the dataset'}</b>`
      : html`${plural(inputs.samples, 'synthetic input')} <span class="pill">synthetic, seed ${inputs.seed ?? 0}</span> (${inputs.kinds.join(', ')})`
  const tensors = inputs.tensors.map(({ name, dtype, dims }) => `${name} ${dtype} [${dims.join(', ')}]`).join('; ')
  const { classification, regression } = validation
  return html`<section><h2>Accuracy</h2><p>Both models ran on the same ${source}. <span class="soft">Inputs: ${tensors}.</span></p>
${classification === null ? NOTHING : classificationPart(classification)}
${regression === null ? NOTHING : regressionPart(regression)}
${outputsPart(validation)}</section>`
}

const KEY = html`<p><span class="key"><i></i>original</span><span class="key"><i class="after"></i>artifact</span></p>`

function classificationPart(result: ClassificationResult): Markup {
  const named: [string, PairedMetric | null][] = [
    ['top-1', result.top1],
    ['top-5', result.top5],
    ['accuracy', result.accuracy],
    ['F1 (class 1)', result.binary?.f1 ?? null],
    ['precision (class 1)', result.binary?.precision ?? null],
    ['recall (class 1)', result.binary?.recall ?? null],
    ['F1 macro', result.macro.f1],
    ['precision macro', result.macro.precision],
    ['recall macro', result.macro.recall],
    ['F1 weighted', result.weighted.f1],
    ['precision weighted', result.weighted.precision],
    ['recall weighted', result.weighted.recall],
  ]
  const rows = named.flatMap(([label, metric]) => (metric === null ? [] : [{ label, metric }]))
  const charted = rows.filter(({ label }) => /^(top|F1)/.test(label))
  return html`${KEY}<div class="scroll">${intervalChart(charted)}</div>
<div class="scroll"><table><tr><th>figure</th><th class="n">original</th><th class="n">artifact</th><th class="n">difference</th><th class="n">95 % interval of the difference</th></tr>${rows.map(({ label, metric }) => shareRow(label, metric))}</table></div>
<p class="soft">n = ${countText(result.n)}, ${result.classes} classes, decision: ${result.rule} of ‘${result.output}’. Only the original was right on ${countText(result.lost)}, only the artifact on ${countText(result.gained)}. Intervals: ${result.top1.method}; the others: ${result.macro.f1.method}.</p>
${confusionPart(result)}`
}

function shareRow(label: string, { before, after, difference }: PairedMetric): Markup {
  const points = (value: number) => `${signedText(100 * value, 3)} pt`
  return html`<tr><td>${label}</td><td class="n">${percentText(before.value, 2)}</td><td class="n">${percentText(after.value, 2)}</td><td class="n">${points(difference.value)}</td><td class="n">${intervalText(difference.ci95, points)}</td></tr>`
}

/** Larger matrices are in the JSON report; on a page they are unreadable. */
const MAX_SHOWN_CLASSES = 16

function confusionPart({ confusionBefore, confusionAfter, classes }: ClassificationResult): Markup {
  if (confusionBefore === null || confusionAfter === null || classes > MAX_SHOWN_CLASSES) return NOTHING
  return html`<div class="two">${confusionTable('Confusion, original', confusionBefore)}${confusionTable('Confusion, artifact', confusionAfter)}</div>
<p class="soft">Rows: true class; columns: predicted class.</p>`
}

function confusionTable(title: string, counts: number[][]): Markup {
  const head = counts.map((_, c) => html`<th>${c}</th>`)
  const rows = counts.map((row, label) => {
    const cells = row.map((count, predicted) => {
      const tone = count === 0 ? '' : label === predicted ? 'hit' : 'miss'
      return html`<td class="${tone}">${count === 0 ? '·' : count}</td>`
    })
    return html`<tr><th>${label}</th>${cells}</tr>`
  })
  return html`<div><h3>${title}</h3><div class="scroll"><table class="confusion"><tr><th></th>${head}</tr>${rows}</table></div></div>`
}

function regressionPart(result: NonNullable<RunValidation['regression']>): Markup {
  const named: [string, PairedMetric | null][] = [
    ['MAE', result.mae],
    ['RMSE', result.rmse],
    ['MSE', result.mse],
    ['R²', result.r2],
  ]
  const rows = named.flatMap(([label, metric]) =>
    metric === null
      ? []
      : [
          html`<tr><td>${label}</td><td class="n">${numberText(metric.before.value)}</td><td class="n">${numberText(metric.after.value)}</td><td class="n">${signedText(metric.difference.value)}</td><td class="n">${intervalText(metric.difference.ci95, (v) => signedText(v))}</td></tr>`,
        ],
  )
  return html`<div class="scroll"><table><tr><th>error against targets</th><th class="n">original</th><th class="n">artifact</th><th class="n">difference</th><th class="n">95 % interval of the difference</th></tr>${rows}</table></div><p class="soft">n = ${countText(result.n)}, output ‘${result.output}’; ${result.mae.method}.</p>`
}

function outputsPart({ outputs }: RunValidation): Markup {
  const rows = outputs.map((output) => {
    const agreement = output.agreement === null ? '' : percentText(output.agreement.value, 2)
    const interval = intervalText(output.agreement?.ci95 ?? null, (value) => percentText(value, 1))
    const nonFinite =
      output.nonFiniteIntroduced > 0
        ? html`<small class="no">${countText(output.nonFiniteIntroduced)} new NaN or Inf</small>`
        : NOTHING
    return html`<tr><td class="name">${output.name}<small>${output.dtype} [${output.dims.join(', ')}]</small>${nonFinite}</td><td class="n">${output.identical ? 'identical' : output.sqnrDb === null ? '-' : `${threeDigits(output.sqnrDb)} dB`}</td>
<td class="n">${output.cosine === null ? '-' : output.cosine.toFixed(6)}</td><td class="n">${numberText(output.maxAbsError, 3)}<br><span class="soft">of ${numberText(output.maxAbsOriginal, 3)}</span></td><td class="n">${numberText(output.mse, 3)}</td>
<td class="n">${agreement}${interval === '' ? NOTHING : html`<br><span class="soft">${interval}</span>`}</td></tr>`
  })
  return html`<h3>Outputs: artifact against original</h3><div class="scroll"><table><tr><th>output</th><th class="n">SQNR</th><th class="n">cosine</th><th class="n">max |error|</th><th class="n">MSE</th><th class="n">same decisions</th></tr>${rows}</table></div>`
}

function readBackSection(validation: ReadBackValidation): Markup {
  const { worst } = validation
  return html`<section><h2>Weights, read back</h2><p>The artifact was opened again and every tensor compared: ${plural(validation.identicalTensors, 'tensor')} (${bytesText(validation.identicalBytes)}) identical byte for byte, ${plural(validation.changedTensors, 'tensor')} dequantized on the CPU and compared by value.</p>
<p>All changed weights together: SQNR ${validation.sqnrDb === null ? '-' : `${threeDigits(validation.sqnrDb)} dB`}, cosine ${validation.cosine === null ? '-' : validation.cosine.toFixed(6)}, MSE ${numberText(validation.mse)}${worst === null ? '.' : `; worst: ${worst.name} with ${worst.sqnrDb === null ? '-' : threeDigits(worst.sqnrDb)} dB.`}</p>
<p class="soft">This format has no graph, so no model was run.</p></section>`
}

export function speedSection(report: Report): Markup {
  const { validation, performance } = report
  const stages = Object.entries(performance.stageSeconds).map(([stage, seconds]) => `${stage} ${secondsText(seconds)}`)
  const worker = Object.entries(performance.workerSeconds).map(([stage, seconds]) => `${stage} ${secondsText(seconds)}`)
  const kernels = performance.kernelTimes.map(
    ({ kernel, dispatches, seconds, bytes, source }) =>
      html`<tr><td>${kernel}</td><td class="n">${countText(dispatches)}</td><td class="n">${secondsText(seconds)}</td><td class="n">${bytesText(bytes)}</td><td class="n">${seconds > 0 ? `${bytesText(bytes / seconds)}/s` : ''}</td><td>${source === 'timestamp' ? 'GPU timestamps' : 'wall clock'}</td></tr>`,
  )
  return html`<section><h2>Speed and memory</h2>${validation?.kind === 'run' ? runTable(validation) : NOTHING}
<h3>Making the artifact</h3>${report.artifact.reused ? REUSED : NOTHING}<p>${stages.join(' · ')}<br><span class="soft">worker: ${worker.join(' · ')}; GPU ${secondsText(performance.gpuSeconds)}; ${bytesText(performance.bytesRead)} read, ${bytesText(performance.bytesWritten)} written${performance.bytesPerSecondWall === null ? '' : `; ${bytesText(performance.bytesPerSecondWall)}/s of input`}; peak worker memory ${bytesText(performance.workerPeakRssBytes)}</span></p>
${kernels.length === 0 ? NOTHING : html`<div class="scroll"><table><tr><th>kernel</th><th class="n">dispatches</th><th class="n">time</th><th class="n">bytes</th><th class="n">rate</th><th>measured by</th></tr>${kernels}</table></div>`}</section>`
}

const REUSED = html`<p>An earlier job had made the same artifact, which was reused: figures of the worker and the device are from then.</p>`

function runTable(validation: RunValidation): Markup {
  const { original, artifact, settings, environment } = validation
  const row = (label: string, of: (run: ModelRun) => string) =>
    html`<tr><td>${label}</td><td class="n">${of(original)}</td><td class="n">${of(artifact)}</td></tr>`
  return html`<div class="scroll"><table><tr><th>in onnxruntime</th><th class="n">original</th><th class="n">artifact</th></tr>
${row('file', (run) => bytesText(run.fileBytes))}${row('load', (run) => secondsText(run.loadSeconds))}
${row('latency, median', (run) => `${threeDigits(run.latency.medianMs)} ms`)}${row('latency, 95th percentile', (run) => `${threeDigits(run.latency.p95Ms)} ms`)}
${row('CPU time a run, mean', (run) => `${threeDigits(run.latency.cpuMeanMs)} ms`)}${row('peak memory of the process', (run) => bytesText(run.peakRssBytes))}
${row('of that, the model', (run) => bytesText(Math.max(0, run.peakRssBytes - run.baselineRssBytes)))}</table></div>
<p class="soft">onnxruntime ${environment.onnxruntime ?? '-'}, CPU, ${plural(settings.threads, 'thread')}, all graph optimizations, x64quantprecision ${settings.x64QuantPrecision ?? 'not set'}; ${original.latency.runs} runs of one input after ${original.latency.warmupRuns} uncounted ones, ${validation.latencyInterleaved ? 'both models in turns' : 'one model after the other'}; each model in its own process, limits: ${secondsText(settings.timeoutMs / 1000)} in all, ${settings.memoryLimitBytes === null ? 'no memory limit' : `${bytesText(settings.memoryLimitBytes)} of memory`}. ${environment.cpu}, ${environment.cpuCount} CPUs.</p>`
}
