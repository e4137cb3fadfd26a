// Worker thread of the inference child: onnxruntime blocks the main thread during a run, so a closed channel would be
// noticed only after it. When the parent is gone (the process was handed to another), the whole process ends at once.

import { workerData } from 'node:worker_threads'

/** How long an orphan may live. */
const CHECK_INTERVAL_MS = 500

const parent: unknown = workerData

setInterval(() => {
  if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL')
}, CHECK_INTERVAL_MS)
