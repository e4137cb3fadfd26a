// Ctrl-C and SIGTERM for commands that work for a while: the first aborts the signal so that the command can clean up, the
// second ends the process at once. Entry: interruptible(). The exit status then is 130 or 143.

import { AppError } from '../errors.ts'

const STATUS = { SIGINT: 130, SIGTERM: 143 } as const

/** Runs `work`; resolves with its exit code, or with 130 / 143 when a signal ended it. */
export async function interruptible(work: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const abort = new AbortController()
  let status: number | null = null
  const onSignal = (name: NodeJS.Signals) => {
    const next = STATUS[name as keyof typeof STATUS]
    if (status !== null) process.exit(next)
    status = next
    abort.abort(new AppError('cancelled', 'interrupted; nothing was written'))
  }
  for (const name of Object.keys(STATUS)) process.on(name, onSignal)
  // Children and their timers do not keep this process alive; between two of them it would end with the work undone.
  const alive = setInterval(() => {}, 60_000)
  try {
    return await work(abort.signal)
  } catch (error) {
    if (status === null) throw error
    process.stderr.write('tensorpress: interrupted; nothing was written [cancelled]\n')
    return status
  } finally {
    clearInterval(alive)
    for (const name of Object.keys(STATUS)) process.off(name, onSignal)
  }
}
