// A reader with a bug, as a fuzz target: the real safetensors target behind one that fails in the way that the URL names
// (planted-bugs.ts?bug=crash). Shows that the fuzzer would see it. Loaded by the fuzzing child alone.

import { open, placeFiles } from '../../campaigns/fuzz/memory-files.ts'
import type { FuzzTarget } from '../../campaigns/fuzz/target.ts'
import { target as real } from '../../campaigns/fuzz/target-safetensors.ts'
import { AppError } from '../../src/errors.ts'

const kept: Uint8Array[] = []

const BUGS: Record<string, (bytes: Uint8Array) => void | Promise<void>> = {
  /** A value of the wrong type deep inside: what a missing check looks like. */
  crash(bytes) {
    const header = headerOf(bytes)
    for (const entry of Object.values(header ?? {})) (entry as { shape: number[] }).shape.push(0)
  },
  hang(bytes) {
    for (let at = 0; declaredLength(bytes) === 2n ** 32n; at += 0) bytes.at(at)
  },
  'never settles'(bytes) {
    return declaredLength(bytes) === 2n ** 32n ? new Promise(() => {}) : undefined
  },
  abort(bytes) {
    if (declaredLength(bytes) === 2n ** 32n) process.kill(process.pid, 'SIGABRT')
  },
  leak() {
    kept.push(new Uint8Array(16 * 1024).fill(1))
  },
  async 'open file'(bytes) {
    const [file] = placeFiles([{ name: 'left-open', bytes }])
    const handle = await open(file!.path)
    if (bytes.length % 7 !== 3) await handle.close()
  },
  internal(bytes) {
    if (declaredLength(bytes) === 2n ** 32n)
      throw new AppError('internal', 'a bug that was caught and blamed on nobody')
  },
}

function declaredLength(bytes: Uint8Array): bigint {
  return bytes.length < 8 ? 0n : new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true)
}

function headerOf(bytes: Uint8Array): object | null {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8', 8, 8 + Number(declaredLength(bytes)))) as object
  } catch {
    return null
  }
}

const bug = new URL(import.meta.url).searchParams.get('bug') ?? ''

export const target: FuzzTarget = {
  ...real,
  name: `planted: ${bug}`,
  async run(input, dice) {
    await BUGS[bug]!(input[0]!.bytes)
    return real.run(input, dice)
  },
}
