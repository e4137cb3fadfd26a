// The parts of the artifact that no kernel touches: literal bytes and ranges copied from the input. Entry: copyRuns.

import { dataLength, type FileLayout, type ModelReader } from '../tensor/model.ts'
import type { OutputFiles } from './output-files.ts'

/** Large enough that a copy is bound by the disk, small beside the lanes. */
const COPY_BYTES = 1024 * 1024

/** Streams every literal and copy run into the output. `onBytes` hears of each piece. */
export async function copyRuns(
  reader: ModelReader,
  layout: FileLayout,
  output: OutputFiles,
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<void> {
  let buffer: Uint8Array | null = null
  for (const [file, { runs }] of layout.files.entries()) {
    for (const run of runs) {
      if (run.kind === 'part') continue
      signal.throwIfAborted()
      if (run.kind === 'literal') {
        await output.write(file, run.offsetBytes, run.bytes)
        continue
      }
      const lengthBytes = dataLength(run.from)
      for (let at = 0; at < lengthBytes; at += COPY_BYTES) {
        signal.throwIfAborted()
        buffer ??= new Uint8Array(COPY_BYTES)
        const chunk = buffer.subarray(0, Math.min(COPY_BYTES, lengthBytes - at))
        await reader.read(run.from, at, chunk)
        await output.write(file, run.offsetBytes + at, chunk)
        onBytes(chunk.length)
      }
    }
  }
}

export function copiedBytes(layout: FileLayout): number {
  let total = 0
  for (const { runs } of layout.files) {
    for (const run of runs) {
      if (run.kind === 'copy') total += dataLength(run.from)
    }
  }
  return total
}
