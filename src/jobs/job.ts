// A job as it is kept, run and shown: the payload in the catalogue, the view of the API, and which failures are retried.

import { AppError, type ErrorCode } from '../errors.ts'
import type { ArtifactRecord, JobRecord } from '../store/catalog.ts'
import type { DeliveryRecord } from '../store/webhook-catalog.ts'
import type { OutputOptions } from '../tensor/model.ts'
import type { Requirement } from '../validate/requirement.ts'
import type { Progress, ResolvedRecipe } from './protocol.ts'
import { FINAL_STATES, type JobState, type JobView, type WebhookView } from './service.ts'

/** What was asked, resolved when the job was accepted: a later change of presets does not change a job that waits. */
export interface JobPayload {
  recipe: ResolvedRecipe
  output: OutputOptions
  requirements: Requirement[]
  validate: boolean
  requestId: string | null
}

export function isFinal(state: JobState): boolean {
  return FINAL_STATES.includes(state)
}

/** A child died under the job, or the device was lost: another attempt may go well. Everything else would fail again. */
const RETRIED: readonly ErrorCode[] = ['worker_crashed', 'worker_timeout', 'device_lost']

export function isRetried(error: AppError): boolean {
  return RETRIED.includes(error.code)
}

/** The error of the last attempt, saying that there will be no other. */
export function attemptsExhausted(error: AppError, attempts: number): AppError {
  const detail = `${error.detail} The job was tried ${attempts} times and is given up.`
  return new AppError(error.code, detail, { ...error.context, attempts }, error)
}

/**
 * The job as the API shows it.
 * @param progress of a running job; null otherwise or before the first message.
 * @param artifact what `record.artifactKey` names; null when it names nothing.
 * @param delivery of its webhook; null when it has none.
 */
export function jobView(
  record: JobRecord,
  progress: Progress | null,
  artifact: ArtifactRecord | null,
  delivery: DeliveryRecord | null,
): JobView {
  const payload = record.payload as JobPayload
  const running = record.state === 'running'
  return {
    id: record.id,
    state: record.state,
    stage: running ? (progress?.stage ?? 'opening') : null,
    progress:
      running && progress !== null
        ? { doneBytes: progress.doneBytes, totalBytes: progress.totalBytes, tensor: progress.tensor }
        : null,
    attempt: record.attempt,
    modelId: record.modelId,
    datasetId: record.datasetId,
    submittedBy: record.submittedBy,
    recipe: payload.recipe,
    output: payload.output,
    require: payload.requirements.length === 0 ? null : payload.requirements,
    validate: payload.validate,
    reportSha256: record.reportSha256,
    artifact:
      artifact === null
        ? null
        : { files: artifact.files, requirementMet: record.requirementMet, reused: record.artifactReused },
    webhook: delivery === null ? null : webhookView(delivery),
    artifactExpired: record.artifactKey !== null && artifact === null,
    error: record.error,
    createdAt: record.createdAt,
    startedAt: record.startedAt,
    finishedAt: record.finishedAt,
  }
}

/** Neither the URL beyond its origin nor the secret. */
function webhookView(delivery: DeliveryRecord): WebhookView {
  const { eventId, origin, state, attempts, lastStatus, lastError, lastAttemptAt, nextAttemptAt, deliveredAt } =
    delivery
  return { eventId, origin, state, attempts, lastStatus, lastError, lastAttemptAt, nextAttemptAt, deliveredAt }
}
