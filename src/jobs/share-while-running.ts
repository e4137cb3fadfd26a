// For work that many may ask for at the same time and that gives all of them the same: whoever asks while it runs gets that run.

export function shareWhileRunning<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | null = null
  return () => {
    running ??= work().finally(() => {
      running = null
    })
    return running
  }
}
