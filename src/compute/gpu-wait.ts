// Waiting for GPU promises without a busy event loop. The binding pumps its work in a setImmediate loop while any of its
// promises is pending, which keeps one core at 100 %; a short sleep in each turn leaves that core to the adapter.
// For the GPU worker's thread only: it sleeps the thread it runs on. Entry: gpuWait().

/** 0.1 to 1 ms behave alike; long enough to idle, short against the time of a chunk. */
const SLEEP_MS = 0.3

const cell = new Int32Array(new SharedArrayBuffer(4))
let pendingWaits = 0
let ticking = false

function tick(): void {
  if (pendingWaits === 0) {
    ticking = false
    return
  }
  Atomics.wait(cell, 0, 0, SLEEP_MS)
  setImmediate(tick)
}

export async function gpuWait<T>(promise: Promise<T>): Promise<T> {
  pendingWaits += 1
  if (!ticking) {
    ticking = true
    setImmediate(tick)
  }
  try {
    return await promise
  } finally {
    pendingWaits -= 1
  }
}
