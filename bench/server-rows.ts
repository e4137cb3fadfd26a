// Rows about the server: event-loop delay and memory while a job runs, and the upload of a large file by raw PUT.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { createServer } from 'node:net'
import { extname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { makeBenchModel } from '../scripts/make-bench-model.ts'
import { sizeLabel } from './compression-rows.ts'
import { type BenchContext, mebibytes, median, megabytesPerSecond, processBytes } from './figures.ts'
import { type FloorTiming, runFloor } from './floor.ts'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

export async function serverRows(context: BenchContext, jobBytes: number, uploadBytes: number): Promise<void> {
  const dataDir = join(context.folder, 'data')
  mkdirSync(dataDir)
  const probeFile = join(context.folder, 'probe.json')
  const port = await freePort()
  const server = spawn(
    process.execPath,
    [
      '--import',
      path('./event-loop-probe.mjs'),
      path('../bin/tensorpress'),
      'serve',
      '--port',
      String(port),
      '--data-dir',
      dataDir,
      '--device',
      context.device,
    ],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
      // One malloc arena, as `npm start` and the container image set it.
      env: {
        MALLOC_ARENA_MAX: '1',
        ...process.env,
        TENSORPRESS_BENCH_PROBE: probeFile,
        TENSORPRESS_LOG_LEVEL: 'warn',
      },
    },
  )
  const url = `http://127.0.0.1:${port}`
  try {
    await untilReady(url, server)
    await uploadRow(context, url, uploadBytes)
    await jobRow(context, url, server, probeFile, jobBytes)
  } finally {
    server.kill('SIGTERM')
    if (server.exitCode === null) await once(server, 'exit')
    rmSync(dataDir, { recursive: true, force: true })
  }
}

async function uploadRow(context: BenchContext, url: string, bytes: number): Promise<void> {
  const model = join(context.folder, 'upload.safetensors')
  const copy = join(context.folder, 'received.bin')
  const seconds: number[] = []
  const floors: FloorTiming[] = []
  context.log(`upload of ${sizeLabel(bytes)} by raw PUT`)
  for (let run = 0; run < context.runs; run++) {
    // Another seed each time: the same content again would not be stored again.
    makeBenchModel('safetensors', bytes, model, 100 + run)
    floors.push(runFloor('receive', model, copy))
    rmSync(copy)
    const done = putFile(model, `${url}/v1/models/upload.safetensors`)
    seconds.push(done.seconds)
    await call('DELETE', `${url}/v1/models/${done.id}`)
  }
  const inputBytes = statSync(model).size
  rmSync(model)
  const ours = median(seconds)
  const floor = median(floors.map((timing) => timing.seconds))
  const floorWritten = median(floors.map((timing) => timing.seconds - timing.flushSeconds))
  context.add({
    name: `upload of ${sizeLabel(bytes)} by raw PUT: share of a plain write with sha256`,
    measured: `${ours.toFixed(2)} s (${megabytesPerSecond(inputBytes, ours)}), floor ${floor.toFixed(2)} s (${floorWritten.toFixed(2)} s before its flush)`,
    value: floor / ours,
    unit: 'ratio',
    goal: { atLeast: 0.3 },
    runs: {
      seconds,
      floorSeconds: floors.map((timing) => timing.seconds),
      floorFlushSeconds: floors.map((timing) => timing.flushSeconds),
    },
  })
}

async function jobRow(
  context: BenchContext,
  url: string,
  server: ChildProcess,
  probeFile: string,
  bytes: number,
): Promise<void> {
  const model = join(context.folder, 'job.safetensors')
  context.log(`server while a job of ${sizeLabel(bytes)} runs`)
  makeBenchModel('safetensors', bytes, model, 7)
  const { id } = putFile(model, `${url}/v1/models/job.safetensors`)
  rmSync(model)
  const delays: number[] = []
  const resident: number[] = []
  for (const recipe of ['int4', 'int8', 'prune-50+int8']) {
    await probe(server, probeFile)
    await runJob(url, id, recipe, () => resident.push(processBytes(server.pid ?? 0, 'VmRSS') ?? 0))
    const { p99Ms, rssBytes } = await probe(server, probeFile)
    delays.push(p99Ms)
    resident.push(rssBytes)
  }
  context.add({
    name: 'server: event-loop delay p99 while a job runs',
    measured: `jobs of ${sizeLabel(bytes)}, worst of ${delays.length}; clients poll every 50 ms`,
    value: Math.max(...delays),
    unit: 'ms',
    goal: { atMost: 20 },
    runs: { p99Ms: delays },
  })
  context.add({
    name: 'server: largest RSS while jobs run',
    measured: 'the HTTP process alone',
    value: mebibytes(Math.max(...resident)),
    unit: 'MiB',
    goal: { atMost: 200 },
    runs: { rssBytes: resident },
  })
}

function putFile(file: string, url: string): { seconds: number; id: string } {
  const run = spawnSync(process.execPath, [path(`./put-file${extname(import.meta.filename)}`), file, url], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (run.status !== 0) throw new Error(`the upload ended with ${run.status}`)
  const { seconds, body } = JSON.parse(run.stdout) as { seconds: number; body: string }
  return { seconds, id: (JSON.parse(body) as { id: string }).id }
}

async function runJob(url: string, model: string, recipe: string, sample: () => void): Promise<void> {
  const { id } = (await call('POST', `${url}/v1/jobs`, { model, recipe, validate: false })) as { id: string }
  for (;;) {
    sample()
    const job = (await call('GET', `${url}/v1/jobs/${id}`)) as { state: string; error?: unknown }
    if (job.state === 'succeeded') return
    if (job.state === 'failed' || job.state === 'cancelled')
      throw new Error(`job ${recipe}: ${JSON.stringify(job.error)}`)
    await sleep(50)
  }
}

/** One request on a connection of its own: while a model is made here, the server closes idle ones. Throws beyond 299. */
async function call(method: string, url: string, body?: object): Promise<unknown> {
  const sent = request(url, { method, agent: false, headers: body ? { 'content-type': 'application/json' } : {} })
  sent.end(body ? JSON.stringify(body) : undefined)
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  const answer = await text(response)
  if ((response.statusCode ?? 500) >= 300) throw new Error(`${method} ${url}: ${response.statusCode} ${answer}`)
  return answer === '' ? null : JSON.parse(answer)
}

async function probe(
  server: ChildProcess,
  probeFile: string,
): Promise<{ p99Ms: number; maxMs: number; rssBytes: number }> {
  rmSync(probeFile, { force: true })
  server.kill('SIGUSR2')
  for (let wait = 0; wait < 100 && !existsSync(probeFile); wait++) await sleep(20)
  await sleep(20)
  return JSON.parse(readFileSync(probeFile, 'utf8'))
}

async function untilReady(url: string, server: ChildProcess): Promise<void> {
  for (let wait = 0; wait < 600; wait++) {
    if (server.exitCode !== null) throw new Error(`the server ended with ${server.exitCode}`)
    const ready = await call('GET', `${url}/readyz`).then(
      () => true,
      () => false,
    )
    if (ready) return
    await sleep(50)
  }
  throw new Error('the server was not ready within 30 s')
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}
