// Bounds the requests in work: in all, and of one caller, so that neither a burst nor one client can take the server from the
// others. Probes and /metrics do not come here. Entry: RequestGate.admit, a middleware behind the check of the API key.

import type { RequestHandler, Response } from 'express'
import type { Limits } from '../config.ts'
import { AppError } from '../errors.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { callerOf } from './access.ts'

export class RequestGate {
  #inWork = 0
  readonly #ofCaller = new Map<string, number>()
  readonly #limits: Limits
  readonly #metrics: Metrics
  readonly #keysRequired: boolean

  constructor(limits: Limits, metrics: Metrics, keysRequired: boolean) {
    this.#limits = limits
    this.#metrics = metrics
    this.#keysRequired = keysRequired
  }

  /** Throws overloaded, too_many_requests. A request is in work until its answer has been sent or its client is gone. */
  readonly admit: RequestHandler = (_request, response, next) => {
    const { parallelRequests, requestsPerKey } = this.#limits
    if (this.#inWork >= parallelRequests) {
      throw new AppError(
        'overloaded',
        `${this.#inWork} requests are in work, as many as limit parallelRequests allows.`,
        {
          limit: 'parallelRequests',
          allowed: parallelRequests,
          requested: this.#inWork + 1,
        },
      )
    }
    const caller = this.#groupOf(response)
    const own = caller === null ? 0 : (this.#ofCaller.get(caller) ?? 0)
    if (own >= requestsPerKey) {
      const whose = caller === '' ? 'callers without an API key' : `API key "${caller}"`
      throw new AppError(
        'too_many_requests',
        `${own} requests of ${whose} are in work, as many as limit requestsPerKey allows.`,
        {
          limit: 'requestsPerKey',
          allowed: requestsPerKey,
          requested: own + 1,
        },
      )
    }
    this.#count(caller, 1)
    response.once('close', () => this.#count(caller, -1))
    next()
  }

  /** Callers without a key are one group where keys are required; without keys there is nobody to tell apart. */
  #groupOf(response: Response): string | null {
    return this.#keysRequired ? (callerOf(response)?.name ?? '') : null
  }

  #count(caller: string | null, change: 1 | -1): void {
    this.#inWork += change
    this.#metrics.httpRequestsInWork.set(this.#inWork)
    if (caller === null) return
    const own = (this.#ofCaller.get(caller) ?? 0) + change
    if (own === 0) this.#ofCaller.delete(caller)
    else this.#ofCaller.set(caller, own)
  }
}
