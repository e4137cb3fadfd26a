// Logs: one JSON line an event (pino), with request_id and job_id where there is one. Model content, tensor names and header
// values never appear. `createLog` is the entry.

import { type DestinationStream, type Logger, pino } from 'pino'

export type Log = Logger

/** `destination` is for tests; the default is standard output. */
export function createLog(level: string, destination?: DestinationStream): Log {
  return pino(
    {
      level,
      base: { service: 'tensorpress' },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination ?? pino.destination({ dest: 1, sync: true }),
  )
}
