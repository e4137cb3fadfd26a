// What a job must keep to: parse `require` (object, list of objects, or `metric=top1,maxDrop=0.01`) and judge it against
// what was measured. Entries: parseRequirements, evaluateRequirements. Judged on point estimates; intervals are shown.

import { z } from 'zod'
import { AppError } from '../errors.ts'
import type { Estimate, ValidationResult } from './validation.ts'

export const METRICS = ['top1', 'top5', 'f1', 'f1_macro', 'agreement', 'cosine', 'sqnr_db', 'mse'] as const
export type Metric = (typeof METRICS)[number]

/** 0.98 - 0.97 is 0.010000000000000009: binary rounding must not decide. */
const ROUNDING_SLACK = 1e-9

const CONDITION_KEYS = ['maxDrop', 'min', 'maxSizeRatio', 'maxLatencyRatio'] as const

export const requirementSchema = z
  .strictObject({
    metric: z.enum(METRICS).optional(),
    maxDrop: z.number().min(0).optional(),
    min: z.number().optional(),
    maxSizeRatio: z.number().positive().optional(),
    maxLatencyRatio: z.number().positive().optional(),
  })
  .superRefine((value, context) => {
    const accuracy = value.maxDrop !== undefined || value.min !== undefined
    const refuse = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if (CONDITION_KEYS.every((key) => value[key] === undefined)) {
      refuse('metric', `needs at least one of ${CONDITION_KEYS.join(', ')}`)
    }
    if (accuracy && value.metric === undefined) refuse('metric', `maxDrop and min need one of ${METRICS.join(', ')}`)
    if (value.metric !== undefined && !accuracy) refuse('maxDrop', `metric ${value.metric} needs maxDrop or min`)
    if (value.metric === 'sqnr_db' && value.maxDrop !== undefined) {
      refuse('maxDrop', 'sqnr_db compares with the original itself, so there is no drop; use min (dB)')
    }
    if (value.metric === 'mse' && value.min !== undefined) {
      refuse('min', 'a smaller mse is better; use maxDrop (the largest allowed increase)')
    }
  })

export type Requirement = z.infer<typeof requirementSchema>

/** One condition, judged. `before` and `after` only for accuracy metrics. */
export interface RequirementCheck {
  metric: Metric | 'size_ratio' | 'latency_ratio'
  condition: (typeof CONDITION_KEYS)[number]
  required: number
  /** The number that is held against `required`; null when the metric does not exist for this model and data. */
  found: number | null
  before: number | null
  after: number | null
  ci95: [number, number] | null
  n: number | null
  met: boolean
  sentence: string
}

export interface RequirementOutcome {
  met: boolean
  requirements: Requirement[]
  checks: RequirementCheck[]
}

/** An accuracy figure in the form that requirements are judged on: loss = how much worse the artifact is, >= 0 means worse. */
export interface MetricFigure {
  before: number | null
  after: number | null
  loss: Estimate
  n: number | null
}

/** Reads `require` as a client or a command line gives it. Nothing asked: an empty list. Throws request_invalid. */
export function parseRequirements(input: unknown): Requirement[] {
  if (input === undefined || input === null || input === '') return []
  const value = typeof input === 'string' ? parseText(input) : input
  const list: unknown[] = Array.isArray(value) ? value : [value]
  return list.map((item, index) => {
    const parsed = requirementSchema.safeParse(item)
    if (parsed.success) return parsed.data
    const issue = parsed.error.issues[0]
    const keys = issue?.code === 'unrecognized_keys' ? issue.keys.map(String) : (issue?.path.map(String) ?? [])
    const path = [Array.isArray(value) ? `require[${index}]` : 'require', ...keys].join('.')
    throw new AppError(
      'request_invalid',
      `${path}: ${issue?.message ?? 'invalid'}. Allowed: {metric: ${METRICS.join('|')}, maxDrop | min, maxSizeRatio, maxLatencyRatio}.`,
      { path },
    )
  })
}

function parseText(text: string): unknown {
  const trimmed = text.trim()
  if (trimmed.startsWith('{') || trimmed.startsWith('[')) {
    try {
      return JSON.parse(trimmed)
    } catch (error) {
      throw new AppError(
        'request_invalid',
        `require: not valid JSON: ${trimmed.slice(0, 80)}`,
        { path: 'require' },
        error,
      )
    }
  }
  const result: Record<string, unknown> = {}
  for (const pair of trimmed.split(',')) {
    const equals = pair.indexOf('=')
    const key = pair.slice(0, Math.max(equals, 0)).trim()
    const raw = pair.slice(equals + 1).trim()
    if (equals < 0 || key === '' || raw === '') {
      throw new AppError(
        'request_invalid',
        `require: "${pair.trim()}" is not key=value. Write for example metric=top1,maxDrop=0.01.`,
        { path: 'require' },
      )
    }
    if (Object.hasOwn(result, key)) {
      throw new AppError('request_invalid', `require.${key}: given twice.`, { path: `require.${key}` })
    }
    result[key] = key === 'metric' ? raw : Number(raw)
  }
  return result
}

/**
 * Judges every condition. `validation` null (not validated) leaves accuracy and latency conditions unmet.
 * @param sizeRatio artifact bytes / original bytes, raw.
 */
export function evaluateRequirements(
  requirements: Requirement[],
  facts: { validation: ValidationResult | null; sizeRatio: number },
): RequirementOutcome | null {
  if (requirements.length === 0) return null
  const checks = requirements.flatMap((requirement) => checksOf(requirement, facts))
  return { met: checks.every((check) => check.met), requirements, checks }
}

function checksOf(
  requirement: Requirement,
  facts: { validation: ValidationResult | null; sizeRatio: number },
): RequirementCheck[] {
  const checks: RequirementCheck[] = []
  const { metric } = requirement
  if (metric !== undefined) {
    const figure = metricFigure(facts.validation, metric)
    if (requirement.maxDrop !== undefined) checks.push(dropCheck(metric, requirement.maxDrop, figure))
    if (requirement.min !== undefined) checks.push(minimumCheck(metric, requirement.min, figure, facts.validation))
  }
  if (requirement.maxSizeRatio !== undefined) {
    checks.push(ratioCheck('size_ratio', 'maxSizeRatio', requirement.maxSizeRatio, facts.sizeRatio))
  }
  if (requirement.maxLatencyRatio !== undefined) {
    const ratio = facts.validation?.kind === 'run' ? facts.validation.latencyRatio : null
    checks.push(ratioCheck('latency_ratio', 'maxLatencyRatio', requirement.maxLatencyRatio, ratio))
  }
  return checks
}

function dropCheck(metric: Metric, required: number, figure: MetricFigure | null): RequirementCheck {
  const base = { metric, condition: 'maxDrop' as const, required }
  if (figure === null) return { ...base, ...MISSING, sentence: missingSentence(metric) }
  const met = figure.loss.value <= required + ROUNDING_SLACK
  return {
    ...base,
    found: figure.loss.value,
    before: figure.before,
    after: figure.after,
    ci95: figure.loss.ci95,
    n: figure.n,
    met,
    sentence: `${metric} ${metric === 'mse' ? 'rises' : 'drops'} by ${short(figure.loss.value)}${interval(figure.loss.ci95)}; ${met ? 'within' : 'more than'} the allowed ${short(required)}.`,
  }
}

function minimumCheck(
  metric: Metric,
  required: number,
  figure: MetricFigure | null,
  validation: ValidationResult | null,
): RequirementCheck {
  const base = { metric, condition: 'min' as const, required }
  if (figure === null) return { ...base, ...MISSING, sentence: missingSentence(metric) }
  const exact = metric === 'sqnr_db' && figure.after === null && isIdentical(validation)
  const met = exact || (figure.after !== null && figure.after >= required - ROUNDING_SLACK)
  return {
    ...base,
    found: figure.after,
    before: figure.before,
    after: figure.after,
    ci95: null,
    n: figure.n,
    met,
    sentence: exact
      ? `${metric}: the outputs are identical, so any minimum is met.`
      : `${metric} is ${short(figure.after)}; ${met ? 'at least' : 'below'} the required ${short(required)}.`,
  }
}

function ratioCheck(
  metric: 'size_ratio' | 'latency_ratio',
  condition: 'maxSizeRatio' | 'maxLatencyRatio',
  required: number,
  found: number | null,
): RequirementCheck {
  const what = metric === 'size_ratio' ? 'artifact bytes / original bytes' : 'median latency / original median latency'
  const base = { metric, condition, required, before: null, after: null, ci95: null, n: null }
  if (found === null) {
    return {
      ...base,
      found,
      met: false,
      sentence: `${what} was not measured, so the limit of ${short(required)} is not met.`,
    }
  }
  const met = found <= required + ROUNDING_SLACK
  return {
    ...base,
    found,
    met,
    sentence: `${what} is ${short(found)}; ${met ? 'within' : 'above'} the limit of ${short(required)}.`,
  }
}

const MISSING = { found: null, before: null, after: null, ci95: null, n: null, met: false }

function missingSentence(metric: Metric): string {
  const needs: Record<Metric, string> = {
    top1: 'a dataset with integer labels',
    top5: 'a dataset with integer labels and at least six classes',
    f1: 'a dataset with integer labels of two classes',
    f1_macro: 'a dataset with integer labels',
    agreement: 'outputs that hold decisions (class scores or probabilities)',
    cosine: 'finite outputs that are not all zero',
    sqnr_db: 'finite outputs that are not all zero',
    mse: 'finite outputs',
  }
  return `${metric} could not be measured: it needs ${needs[metric]}, and validation switched on.`
}

/**
 * The figure behind a metric; null when model and data do not have it. Per-output metrics take the worst output; a
 * non-finite value that only the artifact has makes them unavailable, which no requirement passes.
 */
export function metricFigure(validation: ValidationResult | null, metric: Metric): MetricFigure | null {
  if (validation === null) return null
  if (validation.kind === 'read-back') {
    if (metric === 'mse') return againstOriginal(validation.mse, 'rise')
    if (metric === 'cosine') return againstOriginal(validation.changedTensors === 0 ? 1 : validation.cosine, 'drop')
    if (metric === 'sqnr_db') return { before: null, after: validation.sqnrDb, loss: { value: 0, ci95: null }, n: null }
    return null
  }
  const { classification, regression, outputs } = validation
  switch (metric) {
    case 'top1':
      return fromPaired(classification?.top1)
    case 'top5':
      return fromPaired(classification?.top5)
    case 'f1':
      return fromPaired(classification?.binary?.f1)
    case 'f1_macro':
      return fromPaired(classification?.macro.f1)
    default:
  }
  if (outputs.some((output) => output.nonFiniteIntroduced > 0)) return null
  // Outputs without a finite value are identical or not, but show nothing.
  if (outputs.every(({ elements, nonFiniteBefore }) => elements > 0 && nonFiniteBefore === elements)) return null
  switch (metric) {
    case 'agreement': {
      const agreements = outputs.flatMap((output) => (output.agreement === null ? [] : [output.agreement]))
      const worst = agreements.sort((a, b) => a.value - b.value)[0]
      if (worst === undefined) return null
      const ci95: [number, number] | null = worst.ci95 === null ? null : [1 - worst.ci95[1], 1 - worst.ci95[0]]
      return { before: 1, after: worst.value, loss: { value: 1 - worst.value, ci95 }, n: worst.n }
    }
    case 'cosine': {
      const values = outputs.flatMap((output) =>
        output.identical ? [1] : output.cosine === null ? [] : [output.cosine],
      )
      return values.length < outputs.length ? null : againstOriginal(Math.min(...values), 'drop')
    }
    case 'sqnr_db': {
      const changed = outputs.filter((output) => !output.identical)
      const values = changed.flatMap((output) => (output.sqnrDb === null ? [] : [output.sqnrDb]))
      if (values.length < changed.length) return null
      const worst = values.length === 0 ? null : Math.min(...values)
      return { before: null, after: worst, loss: { value: 0, ci95: null }, n: null }
    }
    case 'mse':
      if (regression !== null) return fromPaired(regression.mse, -1)
      return againstOriginal(Math.max(...outputs.map((output) => output.mse)), 'rise')
    default:
      return metric satisfies never
  }
}

function fromPaired(
  paired: { n: number; before: Estimate; after: Estimate; difference: Estimate } | null | undefined,
  sign: 1 | -1 = 1,
): MetricFigure | null {
  if (paired === null || paired === undefined) return null
  const { difference } = paired
  const ends = difference.ci95 === null ? null : difference.ci95.map((end) => -sign * end).sort((a, b) => a - b)
  return {
    before: paired.before.value,
    after: paired.after.value,
    loss: { value: -sign * difference.value + 0, ci95: ends === null ? null : [ends[0]!, ends[1]!] },
    n: paired.n,
  }
}

function againstOriginal(after: number | null, kind: 'drop' | 'rise'): MetricFigure | null {
  if (after === null || !Number.isFinite(after)) return null
  const before = kind === 'drop' ? 1 : 0
  return { before, after, loss: { value: Math.abs(after - before), ci95: null }, n: null }
}

function isIdentical(validation: ValidationResult | null): boolean {
  if (validation === null) return false
  if (validation.kind === 'read-back') return validation.changedTensors === 0 || validation.mse === 0
  return validation.outputs.every((output) => output.identical)
}

function short(value: number | null): string {
  return value === null ? 'not available' : String(Number(value.toPrecision(4)))
}

function interval(ci95: [number, number] | null): string {
  return ci95 === null ? '' : ` (95 % CI ${Number(ci95[0].toPrecision(2))} to ${Number(ci95[1].toPrecision(2))})`
}
