// Small models for campaigns, another one for every seed: a safetensors file with a matrix, or an ONNX classifier that
// onnxruntime runs in a moment, and a dataset for it. Entry: seededModel.

import { node, onnxBytes, onnxModel, rawTensor, value, weightValues } from '../test/support/build-onnx.ts'
import { buildSafetensors } from '../test/support/build-safetensors.ts'
import { f4, npzBytes } from '../test/support/write-npz.ts'

export interface SeededModel {
  name: string
  bytes: Uint8Array
}

const F32 = 1
const INPUTS = 32
const CLASSES = 10

/** `rows` x 64 weights as safetensors. */
export function seededSafetensors(seed: number, rows = 256): SeededModel {
  const values = weightValues(rows * 64, seed)
  const data = new Uint8Array(values.buffer)
  return {
    name: `m${seed}.safetensors`,
    bytes: buildSafetensors([{ name: 'layer.weight', dtype: 'F32', shape: [rows, 64], data }]),
  }
}

/** x [N, 32] -> relu(x * a) * b -> y [N, 10], with `hidden` units. */
export function seededOnnx(seed: number, hidden = 256): SeededModel {
  const model = onnxModel({
    nodes: [node('MatMul', ['x', 'a'], ['h']), node('Relu', ['h'], ['r']), node('MatMul', ['r', 'b'], ['y'])],
    inputs: [value('x', ['N', INPUTS])],
    outputs: [value('y', ['N', CLASSES])],
    initializers: [
      rawTensor('a', F32, [INPUTS, hidden], weightValues(INPUTS * hidden, seed)),
      rawTensor('b', F32, [hidden, CLASSES], weightValues(hidden * CLASSES, seed + 1)),
    ],
  })
  return { name: `m${seed}.onnx`, bytes: onnxBytes(model) }
}

/** `samples` inputs for seededOnnx, as .npz. */
export function seededDataset(seed: number, samples = 8): SeededModel {
  const values = Array.from(weightValues(samples * INPUTS, seed))
  return { name: `d${seed}.npz`, bytes: npzBytes({ x: f4([samples, INPUTS], values) }) }
}
