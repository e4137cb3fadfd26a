// The GPU worker child: opens one device and answers histogram and compress requests (src/jobs/protocol.ts), one at a time.
// Started with an IPC channel and `--device NAME` (or TENSORPRESS_DEVICE): auto, reference, or part of an adapter's name.
// Its death costs the parent one attempt; it never outlives the parent.

import { parseArgs } from 'node:util'
import { openDevice } from '../compute/open-device.ts'
import { AppError } from '../errors.ts'
import { tensorHistogram } from '../execute/tensor-histogram.ts'
import { openModel } from '../formats/index.ts'
import { type RequestHandler, send, serveChild } from './child-server.ts'
import { compressJob } from './compress-job.ts'
import type { HistogramResult } from './protocol.ts'

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { device: { type: 'string' } }, strict: false })
  const named = typeof values.device === 'string' ? values.device : process.env['TENSORPRESS_DEVICE']
  const device = await openDevice(named ?? 'auto')

  const handle: RequestHandler = async (request, { signal, progress }) => {
    switch (request.type) {
      case 'compress':
        return compressJob(request.spec, device, { signal, progress })
      case 'histogram': {
        const reader = await openModel(request.files)
        try {
          const found = await tensorHistogram(reader, request.tensor, request.bins, device, signal)
          return { tensor: request.tensor, ...found, device: device.info } satisfies HistogramResult
        } finally {
          await reader.close()
        }
      }
      default:
        throw new AppError('internal', `the GPU worker does not answer "${request.type}"`)
    }
  }

  serveChild(handle, () => device.close())
  // A lost device takes all buffers with it; a fresh process is the clean way to a new one.
  void device.lost.then((reason) => {
    process.stderr.write(`device lost: ${reason}\n`)
    setTimeout(() => process.exit(1), 200)
  })
  send({
    type: 'ready',
    device: device.info,
    limits: device.limits,
    startSeconds: process.uptime(),
    rssBytes: process.memoryUsage.rss(),
  })
}

if (import.meta.main) {
  try {
    await main()
  } catch (error) {
    send({ id: 0, type: 'failed', error: AppError.from(error).toObject() })
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
    // Leaves the message time to go out.
    setTimeout(() => process.exit(1), 100)
  }
}
