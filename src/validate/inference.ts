// Inference child: one model in onnxruntime, driven over IPC by inference-child.ts with the messages of
// inference-protocol.ts. A native crash here costs one attempt, never the server. Exits when its channel closes, even in
// the middle of a blocking run (parent-watch.ts). onnxruntime is loaded on the first `open`, so read-back never needs it.

import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { AppError } from '../errors.ts'
import { openModel } from '../formats/index.ts'
import { codeFile } from '../program-files.ts'
import type { ModelSession } from '../runtime/ort-session.ts'
import { compareRuns } from './compare-runs.ts'
import type { Feed } from './dataset.ts'
import type {
  InferenceMessage,
  InferenceReply,
  InferenceRequests,
  InferenceRequestType,
  LatencyAnswer,
} from './inference-protocol.ts'
import { readBack } from './read-back.ts'
import { runModel } from './run-model.ts'

type Handlers = {
  [T in InferenceRequestType]: (
    request: InferenceRequests[T]['request'],
    progress: (doneShare: number) => void,
  ) => Promise<InferenceRequests[T]['answer']>
}

let session: ModelSession | null = null
/** The first feed, kept for the latency runs. */
let latencyFeed: Feed['tensors'] | null = null

function opened(): ModelSession {
  if (session === null) throw new AppError('internal', 'no model is open in the inference child')
  return session
}

const handlers: Handlers = {
  open: async ({ path, files, threads, x64QuantPrecision }) => {
    const { openSession, ORT_VERSION, RUNNABLE_DTYPES } = await import('../runtime/ort-session.ts')
    const warnings = await refuseUnrunnable(files, RUNNABLE_DTYPES)
    const baselineRssBytes = process.memoryUsage.rss()
    const start = performance.now()
    session = await openSession(path, { threads, x64QuantPrecision })
    const loadSeconds = (performance.now() - start) / 1000
    const skipped = session.outputs.filter(({ dtype }) => dtype === null).map(({ name }) => `'${name}'`)
    if (skipped.length === session.outputs.length) {
      throw new AppError('feature_unsupported', 'the model has no tensor output, so there is nothing to compare', {})
    }
    if (skipped.length > 0)
      warnings.push(`Outputs that are not numeric tensors were not compared: ${skipped.join(', ')}.`)
    return { loadSeconds, baselineRssBytes, onnxruntime: ORT_VERSION, warnings }
  },
  run: async (request, progress) => {
    const { answer, firstFeed } = await runModel(opened(), request, progress)
    latencyFeed = firstFeed
    return { ...answer, rssBytes: process.memoryUsage.rss() }
  },
  latency: ({ runs, warmupRuns }) => measureLatency(runs, warmupRuns),
  release: async () => {
    const peakRssBytes = readPeakRssBytes()
    await session?.release()
    session = null
    latencyFeed = null
    return { peakRssBytes }
  },
  compare: compareRuns,
  'read-back': ({ original, artifact, plan }, progress) => readBack(original, artifact, plan, progress),
}

/** 4-bit, bf16 and fp8 graph inputs or outputs make onnxruntime's binding throw or abort: named before loading. */
async function refuseUnrunnable(
  files: Parameters<typeof openModel>[0],
  runnable: ReadonlySet<string>,
): Promise<string[]> {
  const reader = await openModel(files)
  const { inputs, outputs } = reader.summary
  await reader.close()
  for (const [kind, values] of [['input', inputs] as const, ['output', outputs] as const]) {
    const bad = values.find(({ dtype }) => !runnable.has(dtype))
    if (bad === undefined) continue
    throw new AppError(
      'dtype_unsupported',
      `graph ${kind} '${bad.name}' is ${bad.dtype}, which onnxruntime cannot exchange with Node; allowed: ${[...runnable].join(', ')}. Run with validate: false to compress it unchecked.`,
      { [kind]: bad.name, dtype: bad.dtype },
    )
  }
  return []
}

async function measureLatency(runs: number, warmupRuns: number): Promise<LatencyAnswer> {
  const model = opened()
  if (latencyFeed === null) throw new AppError('internal', 'latency was asked for before any run')
  for (let i = 0; i < warmupRuns; i++) await model.run(latencyFeed)
  const milliseconds: number[] = []
  const cpu = process.cpuUsage()
  for (let i = 0; i < runs; i++) {
    const start = performance.now()
    await model.run(latencyFeed)
    milliseconds.push(performance.now() - start)
  }
  const used = process.cpuUsage(cpu)
  return { milliseconds, warmupRuns, cpuMilliseconds: (used.user + used.system) / 1000 }
}

/** Highest resident size of this process so far; the kernel's own mark where there is one. */
function readPeakRssBytes(): number {
  try {
    const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
    if (line !== null) return Number(line[1]) * 1024
  } catch {
    // no procfs here (macOS, Windows): getrusage below
  }
  return process.resourceUsage().maxRSS * 1024
}

function reply(message: InferenceReply): void {
  process.send?.(message)
}

async function answer(message: InferenceMessage): Promise<void> {
  const { id, type, request } = message
  const progress = (doneShare: number) => reply({ id, type: 'progress', doneShare })
  try {
    // `type` and `request` belong together by InferenceMessage; indexing loses that link.
    const handler = handlers[type] as (request: unknown, progress: (share: number) => void) => Promise<unknown>
    reply({ id, type: 'done', answer: await handler(request, progress) })
  } catch (error) {
    reply({ id, type: 'failed', error: AppError.from(error).toObject() })
  }
}

if (process.send !== undefined) {
  new Worker(codeFile('validate/parent-watch'), { workerData: process.ppid }).unref()
  // Ctrl-C reaches the whole process group; the parent decides what it means and closes the channel.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
  process.on('disconnect', () => process.exit(0))
  process.on('message', (message: InferenceMessage) => void answer(message))
}
