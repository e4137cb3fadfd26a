// The Tensorpress-Signature header: `t=<unix seconds>,v1=<HMAC-SHA256 in hex>` over "<t>.<body>". The time is signed, so that
// a receiver can refuse an old delivery that somebody sends again. Entries: signDelivery, verifyDelivery.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { AppError } from '../errors.ts'

/** Long enough that it cannot be guessed, short enough for a form. */
export const SECRET_CHARACTERS = { min: 16, max: 256 } as const

const SECRET_VARIABLE = 'TENSORPRESS_WEBHOOK_SECRET'

/** Takes the secret out of the environment, so that no child inherits it. null: there is none. Throws `usage`. */
export function takeSecret(environment: NodeJS.ProcessEnv): string | null {
  const secret = environment[SECRET_VARIABLE]
  delete environment[SECRET_VARIABLE]
  if (secret === undefined || secret === '') return null
  const { min, max } = SECRET_CHARACTERS
  if (secret.length >= min && secret.length <= max) return secret
  throw new AppError('usage', `${SECRET_VARIABLE} has ${secret.length} characters; ${min} to ${max} are allowed.`, {
    path: SECRET_VARIABLE,
  })
}

export const SIGNATURE_HEADER = 'Tensorpress-Signature'

export function signDelivery(secret: string, body: string, unixSeconds: number): string {
  return `t=${unixSeconds},v1=${digest(secret, body, unixSeconds).toString('hex')}`
}

/** For receivers. false: another secret, another body, a malformed header, or older or newer than `toleranceSeconds`. */
export function verifyDelivery(
  secret: string,
  body: string,
  header: string,
  nowSeconds = Date.now() / 1000,
  toleranceSeconds = 300,
): boolean {
  const match = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(header)
  if (match === null) return false
  const unixSeconds = Number(match[1])
  if (Math.abs(nowSeconds - unixSeconds) > toleranceSeconds) return false
  return timingSafeEqual(digest(secret, body, unixSeconds), Buffer.from(match[2]!, 'hex'))
}

function digest(secret: string, body: string, unixSeconds: number): Buffer {
  return createHmac('sha256', secret).update(`${unixSeconds}.${body}`).digest()
}
