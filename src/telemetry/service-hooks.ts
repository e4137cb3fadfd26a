// From what the job engine tells to metrics. Entry: serviceHooks. Reads the report as far as it knows it, since a report may
// come from an earlier version of the store.

import { ERROR_CODES } from '../errors.ts'
import type { ResolvedRecipe } from '../jobs/protocol.ts'
import type { ServiceHooks } from '../jobs/service.ts'
import type { Report } from '../validate/report.ts'
import type { Metrics } from './metrics.ts'

/** The methods of a recipe, in order and each once: few of them exist, so the label is bounded. */
export function methodLabel(recipe: ResolvedRecipe): string {
  return [...new Set(recipe.steps.map((step) => step.method))].join('+') || 'none'
}

export function serviceHooks(metrics: Metrics): ServiceHooks {
  return {
    uploaded(kind, sizeBytes) {
      metrics.uploadedBytesTotal.inc({ kind }, sizeBytes)
    },
    jobStarted(job, waitSeconds) {
      metrics.jobAttemptsTotal.inc()
      if (job.attempt === 1) metrics.queueWaitSeconds.observe(waitSeconds)
    },
    jobFinished(job, { seconds, stageSeconds, report }) {
      const method = methodLabel(job.recipe)
      metrics.jobsTotal.inc({ method, outcome: job.state })
      metrics.jobDurationSeconds.observe({ method, outcome: job.state }, seconds)
      for (const [stage, spent] of Object.entries(stageSeconds)) {
        metrics.jobStageDurationSeconds.observe({ stage }, spent)
      }
      if (job.state === 'failed') {
        const code = job.error && job.error.code in ERROR_CODES ? job.error.code : 'internal'
        metrics.jobFailuresTotal.inc({ code })
      }
      if (isReport(report)) observeReport(metrics, method, report, job.artifact?.reused === true)
    },
    childDied(kind, cause) {
      if (kind === 'gpu' && cause === 'device_lost') metrics.deviceLostTotal.inc()
      metrics.childDeathsTotal.inc({ child: kind, cause })
    },
    childRestarted(kind) {
      if (kind === 'gpu') metrics.workerRestartsTotal.inc()
    },
    webhookAttempted(outcome) {
      metrics.webhookAttemptsTotal.inc({ outcome })
    },
    expired(kind, reason, sizeBytes) {
      metrics.expiredTotal.inc({ kind, reason })
      metrics.expiredBytesTotal.inc({ kind, reason }, sizeBytes)
    },
  }
}

function isReport(value: unknown): value is Report {
  return typeof value === 'object' && value !== null && 'sizes' in value && 'performance' in value
}

function observeReport(metrics: Metrics, method: string, report: Report, reused: boolean): void {
  metrics.compressionRatio.observe({ method }, report.sizes.rawRatio)
  for (const [metric, figure] of Object.entries(report.metrics)) {
    // A signal-to-noise ratio compares with the original itself: there is nothing to drop from.
    if (metric === 'sqnr_db') continue
    metrics.validationDropRatio.observe({ metric }, figure.loss.value)
  }
  if (report.requirement) metrics.requirementsTotal.inc({ outcome: report.requirement.met ? 'met' : 'unmet' })
  if (reused) {
    // The work was counted when the artifact was made.
    metrics.jobsCachedTotal.inc()
    return
  }
  const { performance } = report
  for (const [stage, spent] of Object.entries(performance.workerSeconds)) {
    metrics.jobStageDurationSeconds.observe({ stage }, spent)
  }
  metrics.readBytesTotal.inc(performance.bytesRead)
  metrics.writtenBytesTotal.inc(performance.bytesWritten)
  metrics.compressedBytesTotal.inc({ method }, report.sizes.original.rawBytes)
  metrics.gpuSecondsTotal.inc({ method }, performance.gpuSeconds)
  if (performance.bytesPerSecondGpu !== null) {
    metrics.gpuThroughputBytesPerSecond.observe({ method }, performance.bytesPerSecondGpu)
  }
  if (performance.bytesPerSecondWall !== null) {
    metrics.wallThroughputBytesPerSecond.observe({ method }, performance.bytesPerSecondWall)
  }
  for (const { kernel, dispatches, seconds, bytes, source } of performance.kernelTimes) {
    metrics.gpuKernelSecondsTotal.inc({ kernel, source }, seconds)
    metrics.gpuKernelBytesTotal.inc({ kernel }, bytes)
    metrics.gpuKernelDispatchesTotal.inc({ kernel }, dispatches)
  }
}
