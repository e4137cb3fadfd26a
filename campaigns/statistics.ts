// The little statistics that campaigns need: percentiles of latencies and the trend of a series. Entries: percentile,
// linearTrend.

/** Nearest rank: the smallest value that at least `share` of all values do not exceed. NaN for no values. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

export interface Trend {
  /** Of the least-squares line, per second. */
  slope: number
  /** What the line gains from the first sample to the last. */
  growth: number
}

/** Throws for fewer than two different times: a line through one point says nothing. */
export function linearTrend(samples: readonly { seconds: number; value: number }[]): Trend {
  const n = samples.length
  const meanTime = samples.reduce((sum, { seconds }) => sum + seconds, 0) / n
  const meanValue = samples.reduce((sum, { value }) => sum + value, 0) / n
  let covariance = 0
  let variance = 0
  for (const { seconds, value } of samples) {
    covariance += (seconds - meanTime) * (value - meanValue)
    variance += (seconds - meanTime) ** 2
  }
  if (!(variance > 0)) throw new Error(`a trend needs samples at two times at least, found ${n} samples`)
  const slope = covariance / variance
  return { slope, growth: slope * (samples.at(-1)!.seconds - samples[0]!.seconds) }
}
