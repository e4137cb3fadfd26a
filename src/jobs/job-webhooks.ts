// Webhooks of jobs: what is accepted with a job, what is sent when it has ended, and asking for it again. Entry:
// createJobWebhooks. Where they may go, how they are signed and when they are tried again is in src/webhooks.

import { randomUUID } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { Catalog } from '../store/catalog.ts'
import type { DataFolder } from '../store/data-folder.ts'
import { createSecretBox } from '../store/secret-box.ts'
import type { NewWebhook } from '../store/webhook-catalog.ts'
import { VERSION } from '../version.ts'
import { type AttemptOutcome, createDeliveryQueue, type DeliveryQueue } from '../webhooks/delivery-queue.ts'
import { createTargetGuard } from '../webhooks/target-guard.ts'
import type { JobRequest, JobView, ServiceLog, WebhookOptions } from './service.ts'

export interface JobWebhooks {
  /** Throws request_invalid, webhook_target_forbidden. */
  accept(webhook: NonNullable<JobRequest['webhook']>, jobId: string): Promise<NewWebhook>
  /** Throws conflict: the job has none, has not ended, or it was delivered. */
  redeliver(jobId: string): Promise<void>
  queue: DeliveryQueue
}

export interface JobWebhookParts {
  data: DataFolder
  catalog: Catalog
  log: ServiceLog
  job(id: string): Promise<JobView>
  onAttempt(outcome: AttemptOutcome): void
}

export const NO_WEBHOOKS: WebhookOptions = {
  secret: null,
  allow: [],
  settings: { attempts: 1, timeoutMs: 10_000, parallel: 1, firstPauseMs: 5000, longestPauseMs: 3_600_000 },
  render: (job) => job,
}

/** So that neither sealed text of a job opens in the place of the other. */
const urlOwner = (jobId: string) => `${jobId} url`

/** Throws `usage` when the allow list is malformed. */
export function createJobWebhooks(options: WebhookOptions, parts: JobWebhookParts): JobWebhooks {
  const { data, catalog, log } = parts
  const guard = createTargetGuard(options.allow, options.resolve)
  const secrets = createSecretBox(data.secretKeyPath)

  const queue = createDeliveryQueue({
    catalog,
    guard,
    settings: options.settings,
    userAgent: `tensorpress/${VERSION}`,
    async bodyOf({ jobId, eventId }) {
      const job = await parts.job(jobId).catch((error: unknown) => {
        if (AppError.from(error).code === 'not_found') return null
        throw error
      })
      if (job === null) return null
      return JSON.stringify({ id: eventId, type: 'job.ended', createdAt: job.finishedAt, job: options.render(job) })
    },
    urlOf: ({ url, jobId }) => secrets.open(url, urlOwner(jobId)),
    async secretOf({ jobId, secret }) {
      if (secret !== null) return secrets.open(secret, jobId)
      if (options.secret !== null) return options.secret
      throw new AppError('store_failed', 'The job named no secret of its own, and the server has none any more.')
    },
    log,
    onAttempt: (outcome) => parts.onAttempt(outcome),
  })

  return {
    queue,
    async accept({ url: text, secret }, jobId) {
      const url = guard.checkUrl(text)
      if (secret === undefined && options.secret === null) {
        throw new AppError(
          'request_invalid',
          'webhook.secret is missing, and this server has no TENSORPRESS_WEBHOOK_SECRET: a delivery that nobody can check is not sent.',
          { path: 'webhook.secret' },
        )
      }
      const sealed = secret === undefined ? null : await secrets.seal(secret, jobId)
      const sealedUrl = await secrets.seal(url.href, urlOwner(jobId))
      return { eventId: randomUUID(), url: sealedUrl, origin: url.origin, secret: sealed }
    },
    async redeliver(jobId) {
      const state = await catalog.redeliver(jobId)
      if (state === 'missing') throw new AppError('conflict', `Job ${jobId} has no webhook.`, { job: jobId })
      if (state === 'waiting') {
        throw new AppError('conflict', `Job ${jobId} has not ended; its webhook is delivered when it has.`, {
          job: jobId,
        })
      }
      if (state === 'delivered') {
        throw new AppError(
          'conflict',
          `The webhook of job ${jobId} was delivered, and its URL was forgotten with that. GET /v1/jobs/${jobId} has what it said.`,
          { job: jobId },
        )
      }
      queue.wake()
    },
  }
}
