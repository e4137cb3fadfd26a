// Loaded into the server with --import: on SIGUSR2 it writes the event-loop delay since the last signal, and the resident
// memory, to the file named by TENSORPRESS_BENCH_PROBE. The delays include the sampling period of 1 ms.

import { writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const histogram = monitorEventLoopDelay({ resolution: 1 })
histogram.enable()
process.on('SIGUSR2', () => {
  const p99Ms = histogram.percentile(99) / 1e6
  const maxMs = histogram.max / 1e6
  writeFileSync(
    process.env['TENSORPRESS_BENCH_PROBE'] ?? 'event-loop.json',
    JSON.stringify({ p99Ms, maxMs, rssBytes: process.memoryUsage.rss() }),
  )
  histogram.reset()
})
