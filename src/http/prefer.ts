// The Prefer header (RFC 7240) as far as POST /v1/compress honours it: `respond-async` and `wait=N`. Preferences that are
// unknown or malformed are ignored, as the RFC asks.

import { DEFAULT_WAIT_SECONDS } from '../config.ts'

export interface Preference {
  waitSeconds: number
  /** For Preference-Applied; null when the client preferred nothing that was honoured. */
  applied: string | null
}

export function parsePrefer(header: string | undefined, maxWaitSeconds: number): Preference {
  const preferences = new Map(
    (header ?? '').split(',').map((entry) => {
      const [name = '', value = ''] = entry.split(';', 1)[0]!.split('=')
      return [name.trim().toLowerCase(), value.trim().replace(/^"(.*)"$/, '$1')] as const
    }),
  )
  const wait = preferences.get('wait')
  const waitSeconds = wait !== undefined && /^\d{1,9}$/.test(wait) ? Math.min(Number(wait), maxWaitSeconds) : null
  // Both together (RFC 7240, section 4.3): wait that long, then answer as if asynchronous.
  if (waitSeconds !== null) return { waitSeconds, applied: `wait=${waitSeconds}` }
  if (preferences.has('respond-async')) return { waitSeconds: 0, applied: 'respond-async' }
  return { waitSeconds: Math.min(DEFAULT_WAIT_SECONDS, maxWaitSeconds), applied: null }
}
