// Logs (pino): one line an event, with request_id and job_id where there is one. Model content, tensor names and header values
// never appear. `createLog` is the entry.

import { type DestinationStream, type Logger, pino } from 'pino'

export type Log = Logger

/** Lines that a full disk or a reader that went away holds up are kept up to this size; what comes after them is lost. */
const MOST_WAITING_BYTES = 1024 * 1024

/**
 * For people on a terminal one plain line an event; for everything else JSON. A line that cannot be written is no reason to stop
 * serving: `onFailure` counts it. `destination` is for tests.
 */
export function createLog(level: string, destination?: DestinationStream, onFailure?: () => void): Log {
  return pino(
    {
      level,
      base: { service: 'tensorpress' },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination ?? standardOutput(onFailure),
  )
}

/** One for all logs of the process, as its streams are. */
let sharedOutput: DestinationStream | null = null
const failureListeners = new Set<() => void>()

function standardOutput(onFailure: (() => void) | undefined): DestinationStream {
  if (onFailure !== undefined) failureListeners.add(onFailure)
  sharedOutput ??= openOutput(() => {
    for (const listener of failureListeners) listener()
  })
  return sharedOutput
}

function openOutput(onFailure: () => void): DestinationStream {
  // Nobody else would hear of these errors, and an error that nobody hears of ends the process.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', onFailure)
  if (process.stdout.isTTY) return TERMINAL
  const output = pino.destination({ dest: 1, sync: true, maxLength: MOST_WAITING_BYTES })
  return output.on('error', onFailure)
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
