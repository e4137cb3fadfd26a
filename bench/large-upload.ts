// Memory of the server while a large file arrives by resumable upload, on request with the server killed on the way.
// node bench/large-upload.ts --size 10GiB [--kills N] [--dir DIR]; prints one JSON document. The file is sparse where it is sent
// from, and lies whole where it arrives: DIR needs its size in free space.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createClient } from '../src/client/index.ts'
import { openFile } from '../src/client-node.ts'
import { processBytes } from './figures.ts'

const GIB = 1024 ** 3
const MIB = 1024 ** 2
const PROGRAM = join(import.meta.dirname, '..', 'bin', 'tensorpress')

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '10GiB' },
    kills: { type: 'string', default: '0' },
    dir: { type: 'string', default: tmpdir() },
  },
})
const sizeBytes = bytesOf(values.size)
const folder = mkdtempSync(join(values.dir, 'tensorpress-large-'))
const dataDir = join(folder, 'data')
let server: ChildProcess | null = null
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => {
    cleanUp()
    process.exit(1)
  })
}

try {
  const file = join(folder, 'large.safetensors')
  writeSparseModel(file, sizeBytes)
  const port = await freePort()
  const peaks: number[] = []
  server = await start(port)
  const restBytes = processBytes(server.pid!, 'VmRSS') ?? 0
  const client = createClient({ baseUrl: `http://127.0.0.1:${port}` })
  const kills = Number(values.kills)
  const startMs = performance.now()
  const sending = client.uploadModel([{ name: 'large.safetensors', content: await openFile(file) }])
  sending.catch(() => {}) // seen by the await below
  for (let kill = 1; kill <= kills; kill++) {
    while (arrivedBytes() < (sizeBytes * kill) / (kills + 1)) await sleep(50)
    peaks.push(processBytes(server.pid!, 'VmHWM') ?? 0)
    server.kill('SIGKILL')
    await once(server, 'exit')
    server = await start(port)
  }
  const model = await sending
  const seconds = (performance.now() - startMs) / 1000
  peaks.push(processBytes(server.pid!, 'VmHWM') ?? 0)
  const stored = statSync(join(dataDir, 'models', model.id, 'files', 'large.safetensors')).size
  if (stored !== sizeBytes) throw new Error(`${stored} bytes were stored instead of ${sizeBytes}`)
  console.log(
    JSON.stringify({
      sizeBytes,
      kills,
      seconds: Math.round(seconds * 10) / 10,
      megabytesPerSecond: Math.round(sizeBytes / 1e6 / seconds),
      serverRestMiB: Math.round(restBytes / MIB),
      serverPeakMiB: peaks.map((peak) => Math.round(peak / MIB)),
      clientPeakMiB: Math.round(process.resourceUsage().maxRSS / 1024),
      sha256: model.id,
      node: process.version,
    }),
  )
} finally {
  cleanUp()
}

function cleanUp(): void {
  server?.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
}

function bytesOf(text: string): number {
  const match = /^(\d+)(MiB|GiB)$/.exec(text)
  if (match === null) throw new Error(`--size must be such as 10GiB or 512MiB, found "${text}"`)
  return Number(match[1]) * (match[2] === 'GiB' ? GIB : MIB)
}

/** One tensor of zeros behind a valid header: its blocks are holes. */
function writeSparseModel(path: string, totalBytes: number): void {
  const header = (dataBytes: number) => {
    const text = JSON.stringify({ w: { dtype: 'U8', shape: [dataBytes], data_offsets: [0, dataBytes] } })
    const padded = text.padEnd(Math.ceil(text.length / 8) * 8)
    const prefix = Buffer.alloc(8)
    prefix.writeBigUInt64LE(BigInt(padded.length))
    return Buffer.concat([prefix, Buffer.from(padded)])
  }
  const headBytes = header(totalBytes).length
  writeFileSync(path, header(totalBytes - headBytes))
  truncateSync(path, totalBytes)
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, 'close')
  return port
}

async function start(port: number): Promise<ChildProcess> {
  const args = [PROGRAM, 'serve', '--port', String(port), '--data-dir', dataDir, '--device', 'reference']
  // One malloc arena, as `npm start` and the container image set it.
  const env = { MALLOC_ARENA_MAX: '1', ...process.env, TENSORPRESS_LOG_LEVEL: 'warn' }
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'ignore'] })
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => null)
    if (answer?.ok) return child
    if (child.exitCode !== null) throw new Error('the server ended before it listened')
    await sleep(100)
  }
}

function arrivedBytes(): number {
  const uploads = join(dataDir, 'uploads')
  return Math.max(0, ...readdirSync(uploads).map((name) => statSync(join(uploads, name)).size))
}
