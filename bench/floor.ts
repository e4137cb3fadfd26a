// The floors that rows are compared with, each in its own plain Node process:
//   node bench/floor.ts copy IN OUT OUT_BYTES   reads IN once and writes OUT_BYTES, 4 MiB at a time, in step
//   node bench/floor.ts stream IN OUT OUT_BYTES  the same through createReadStream and createWriteStream as they come
//   node bench/floor.ts receive IN OUT          reads IN, updates a sha256, writes the same bytes
// All flush what they wrote to disk before they end, as the product does with artifacts and uploads.
// Prints {"seconds", "flushSeconds"}: all of it, and the flush alone, without the start of Node. From other files: runFloor.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  createReadStream,
  createWriteStream,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs'
import { finished } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'

const CHUNK_BYTES = 4 * 2 ** 20

/** How most programs would do it: 64 KiB at a time, through the event loop. Returns the seconds of the flush. */
async function stream(input: string, output: string, outputBytes: number): Promise<number> {
  const to = createWriteStream(output, { flush: false })
  const inputBytes = statSync(input).size
  let read = 0
  let written = 0
  for await (const chunk of createReadStream(input) as AsyncIterable<Buffer>) {
    read += chunk.length
    const due = Math.round((outputBytes * read) / inputBytes) - written
    written += due
    if (due > 0 && !to.write(chunk.subarray(0, due))) await once(to, 'drain')
  }
  to.end()
  await finished(to)
  const fd = openSync(output, 'r+')
  return finish(fd)
}

/** Returns the seconds of the flush. */
function copy(input: string, output: string, outputBytes: number): number {
  const from = openSync(input, 'r')
  const to = openSync(output, 'w')
  const inputBytes = fstatSync(from).size
  const chunk = new Uint8Array(CHUNK_BYTES)
  let written = 0
  for (let read = 0; read < inputBytes; ) {
    read += readSync(from, chunk, 0, CHUNK_BYTES, read)
    const due = Math.round((outputBytes * read) / inputBytes)
    while (written < due) written += writeSync(to, chunk, 0, Math.min(CHUNK_BYTES, due - written))
  }
  return finish(to, from)
}

function receive(input: string, output: string): number {
  const from = openSync(input, 'r')
  const to = openSync(output, 'w')
  const hash = createHash('sha256')
  const chunk = new Uint8Array(CHUNK_BYTES)
  for (;;) {
    const count = readSync(from, chunk, 0, CHUNK_BYTES, null)
    if (count === 0) break
    hash.update(chunk.subarray(0, count))
    writeSync(to, chunk, 0, count)
  }
  hash.digest('hex')
  return finish(to, from)
}

function finish(to: number, ...others: number[]): number {
  const start = performance.now()
  fsyncSync(to)
  for (const fd of [to, ...others]) closeSync(fd)
  return (performance.now() - start) / 1000
}

export interface FloorTiming {
  seconds: number
  flushSeconds: number
}

/** One floor in a fresh process. */
export function runFloor(
  kind: 'copy' | 'stream' | 'receive',
  input: string,
  output: string,
  outputBytes = 0,
): FloorTiming {
  const args = [fileURLToPath(import.meta.url), kind, input, output, String(outputBytes)]
  const run = spawnSync(process.execPath, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  if (run.status !== 0) throw new Error(`the floor process ended with ${run.status}`)
  return JSON.parse(run.stdout) as FloorTiming
}

if (import.meta.main) {
  const [kind, input = '', output = '', outputBytes] = process.argv.slice(2)
  const start = performance.now()
  const flushSeconds =
    kind === 'receive'
      ? receive(input, output)
      : kind === 'stream'
        ? await stream(input, output, Number(outputBytes))
        : copy(input, output, Number(outputBytes))
  console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000, flushSeconds }))
}
