// Webhook deliveries in the catalogue: at most one per job, added with the job, due when it ends. Types only; Catalog extends
// WebhookRows.

export interface NewWebhook {
  eventId: string
  /** Sealed (secret-box.ts), as receivers put secrets into paths and queries; '' once it was delivered. */
  url: string
  /** Scheme, host and port of the URL: what the API shows and logs name. */
  origin: string
  /** Sealed; null: the server's own secret, or it was delivered. */
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
  /** By the clock of the queue (delivery-queue.ts); of a pending one null: at once. */
  nextAttemptAt: string | null
  deliveredAt: string | null
}

export interface DeliveryOutcome {
  state: 'pending' | 'delivered' | 'dead'
  status: number | null
  error: string | null
  /** Of a pending one: when it is due, null: at once; otherwise when it ended. */
  at: string | null
  /** The attempt was cut by our own end and does not count. */
  uncounted?: boolean
}

export interface WebhookRows {
  getDelivery(jobId: string): Promise<DeliveryRecord | null>
  countDeliveries(): Promise<{ pending: number; dead: number }>
  /**
   * Takes the pending one that has been due for longest and counts an attempt; it is due again at `leaseUntil`. `at`: when the
   * attempt began, by the wall clock.
   */
  claimDelivery(
    times: { dueBy: string; leaseUntil: string; at: string },
    exceptOrigins: readonly string[],
  ): Promise<DeliveryRecord | null>
  /** Ignored unless this is still the attempt in work (it may have been asked for anew meanwhile). */
  settleDelivery(jobId: string, attempt: number, outcome: DeliveryOutcome): Promise<void>
  /** When the next pending one is due (null: at once); null: none is pending. */
  nextDelivery(): Promise<{ dueAt: string | null } | null>
  /** What is due after `latest` is due then. Returns how many. */
  bringForward(latest: string): Promise<number>
  /** Due now, with all its attempts before it, unless it was not due yet or was delivered. */
  redeliver(jobId: string): Promise<'pending' | 'waiting' | 'delivered' | 'missing'>
}
