// Ctrl-C and SIGTERM for commands that work for a while: the first aborts the signal so that the command can clean up, the
// second ends the process at once. Entry: interruptible(). The exit status then is 130 or 143.

import { AppError } from '../errors.ts'
import { localWork } from '../local/local-work.ts'
import { onStopSignal, STOP_STATUS } from '../stop-signal.ts'

/** Runs `work`; resolves with its exit code, or with 130 / 143 when a signal ended it. */
export async function interruptible(work: (signal: AbortSignal) => Promise<number>): Promise<number> {
  const abort = new AbortController()
  let status: number | null = null
  const release = onStopSignal((name) => {
    status = STOP_STATUS[name]
    abort.abort(new AppError('cancelled', 'interrupted; nothing was written'))
  })
  try {
    return await localWork(abort.signal, () => work(abort.signal))
  } catch (error) {
    if (status === null) throw error
    process.stderr.write('tensorpress: interrupted; nothing was written [cancelled]\n')
    return status
  } finally {
    release()
  }
}
