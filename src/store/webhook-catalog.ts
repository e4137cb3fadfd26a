// Webhook deliveries in the catalogue: at most one per job, added with the job, due when it ends. Types only; Catalog extends
// WebhookRows.

export interface NewWebhook {
  eventId: string
  url: string
  /** Scheme, host and port of `url`: what the API shows and logs name. */
  origin: string
  /** Sealed (secret-box.ts); null: the server's own secret. */
  secret: string | null
}

/** waiting: the job has not ended; pending: to be delivered, or to be tried again; dead: given up. */
export type DeliveryState = 'waiting' | 'pending' | 'delivered' | 'dead'

export interface DeliveryRecord extends NewWebhook {
  jobId: string
  state: DeliveryState
  /** Since the job ended or the delivery was last asked for. */
  attempts: number
  lastStatus: number | null
  lastError: string | null
  lastAttemptAt: string | null
  nextAttemptAt: string | null
  deliveredAt: string | null
}

export interface DeliveryOutcome {
  state: 'pending' | 'delivered' | 'dead'
  status: number | null
  error: string | null
  /** Of a pending one: when it is due; otherwise when it ended. */
  at: string
  /** The attempt was cut by our own end and does not count. */
  uncounted?: boolean
}

export interface WebhookRows {
  getDelivery(jobId: string): Promise<DeliveryRecord | null>
  countDeliveries(): Promise<{ pending: number; dead: number }>
  /** Takes the pending one that has been due for longest and counts an attempt; it is due again at `leaseUntil`. */
  claimDelivery(now: string, leaseUntil: string, exceptOrigins: readonly string[]): Promise<DeliveryRecord | null>
  /** Ignored unless this is still the attempt in work (it may have been asked for anew meanwhile). */
  settleDelivery(jobId: string, attempt: number, outcome: DeliveryOutcome): Promise<void>
  /** When the next pending one is due; null: none is pending. */
  nextDeliveryAt(): Promise<string | null>
  /** Due now, with all its attempts before it. */
  redeliver(jobId: string, now: string): Promise<'pending' | 'waiting' | 'missing'>
}
