// The report in a dozen lines for the terminal; all of it is in --report and --json.

import { basename } from 'node:path'
import type { Report } from '../validate/report.ts'
import type { MetricFigure, RequirementOutcome } from '../validate/requirement.ts'
import type { ValidationResult } from '../validate/validation.ts'
import { bytesText, deviceText, percentText, printable, secondsText } from './text-table.ts'

/** @param written final paths of the artifact's files; empty: nothing was written. */
export function summaryLines(report: Report, written: string[]): string[] {
  const { sizes, artifact } = report
  const lines: [string, string][] = [
    ['model', `${report.model.fileName} (${report.recipe.name})`],
    ['size', sizeText(report)],
    ['tensors', tensorText(report)],
    ...metricLines(report.metrics),
    ...latencyLines(report.validation),
    ['verdict', report.verdict.sentence],
    ['device', deviceText(report.device.adapter, report.device.driver)],
    ['time', timeText(report)],
    ...sizes.sentences.map((sentence) => ['note', sentence] as [string, string]),
    ...noteLines(report),
    ...report.warnings.map((warning) => ['warning', warning] as [string, string]),
    ...written.map((path) => ['written', writtenText(path, artifact.files)] as [string, string]),
  ]
  return lines.map(([name, text]) => `${name.padEnd(9)} ${printable(text)}`)
}

/** What `tensorpress validate` prints. */
export function validationLines(
  validation: ValidationResult,
  metrics: Report['metrics'],
  sizeRatio: number,
  requirement: RequirementOutcome | null,
): string[] {
  const inputs =
    validation.kind === 'run'
      ? `${validation.inputs.samples} ${validation.inputs.source} inputs`
      : `${validation.identicalTensors} tensors identical, ${validation.changedTensors} compared by value`
  const lines: [string, string][] = [
    ['compared', inputs],
    ['size', percentText(sizeRatio)],
    ...metricLines(metrics),
    ...latencyLines(validation),
    ...(requirement?.checks ?? []).map(({ met, sentence }) => [met ? 'met' : 'not met', sentence] as [string, string]),
    ...validation.warnings.map((warning) => ['warning', warning] as [string, string]),
  ]
  return lines.map(([name, text]) => `${name.padEnd(9)} ${printable(text)}`)
}

function sizeText({ sizes }: Report): string {
  const raw = `${bytesText(sizes.original.rawBytes)} -> ${bytesText(sizes.artifact.rawBytes)} (${percentText(sizes.rawRatio)})`
  const { original, artifact, zstdRatio } = sizes
  if (original.zstdBytes === null || artifact.zstdBytes === null || zstdRatio === null) return raw
  return `${raw}; after zstd ${bytesText(original.zstdBytes)} -> ${bytesText(artifact.zstdBytes)} (${percentText(zstdRatio)})`
}

function tensorText({ tensorCounts }: Report): string {
  const reasons = Object.entries(tensorCounts.byReason).map(([reason, count]) => `${count} ${reason}`)
  const kept = reasons.length === 0 ? '' : `; kept: ${reasons.join(', ')}`
  return `${tensorCounts.compressed} of ${tensorCounts.total} compressed${kept}`
}

function metricLines(metrics: Report['metrics']): [string, string][] {
  return Object.entries(metrics).map(([name, figure]) => [name, metricText(name, figure)])
}

/** These compare with the original, which has no figure of its own. */
const RELATIVE_METRICS = new Set(['agreement', 'cosine', 'sqnr_db'])

function metricText(name: string, { before, after, loss, n }: MetricFigure): string {
  const samples = n === null ? '' : ` (n = ${n})`
  const relative = RELATIVE_METRICS.has(name) || (name === 'mse' && before === 0)
  if (before === null || relative) return `${number(after)}${samples}`
  const [low, high] = loss.ci95 ?? [null, null]
  const interval = low === null ? '' : `, 95 % interval ${number(low)} to ${number(high)}`
  return `${number(before)} -> ${number(after)} (loss ${number(loss.value)}${interval})${samples}`
}

function latencyLines(validation: ValidationResult | null): [string, string][] {
  if (validation?.kind !== 'run') return []
  const { original, artifact, settings } = validation
  const ms = (value: number) => `${value.toPrecision(3)} ms`
  const threads = `${settings.threads} thread${settings.threads === 1 ? '' : 's'}`
  return [['latency', `${ms(original.latency.medianMs)} -> ${ms(artifact.latency.medianMs)} (median, ${threads})`]]
}

/** More notes than this hide the rest; all are in the report. */
const SHOWN_NOTES = 5

function noteLines({ planNotes }: Report): [string, string][] {
  const shown = planNotes
    .slice(0, SHOWN_NOTES)
    .map(({ tensor, note }): [string, string] => ['note', tensor === null ? note : `${tensor}: ${note}`])
  const rest = planNotes.length - shown.length
  return rest > 0 ? [...shown, ['note', `and ${rest} more (--report and --json have all)`]] : shown
}

function timeText({ performance }: Report): string {
  const stages = Object.entries(performance.stageSeconds).map(([name, seconds]) => `${name} ${secondsText(seconds)}`)
  return stages.join(', ')
}

function writtenText(path: string, files: Report['artifact']['files']): string {
  const sha256 = files.find(({ name }) => basename(name) === basename(path))?.sha256
  return sha256 ? `${path} (sha256 ${sha256})` : path
}

function number(value: number | null): string {
  return value === null ? 'no error' : String(Number(value.toPrecision(4)))
}
