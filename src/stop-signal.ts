// SIGINT and SIGTERM, for the server and for commands alike: the first asks to end in order, a second one ends at once. Entry:
// onStopSignal(). Under `npm start` one Ctrl-C arrives twice, from the terminal and from npm, which passes it on: an echo.

export type StopSignal = 'SIGINT' | 'SIGTERM'

/** 128 + the signal's number, as shells report it. */
export const STOP_STATUS: Readonly<Record<StopSignal, number>> = { SIGINT: 130, SIGTERM: 143 }

/** The same signal again within this is an echo; a person who presses Ctrl-C twice is slower. */
const ECHO_MS = 300

/** Calls `stop` once. Returns a function that takes the handlers away. */
export function onStopSignal(stop: (name: StopSignal) => void): () => void {
  let first: { name: NodeJS.Signals; atMs: number } | null = null
  const onSignal = (name: NodeJS.Signals) => {
    const atMs = performance.now()
    if (first === null) {
      first = { name, atMs }
      stop(name as StopSignal)
    } else if (name !== first.name || atMs - first.atMs > ECHO_MS) {
      process.exit(STOP_STATUS[name as StopSignal])
    }
  }
  const names = Object.keys(STOP_STATUS)
  for (const name of names) process.on(name, onSignal)
  return () => {
    for (const name of names) process.off(name, onSignal)
  }
}
