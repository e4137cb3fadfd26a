// Progress on standard error: one redrawn line with a bar on a terminal, plain lines otherwise, nothing in --json mode.
// Entry: progressDisplay(). Standard output stays free for results.

import { bytesText, printable, secondsText } from './text-table.ts'

const BAR_CELLS = 24
/** A line in a log file at most this often, apart from the start of each stage. */
const PLAIN_INTERVAL_MS = 5000
/** A terminal is redrawn at most this often: faster is flicker. */
const REDRAW_INTERVAL_MS = 80

/** Progress of a job, or of a transfer to or from a server. */
export interface ShownProgress {
  stage: string
  doneBytes: number
  totalBytes: number
  tensor: string | null
}

export interface ProgressDisplay {
  show(progress: ShownProgress): void
  /** Ends the line of a bar; later output starts on a fresh line. Safe to call twice. */
  end(): void
}

interface Terminal {
  isTTY?: boolean
  columns?: number
  write(text: string): unknown
}

export function progressDisplay(stream: Terminal, options: { quiet: boolean; now?: () => number }): ProgressDisplay {
  if (options.quiet) return { show() {}, end() {} }
  const now = options.now ?? (() => performance.now())
  return stream.isTTY === true ? bar(stream, now) : plainLines(stream, now)
}

function bar(stream: Terminal, now: () => number): ProgressDisplay {
  let drawnAtMs = Number.NEGATIVE_INFINITY
  let stage = ''
  let stageStartMs = now()
  return {
    show(progress) {
      const time = now()
      if (progress.stage !== stage) {
        stage = progress.stage
        stageStartMs = time
        drawnAtMs = Number.NEGATIVE_INFINITY
      }
      if (time - drawnAtMs < REDRAW_INTERVAL_MS) return
      drawnAtMs = time
      const fraction = fractionOf(progress)
      const filled = Math.round(fraction * BAR_CELLS)
      const line = [
        progress.stage.padEnd(11),
        `[${'#'.repeat(filled)}${'-'.repeat(BAR_CELLS - filled)}]`,
        amounts(progress),
        remaining(fraction, (time - stageStartMs) / 1000),
        progress.tensor === null ? '' : printable(progress.tensor),
      ]
        .filter((part) => part !== '')
        .join(' ')
      stream.write(`\r\u001b[2K${line.slice(0, Math.max(20, (stream.columns ?? 80) - 1))}`)
    },
    end() {
      if (stage !== '') stream.write('\r\u001b[2K')
      stage = ''
    },
  }
}

function plainLines(stream: Terminal, now: () => number): ProgressDisplay {
  let stage = ''
  let writtenAtMs = Number.NEGATIVE_INFINITY
  return {
    show(progress) {
      const time = now()
      if (progress.stage === stage && time - writtenAtMs < PLAIN_INTERVAL_MS) return
      stage = progress.stage
      writtenAtMs = time
      stream.write(`${[progress.stage, amounts(progress)].filter(Boolean).join(': ')}\n`)
    },
    end() {},
  }
}

function fractionOf({ doneBytes, totalBytes }: ShownProgress): number {
  return totalBytes > 0 ? Math.min(1, doneBytes / totalBytes) : 0
}

function amounts({ doneBytes, totalBytes }: ShownProgress): string {
  return totalBytes > 0 ? `${bytesText(doneBytes)} of ${bytesText(totalBytes)}` : ''
}

function remaining(fraction: number, elapsedSeconds: number): string {
  if (fraction < 0.05 || fraction >= 1 || elapsedSeconds < 2) return ''
  return `${secondsText((elapsedSeconds / fraction) * (1 - fraction))} left`
}
