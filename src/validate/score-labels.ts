// Scores both models against the labels of a dataset. Entry: LabelScorer: it picks, from the first run, the output that the
// labels can be held against, collects decisions run by run, and computes classification or regression figures at the end.

import { AppError } from '../errors.ts'
import { argmax, compareClassifiers, rankOfLabel } from './classification-metrics.ts'
import type { Labels } from './dataset.ts'
import { checkLabelRange } from './dataset.ts'
import type { OutputInfo, RunOutput } from './output-store.ts'
import { compareRegressors } from './regression-metrics.ts'
import type { ClassificationResult, RegressionResult } from './validation.ts'

/** Labelled items held in memory (decisions and ranks of both models: 24 bytes each). */
export const MAX_LABELLED_ITEMS = 20_000_000

/** Class ids at or above this are not class ids (row numbers, hashes): tables of that size would fill the memory. */
const MAX_CLASS_IDS = 1_000_000

/** How an output answers the labels. stride: distance between the scores of one item (1, or H*W for [N, C, H, W]). */
type Fit =
  | { kind: 'scores'; index: number; classes: number; stride: number }
  | { kind: 'single'; index: number }
  | { kind: 'class-id'; index: number }
  | { kind: 'values'; index: number }

export class LabelScorer {
  readonly #labels: Labels
  readonly #outputs: readonly OutputInfo[]
  readonly #itemsPerSample: number
  readonly #before: Collected
  readonly #after: Collected
  #fit: Fit | null = null
  #items = 0

  /** @param sampleCount samples that were run: the first ones of the dataset. */
  constructor(labels: Labels, outputs: readonly OutputInfo[], sampleCount: number) {
    this.#labels = labels
    this.#outputs = outputs
    this.#itemsPerSample = labels.values.length / Math.max(labels.shape[0] ?? 1, 1)
    const items = sampleCount * this.#itemsPerSample
    if (items > MAX_LABELLED_ITEMS) {
      throw new AppError(
        'limit_exceeded',
        `${items} labelled items, allowed ${MAX_LABELLED_ITEMS}; give fewer samples`,
        {
          limit: 'labelled_items',
          allowed: MAX_LABELLED_ITEMS,
          requested: items,
        },
      )
    }
    this.#before = collected(items)
    this.#after = collected(items)
  }

  /** Adds the outputs of one run of `samples` samples. Throws dataset_invalid when no output fits the labels. */
  add(before: RunOutput[], after: RunOutput[], samples: number): void {
    this.#fit ??= this.#choose(before, samples)
    const fit = this.#fit
    const count = samples * this.#itemsPerSample
    this.#collect(fit, before[fit.index]!, count, this.#before)
    this.#collect(fit, after[fit.index]!, count, this.#after)
    this.#items += count
  }

  #collect(fit: Fit, output: RunOutput, count: number, into: Collected): void {
    const first = this.#items
    const { values } = output
    if (fit.kind !== 'scores') {
      for (let i = 0; i < count; i++) into.values[first + i] = values[i] ?? Number.NaN
      return
    }
    const { classes, stride } = fit
    const scores = new Float64Array(classes)
    for (let i = 0; i < count; i++) {
      const start = Math.floor(i / stride) * stride * classes + (i % stride)
      for (let c = 0; c < classes; c++) scores[c] = values[start + c * stride] ?? Number.NaN
      into.decisions[first + i] = argmax(scores)
      into.ranks[first + i] = rankOfLabel(scores, Number(this.#labels.values[first + i]))
    }
  }

  #choose(outputs: RunOutput[], samples: number): Fit {
    const labels = this.#labels
    const items = samples * this.#itemsPerSample
    const fits: Fit[] = []
    for (const [index, output] of outputs.entries()) {
      const isFloat = this.#outputs[index]!.dtype.startsWith('f')
      const elements = output.values.length
      if (labels.kind === 'regression') {
        if (elements === items) fits.push({ kind: 'values', index })
      } else if (elements === items) {
        fits.push(isFloat ? { kind: 'single', index } : { kind: 'class-id', index })
      } else if (isFloat && elements > items && elements % items === 0) {
        fits.push({ kind: 'scores', index, classes: elements / items, stride: this.#strideOf(output, samples) })
      }
    }
    const order: Fit['kind'][] = ['scores', 'class-id', 'single', 'values']
    // An output that is not per sample along dim 0 (a recurrent state, say) is held against labels only when nothing else is.
    const perSample = (fit: Fit) => (outputs[fit.index]!.dims[0] === samples ? 0 : 1)
    fits.sort(
      (a, b) => perSample(a) - perSample(b) || order.indexOf(a.kind) - order.indexOf(b.kind) || a.index - b.index,
    )
    const best = fits[0]
    if (best === undefined) throw this.#noFit(outputs)
    if (labels.kind === 'classes' && best.kind === 'scores') checkLabelRange(labels, best.classes)
    return best
  }

  /** [N, C, ...rest] with labels [N, ...rest]: the class axis is 1 and its scores lie rest apart; otherwise it is the last. */
  #strideOf(output: RunOutput, samples: number): number {
    const rest = this.#labels.shape.slice(1)
    if (rest.length === 0) return 1
    const tail = output.dims.slice(2)
    const matches = output.dims[0] === samples && tail.length === rest.length && tail.every((dim, i) => dim === rest[i])
    return matches ? this.#itemsPerSample : 1
  }

  #noFit(outputs: RunOutput[]): AppError {
    const found = outputs.map((output, i) => `'${this.#outputs[i]!.name}' [${output.dims.join(', ')}]`).join(', ')
    return new AppError(
      'dataset_invalid',
      `labels of shape [${this.#labels.shape.join(', ')}] (${this.#labels.kind}) fit no output of the model: ${found}. Class ids need one row of scores or one id each; float targets need one value each.`,
      { array: 'labels', found: this.#labels.shape, outputs: outputs.map((output) => output.dims) },
    )
  }

  /** The figures over everything added. Throws dataset_invalid for labels out of range. */
  result(seed: number): { classification: ClassificationResult | null; regression: RegressionResult | null } {
    const fit = this.#fit
    if (fit === null) return { classification: null, regression: null }
    const output = this.#outputs[fit.index]!.name
    const labels = this.#labels
    if (labels.kind === 'regression') return { classification: null, regression: this.#regression(output, seed) }
    const ids = labels.values.subarray(0, this.#items)
    if (fit.kind === 'scores') {
      const decided = (from: Collected) => ({ predictions: from.decisions, ranks: from.ranks })
      const decisions = { output, rule: 'largest score', classes: fit.classes, labels: ids }
      const both = { before: decided(this.#before), after: decided(this.#after) }
      return { classification: compareClassifiers({ ...decisions, ...both }, seed), regression: null }
    }
    if (fit.kind === 'single' && !ids.every((id) => id === 0 || id === 1)) {
      return { classification: null, regression: this.#regression(output, seed) }
    }
    return { classification: this.#fromSingleValues(fit, output, ids, seed), regression: null }
  }

  #fromSingleValues(fit: Fit, output: string, ids: Int32Array, seed: number): ClassificationResult {
    const probabilities = this.#before.values.every((value) => value >= 0 && value <= 1)
    const threshold = probabilities ? 0.5 : 0
    const isId = fit.kind === 'class-id'
    const decide = (value: number) => (isId ? value : Number(value > threshold))
    const before = Int32Array.from(this.#before.values, decide)
    const after = Int32Array.from(this.#after.values, decide)
    checkLabelRange({ kind: 'classes', shape: [ids.length], values: ids }, MAX_CLASS_IDS)
    let classes = 2
    const possible = (id: number) => id >= 0 && id < MAX_CLASS_IDS
    for (const list of [ids, before, after])
      for (const id of list) if (possible(id)) classes = Math.max(classes, id + 1)
    if (![before, after].every((list) => list.every(possible))) {
      // An id that no label can have (negative, huge) becomes one more class, which is never right.
      for (const list of [before, after]) {
        for (const [i, id] of list.entries()) if (!possible(id)) list[i] = classes
      }
      classes++
    }
    const rule = isId ? 'class id output' : `value above ${threshold}`
    return compareClassifiers(
      {
        output,
        rule,
        classes,
        labels: ids,
        before: { predictions: before, ranks: null },
        after: { predictions: after, ranks: null },
      },
      seed,
    )
  }

  #regression(output: string, seed: number): RegressionResult | null {
    const targets = Float64Array.from(this.#labels.values.subarray(0, this.#items))
    const finite = [targets, this.#before.values, this.#after.values].every((list) => list.every(Number.isFinite))
    return finite ? compareRegressors(output, targets, this.#before.values, this.#after.values, seed) : null
  }
}

interface Collected {
  decisions: Int32Array
  ranks: Int32Array
  values: Float64Array
}

function collected(items: number): Collected {
  return { decisions: new Int32Array(items), ranks: new Int32Array(items), values: new Float64Array(items) }
}
