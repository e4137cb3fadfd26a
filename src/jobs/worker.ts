// The GPU worker child: opens one device and answers histogram and compress requests (src/jobs/protocol.ts), one at a time.
// Started with an IPC channel and `--device NAME` (or TENSORPRESS_DEVICE): auto, reference, or part of an adapter's name.
// With `--describe-first` it describes a model before it opens its device, and is ready after that.
// Its death costs the parent one attempt; it never outlives the parent.

import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import type { ComputeDevice } from '../compute/compute-device.ts'
import { openDevice } from '../compute/open-device.ts'
import { AppError } from '../errors.ts'
import { openModel } from '../formats/index.ts'
import { type RequestHandler, send, serveChild } from './child-server.ts'
import { compressJob } from './compress-job.ts'
import { answerDescribing } from './describe-model.ts'
import type { HistogramResult } from './protocol.ts'

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { device: { type: 'string' }, 'describe-first': { type: 'boolean', default: false } },
    strict: false,
  })
  const named = typeof values.device === 'string' ? values.device : process.env['TENSORPRESS_DEVICE']
  await serveDevice(() => openDevice(named ?? 'auto'), values['describe-first'] === true)
}

/** Answers the parent until the channel closes or the device is lost. */
export async function serveDevice(openNow: () => Promise<ComputeDevice>, describeFirst: boolean): Promise<void> {
  let opening: Promise<ComputeDevice> | null = null
  const device = () => {
    opening ??= open(openNow)
    return opening
  }

  const handle: RequestHandler = async (request, { signal, progress }) => {
    switch (request.type) {
      case 'compress': {
        const work = async () => compressJob(request.spec, await device(), { signal, progress })
        return describeFirst ? withFewCollections(work) : work()
      }
      case 'histogram': {
        const opened = await device()
        const { tensorHistogram } = await import('../execute/tensor-histogram.ts')
        const reader = await openModel(request.files)
        try {
          const found = await tensorHistogram(reader, request.tensor, request.bins, opened, signal)
          return { tensor: request.tensor, ...found, device: opened.info } satisfies HistogramResult
        } finally {
          await reader.close()
        }
      }
      case 'companions':
      case 'describe': {
        if (!describeFirst) throw unanswered(request.type)
        if (request.type === 'companions') return answerDescribing(request)
        const described = await answerDescribing(request)
        // Opening keeps this thread busy, so the answer goes first: the parent prepares the job meanwhile.
        setImmediate(() => void device().catch(fail))
        return described
      }
      default:
        throw unanswered(request.type)
    }
  }

  // A server's worker is ready when its device is open; until then requests wait in the channel.
  if (!describeFirst) await device()
  serveChild(handle, async () => (await opening)?.close())
}

async function open(openNow: () => Promise<ComputeDevice>): Promise<ComputeDevice> {
  const device = await openNow()
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
  return device
}

/**
 * For a worker with one job, what IDLING_FLAGS (worker-pool.ts) are for others: full collections only every some hundred MiB of
 * mapped chunks. Set back afterwards, since V8 takes compiled code only under the flags that it was compiled under.
 */
async function withFewCollections<T>(work: () => Promise<T>): Promise<T> {
  setFlagsFromString('--heap-growing-percent=300')
  try {
    return await work()
  } finally {
    setFlagsFromString('--heap-growing-percent=0')
  }
}

function unanswered(type: string): AppError {
  return new AppError('internal', `the GPU worker does not answer "${type}"`)
}

function fail(error: unknown): void {
  send({ id: 0, type: 'failed', error: AppError.from(error).toObject() })
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  // Leaves the message time to go out.
  setTimeout(() => process.exit(1), 100)
}

if (import.meta.main) await main().catch(fail)
