// A GPU worker that obeys the protocol and owns no device: its artifact is the input with every byte inverted. What goes
// wrong is chosen by words in the recipe's name: slow-500 (milliseconds), crash, crash-once, hang, stall, lose-device,
// refuse, bloat. Child entry.

import { createHash } from 'node:crypto'
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../../src/errors.ts'
import { type RequestContext, send, serveChild } from '../../src/jobs/child-server.ts'
import type { CompressionResult, CompressSpec } from '../../src/jobs/protocol.ts'

const DEVICE = {
  kind: 'reference',
  adapter: 'fake',
  vendor: 'tests',
  architecture: '',
  driver: '',
  software: true,
} as const

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function compress(spec: CompressSpec, { signal, progress }: RequestContext): Promise<CompressionResult> {
  const words = spec.recipe.name.split(' ')
  const input = readFileSync(spec.files[0]!.path)
  const output = input.map((byte) => 255 - byte)
  const path = join(spec.outputDir, spec.output.fileName)
  const totalBytes = input.byteLength
  const half = totalBytes >> 1
  writeFileSync(path, output.subarray(0, half))
  progress({ stage: 'encoding', doneBytes: half, totalBytes, tensor: 'w' })
  for (const word of words) await misbehave(word, spec, signal)
  appendFileSync(path, output.subarray(half))
  progress({ stage: 'encoding', doneBytes: totalBytes, totalBytes, tensor: null })
  const file = { name: spec.output.fileName, sizeBytes: totalBytes, zstdBytes: null, zstdSampled: false }
  return {
    device: DEVICE,
    plan: {
      recipe: spec.recipe,
      format: 'safetensors',
      bytesBefore: totalBytes,
      bytesAfter: totalBytes,
      outputFiles: [{ name: spec.output.fileName, sizeBytes: totalBytes }],
      peakMemoryBytes: 0,
      notes: [],
    },
    tensors: [],
    files: [{ ...file, sha256: spec.measure ? sha256(output) : null }],
    input: {
      files: [{ name: basename(spec.files[0]!.name), sizeBytes: totalBytes, sha256: null }],
      rawBytes: totalBytes,
      zstdBytes: null,
      zstdSampled: false,
    },
    rawBytes: totalBytes,
    zstdBytes: null,
    seconds: { encode: 0.01 },
    gpuSeconds: 0,
    bytesRead: totalBytes,
    bytesWritten: totalBytes,
    kernelTimes: [],
    peakRssBytes: process.memoryUsage.rss(),
  }
}

async function misbehave(word: string, spec: CompressSpec, signal: AbortSignal): Promise<void> {
  if (word.startsWith('slow-')) await sleep(Number(word.slice(5)), undefined, { signal })
  if (word === 'crash' || (word === 'crash-once' && spec.attempt === 1)) process.kill(process.pid, 'SIGKILL')
  if (word === 'hang') for (;;);
  if (word === 'stall') await new Promise(() => {})
  if (word === 'lose-device') throw new AppError('device_lost', 'the device was lost')
  if (word === 'refuse') throw new AppError('format_invalid', 'tensor "w" breaks its format', { tensor: 'w' })
  if (word === 'bloat') {
    const kept: Buffer[] = []
    for (;;) {
      kept.push(Buffer.alloc(16 * 1024 * 1024, 1))
      await sleep(20)
    }
  }
}

serveChild(
  async (request, context) => {
    if (request.type === 'compress') return compress(request.spec, context)
    if (request.type === 'histogram') {
      const bins = [{ from: 0, to: 1, count: process.pid }]
      return { tensor: request.tensor, bins, elements: 1, zeros: 0, nonFinite: 0, min: 0, max: 1, device: DEVICE }
    }
    throw new AppError('internal', request.type)
  },
  async () => {},
)
if (process.argv.includes('not-there')) {
  send({ id: 0, type: 'failed', error: new AppError('device_unavailable', 'no such adapter').toObject() })
} else {
  send({
    type: 'ready',
    device: DEVICE,
    limits: null,
    startSeconds: process.uptime(),
    rssBytes: process.memoryUsage.rss(),
  })
}
