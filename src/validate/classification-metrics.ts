// Classification figures from labels and predictions of the same items. Entries: rankOfLabel, argmax, confusionMatrix,
// scoreClasses, compareClassifiers. Definitions as in scikit-learn: macro = plain mean over classes that occur as label or
// prediction, weighted = mean by label count, 0/0 = 0.

import { newcombePairedInterval, pairedBootstrapIntervals, wilsonInterval } from './confidence-intervals.ts'
import type { Numbers } from './error-metrics.ts'
import type { ClassificationResult, PairedMetric } from './validation.ts'

/** A larger confusion matrix is unreadable and would fill the report: it is left out, the figures stay. */
export const MAX_CONFUSION_CLASSES = 64

/** Top-5 says nothing when five guesses nearly always hit. */
const MIN_CLASSES_FOR_TOP5 = 6

export const PROPORTION_METHOD = 'Wilson for each; difference: Newcombe paired (method 10)'
export const BOOTSTRAP_METHOD = 'paired percentile bootstrap, seeded'

/** Index of the largest score, the first on ties; NaN never wins. 0 when every score is NaN. */
export function argmax(scores: Numbers): number {
  let best = -1
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i]!
    if (!Number.isNaN(score) && (best < 0 || score > scores[best]!)) best = i
  }
  return Math.max(best, 0)
}

/** How many classes come before `label` when scores are sorted downwards (ties: lower index first); 0 = top-1. NaN: last. */
export function rankOfLabel(scores: Numbers, label: number): number {
  const own = scores[label]!
  if (Number.isNaN(own)) return scores.length
  let rank = 0
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i]!
    if (score > own || (score === own && i < label)) rank++
  }
  return rank
}

/** counts[true class][predicted class]. */
export function confusionMatrix(labels: Numbers32, predictions: Numbers32, classes: number): number[][] {
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0))
  for (let i = 0; i < labels.length; i++) {
    const row = counts[labels[i]!]!
    row[predictions[i]!] = row[predictions[i]!]! + 1
  }
  return counts
}

export type Numbers32 = Int32Array | readonly number[]

export interface ClassScores {
  precision: number
  recall: number
  f1: number
}

export interface ScoreSet {
  accuracy: number
  /** Of class 1; meaningful with two classes. */
  binary: ClassScores
  macro: ClassScores
  weighted: ClassScores
}

/** Accuracy, precision, recall and F1 over `items` (indices into labels and predictions; may repeat). */
export function scoreClasses(
  labels: Numbers32,
  predictions: Numbers32,
  classes: number,
  items: Uint32Array | readonly number[],
): ScoreSet {
  const hits = new Float64Array(classes)
  const labelled = new Float64Array(classes)
  const predicted = new Float64Array(classes)
  let right = 0
  for (let i = 0; i < items.length; i++) {
    const label = labels[items[i]!]!
    const prediction = predictions[items[i]!]!
    labelled[label] = labelled[label]! + 1
    predicted[prediction] = predicted[prediction]! + 1
    if (label === prediction) {
      hits[label] = hits[label]! + 1
      right++
    }
  }
  const macro = { precision: 0, recall: 0, f1: 0 }
  const weighted = { precision: 0, recall: 0, f1: 0 }
  let occurring = 0
  for (let c = 0; c < classes; c++) {
    if (labelled[c] === 0 && predicted[c] === 0) continue
    occurring++
    const scores = classScores(hits[c]!, labelled[c]!, predicted[c]!)
    addScaled(macro, scores, 1)
    addScaled(weighted, scores, labelled[c]! / items.length)
  }
  return {
    accuracy: items.length === 0 ? 0 : right / items.length,
    binary: classScores(hits[1] ?? 0, labelled[1] ?? 0, predicted[1] ?? 0),
    macro: addScaled({ precision: 0, recall: 0, f1: 0 }, macro, occurring === 0 ? 0 : 1 / occurring),
    weighted,
  }
}

function classScores(hits: number, labelled: number, predicted: number): ClassScores {
  return {
    precision: predicted === 0 ? 0 : hits / predicted,
    recall: labelled === 0 ? 0 : hits / labelled,
    f1: labelled + predicted === 0 ? 0 : (2 * hits) / (labelled + predicted),
  }
}

function addScaled(into: ClassScores, scores: ClassScores, factor: number): ClassScores {
  into.precision += factor * scores.precision
  into.recall += factor * scores.recall
  into.f1 += factor * scores.f1
  return into
}

/** Decisions of both models on n labelled items. `rank` is that of the label (0 = top-1); null: the output holds no scores. */
export interface PairedDecisions {
  output: string
  rule: string
  classes: number
  labels: Int32Array
  before: { predictions: Int32Array; ranks: Int32Array | null }
  after: { predictions: Int32Array; ranks: Int32Array | null }
}

/** Every classification figure, before and after, with intervals. n >= 1. */
export function compareClassifiers(decisions: PairedDecisions, seed: number): ClassificationResult {
  const { labels, classes, before, after } = decisions
  const n = labels.length
  const everyItem = Uint32Array.from({ length: n }, (_, i) => i)
  const scoresBefore = scoreClasses(labels, before.predictions, classes, everyItem)
  const scoresAfter = scoreClasses(labels, after.predictions, classes, everyItem)
  const intervals = bootstrapScores(decisions, seed)
  const figure = (group: 'binary' | 'macro' | 'weighted', key: keyof ClassScores): PairedMetric => ({
    n,
    before: { value: scoresBefore[group][key], ci95: intervals[`${group}.${key}.before`] ?? null },
    after: { value: scoresAfter[group][key], ci95: intervals[`${group}.${key}.after`] ?? null },
    difference: {
      value: scoresAfter[group][key] - scoresBefore[group][key],
      ci95: intervals[`${group}.${key}.difference`] ?? null,
    },
    method: BOOTSTRAP_METHOD,
  })
  const group = (name: 'binary' | 'macro' | 'weighted') => ({
    precision: figure(name, 'precision'),
    recall: figure(name, 'recall'),
    f1: figure(name, 'f1'),
  })
  const rightBefore = (i: number) => before.predictions[i] === labels[i]
  const rightAfter = (i: number) => after.predictions[i] === labels[i]
  const accuracy = proportionMetric(n, rightBefore, rightAfter)
  const hits = (ranks: Int32Array, k: number) => (i: number) => ranks[i]! < k
  const ranked = before.ranks !== null && after.ranks !== null ? { before: before.ranks, after: after.ranks } : null
  const small = classes <= MAX_CONFUSION_CLASSES
  let lost = 0
  let gained = 0
  for (let i = 0; i < n; i++) {
    if (rightBefore(i) && !rightAfter(i)) lost++
    if (!rightBefore(i) && rightAfter(i)) gained++
  }
  return {
    n,
    classes,
    output: decisions.output,
    rule: decisions.rule,
    top1: ranked === null ? accuracy : proportionMetric(n, hits(ranked.before, 1), hits(ranked.after, 1)),
    top5:
      ranked === null || classes < MIN_CLASSES_FOR_TOP5
        ? null
        : proportionMetric(n, hits(ranked.before, 5), hits(ranked.after, 5)),
    accuracy,
    binary: classes === 2 ? group('binary') : null,
    macro: group('macro'),
    weighted: group('weighted'),
    confusionBefore: small ? confusionMatrix(labels, before.predictions, classes) : null,
    confusionAfter: small ? confusionMatrix(labels, after.predictions, classes) : null,
    lost,
    gained,
  }
}

/** A share of n items for which a statement holds, before and after. */
export function proportionMetric(
  n: number,
  before: (item: number) => boolean,
  after: (item: number) => boolean,
): PairedMetric {
  const counts = { bothRight: 0, onlyBefore: 0, onlyAfter: 0, bothWrong: 0 }
  for (let i = 0; i < n; i++) {
    const key = before(i) ? (after(i) ? 'bothRight' : 'onlyBefore') : after(i) ? 'onlyAfter' : 'bothWrong'
    counts[key]++
  }
  const rightBefore = counts.bothRight + counts.onlyBefore
  const rightAfter = counts.bothRight + counts.onlyAfter
  return {
    n,
    before: { value: rightBefore / n, ci95: wilsonInterval(rightBefore, n) },
    after: { value: rightAfter / n, ci95: wilsonInterval(rightAfter, n) },
    difference: { value: (rightAfter - rightBefore) / n, ci95: newcombePairedInterval(counts) },
    method: PROPORTION_METHOD,
  }
}

const GROUPS = ['binary', 'macro', 'weighted'] as const
const KEYS = ['precision', 'recall', 'f1'] as const

function bootstrapScores(decisions: PairedDecisions, seed: number): Record<string, [number, number] | null> {
  const { labels, classes, before, after } = decisions
  const names = GROUPS.flatMap((g) =>
    KEYS.flatMap((k) => ['before', 'after', 'difference'].map((w) => `${g}.${k}.${w}`)),
  )
  const intervals = pairedBootstrapIntervals(
    labels.length,
    (items) => {
      const x = scoreClasses(labels, before.predictions, classes, items)
      const y = scoreClasses(labels, after.predictions, classes, items)
      return GROUPS.flatMap((g) => KEYS.flatMap((k) => [x[g][k], y[g][k], y[g][k] - x[g][k]]))
    },
    seed,
  )
  return Object.fromEntries(names.map((name, index) => [name, intervals[index] ?? null]))
}
