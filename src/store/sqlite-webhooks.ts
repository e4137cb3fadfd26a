// Webhook deliveries in the SQLite catalogue. Entries: createWebhookRows; addWebhook and releaseWebhooks for the transactions
// that add and end jobs.

import { type Row, type Statements, textOrNull } from './sqlite-statements.ts'
import type { DeliveryRecord, DeliveryState, NewWebhook, WebhookRows } from './webhook-catalog.ts'

/** Inside the transaction that adds the job. */
export function addWebhook({ run }: Statements, jobId: string, webhook: NewWebhook): void {
  const { eventId, url, origin, secret } = webhook
  const sql = `INSERT INTO webhook_deliveries (job_id, event_id, url, origin, secret, state) VALUES (?, ?, ?, ?, ?, 'waiting')`
  run(sql, jobId, eventId, url, origin, secret)
}

/** Inside a transaction that ended jobs: what waited for them is due. */
export function releaseWebhooks({ run }: Statements): void {
  run(
    `UPDATE webhook_deliveries SET state = 'pending', next_attempt_at = NULL WHERE state = 'waiting'
     AND EXISTS (SELECT 1 FROM jobs WHERE id = job_id AND finished_at IS NOT NULL)`,
  )
}

export function createWebhookRows({ get, run, call }: Statements): WebhookRows {
  return {
    getDelivery: (jobId) =>
      call('reading a webhook', () => {
        const row = get('SELECT * FROM webhook_deliveries WHERE job_id = ?', jobId)
        return row === undefined ? null : readDelivery(row)
      }),
    countDeliveries: () =>
      call('counting webhooks', () => {
        const count = (state: DeliveryState) =>
          Number(get('SELECT count(*) AS n FROM webhook_deliveries WHERE state = ?', state)?.['n'])
        return { pending: count('pending'), dead: count('dead') }
      }),
    claimDelivery: ({ dueBy, leaseUntil, at }, exceptOrigins) =>
      call('taking a webhook', () => {
        const row = get(
          `UPDATE webhook_deliveries SET attempts = attempts + 1, last_attempt_at = ?1, next_attempt_at = ?2
           WHERE seq = (SELECT seq FROM webhook_deliveries
             WHERE state = 'pending' AND (next_attempt_at IS NULL OR next_attempt_at <= ?3)
             AND origin NOT IN (SELECT value FROM json_each(?4)) ORDER BY next_attempt_at, seq LIMIT 1) RETURNING *`,
          at,
          leaseUntil,
          dueBy,
          JSON.stringify(exceptOrigins),
        )
        return row === undefined ? null : readDelivery(row)
      }),
    settleDelivery: (jobId, attempt, { state, status, error, at, uncounted }) =>
      call('noting a webhook', () => {
        run(
          `UPDATE webhook_deliveries SET state = ?3, last_status = ?4, last_error = ?5, attempts = attempts - ?8,
             next_attempt_at = ?6, delivered_at = coalesce(?7, delivered_at),
             url = iif(?3 = 'delivered', '', url), secret = iif(?3 = 'delivered', NULL, secret)
           WHERE job_id = ?1 AND attempts = ?2 AND state = 'pending'`,
          jobId,
          attempt,
          state,
          status,
          error,
          state === 'pending' ? at : null,
          state === 'delivered' ? at : null,
          uncounted ? 1 : 0,
        )
      }),
    nextDelivery: () =>
      call('looking for webhooks', () => {
        const sql = `SELECT next_attempt_at FROM webhook_deliveries WHERE state = 'pending' ORDER BY next_attempt_at LIMIT 1`
        const row = get(sql)
        return row === undefined ? null : { dueAt: textOrNull(row['next_attempt_at']) }
      }),
    bringForward: (latest) =>
      call('bringing webhooks forward', () =>
        run(
          `UPDATE webhook_deliveries SET next_attempt_at = ?1 WHERE state = 'pending' AND next_attempt_at > ?1`,
          latest,
        ),
      ),
    redeliver: (jobId) =>
      call('asking for a webhook again', () => {
        const sql = `UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_attempt_at = NULL
                     WHERE job_id = ? AND state IN ('pending', 'dead')`
        if (run(sql, jobId) === 1) return 'pending'
        const row = get('SELECT state FROM webhook_deliveries WHERE job_id = ?', jobId)
        return row === undefined ? 'missing' : (String(row['state']) as 'waiting' | 'delivered')
      }),
  }
}

function readDelivery(row: Row): DeliveryRecord {
  return {
    jobId: String(row['job_id']),
    eventId: String(row['event_id']),
    url: String(row['url']),
    origin: String(row['origin']),
    secret: textOrNull(row['secret']),
    state: String(row['state']) as DeliveryState,
    attempts: Number(row['attempts']),
    lastStatus: row['last_status'] === null ? null : Number(row['last_status']),
    lastError: textOrNull(row['last_error']),
    lastAttemptAt: textOrNull(row['last_attempt_at']),
    nextAttemptAt: textOrNull(row['next_attempt_at']),
    deliveredAt: textOrNull(row['delivered_at']),
  }
}
