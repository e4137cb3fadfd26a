// Logs (pino): one line an event, with request_id and job_id where there is one. Model content, tensor names and header values
// never appear. `createLog` is the entry.

import { type DestinationStream, type Logger, pino } from 'pino'

export type Log = Logger

/** For people on a terminal one plain line an event; for everything else JSON. `destination` is for tests. */
export function createLog(level: string, destination?: DestinationStream): Log {
  return pino(
    {
      level,
      base: { service: 'tensorpress' },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination ?? (process.stdout.isTTY ? TERMINAL : pino.destination({ dest: 1, sync: true })),
  )
}

/** For lines with `audit: true`, which are written at every level but `silent`. */
export function auditLog(log: Log): Log {
  return log.level === 'silent' ? log : log.child({ audit: true }, { level: 'info' })
}

const TERMINAL: DestinationStream = {
  write(line: string) {
    process.stdout.write(`${plainLine(line)}\n`)
  },
}

/** 18:04:11 info request method=GET path=/v1/models status=200 ... */
export function plainLine(json: string): string {
  const { time, level, msg, service: _, err, ...fields } = JSON.parse(json) as Record<string, unknown>
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
  const stack = (err as { stack?: string } | undefined)?.stack
  const head = [String(time).slice(11, 19), level, msg, ...rest].join(' ')
  return stack ? `${head}\n${stack}` : head
}
