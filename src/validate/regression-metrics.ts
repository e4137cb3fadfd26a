// Regression errors of two models against the same targets. Entries: regressionErrors, compareRegressors.
// MAE = mean |y-t|; MSE = mean (y-t)^2; RMSE = sqrt(MSE); R2 = 1 - sum (y-t)^2 / sum (t-mean t)^2.

import { BOOTSTRAP_METHOD } from './classification-metrics.ts'
import { pairedBootstrapIntervals } from './confidence-intervals.ts'
import type { Numbers } from './error-metrics.ts'
import type { PairedMetric, RegressionResult } from './validation.ts'

export interface RegressionErrors {
  mae: number
  mse: number
  rmse: number
  /** NaN when all targets are equal. */
  r2: number
}

/** Errors over `items` (indices; may repeat). All arrays have one number an item. */
export function regressionErrors(
  targets: Numbers,
  predictions: Numbers,
  items: Uint32Array | readonly number[],
): RegressionErrors {
  let absolute = 0
  let squared = 0
  let sum = 0
  for (let i = 0; i < items.length; i++) {
    const target = targets[items[i]!]!
    const error = predictions[items[i]!]! - target
    absolute += Math.abs(error)
    squared += error * error
    sum += target
  }
  const mean = sum / items.length
  let spread = 0
  for (let i = 0; i < items.length; i++) spread += (targets[items[i]!]! - mean) ** 2
  const mse = squared / items.length
  return {
    mae: absolute / items.length,
    mse,
    rmse: Math.sqrt(mse),
    r2: spread === 0 ? Number.NaN : 1 - squared / spread,
  }
}

const KEYS = ['mae', 'mse', 'rmse', 'r2'] as const

/** Before and after with paired bootstrap intervals. Arrays hold one number an item, n >= 1, all finite. */
export function compareRegressors(
  output: string,
  targets: Float64Array,
  before: Float64Array,
  after: Float64Array,
  seed: number,
): RegressionResult {
  const n = targets.length
  const everyItem = Uint32Array.from({ length: n }, (_, i) => i)
  const x = regressionErrors(targets, before, everyItem)
  const y = regressionErrors(targets, after, everyItem)
  const intervals = pairedBootstrapIntervals(
    n,
    (items) => {
      const p = regressionErrors(targets, before, items)
      const q = regressionErrors(targets, after, items)
      return KEYS.flatMap((key) => [p[key], q[key], q[key] - p[key]])
    },
    seed,
  )
  const figure = (key: (typeof KEYS)[number]): PairedMetric => {
    const at = 3 * KEYS.indexOf(key)
    return {
      n,
      before: { value: x[key], ci95: intervals[at] ?? null },
      after: { value: y[key], ci95: intervals[at + 1] ?? null },
      difference: { value: y[key] - x[key], ci95: intervals[at + 2] ?? null },
      method: BOOTSTRAP_METHOD,
    }
  }
  return {
    n,
    output,
    mae: figure('mae'),
    mse: figure('mse'),
    rmse: figure('rmse'),
    r2: Number.isFinite(x.r2) && Number.isFinite(y.r2) ? figure('r2') : null,
  }
}
