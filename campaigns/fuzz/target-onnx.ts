// The ONNX reader: one file in, a described, planned and written-back model out, or an AppError.

import { readFileSync } from 'node:fs'
import { create } from '@bufbuild/protobuf'
import { TensorProtoSchema } from 'onnx-buf'
import { openModel } from '../../src/formats/index.ts'
import {
  floatTensor,
  graph,
  intTensor,
  node,
  ONNX,
  onnxBytes,
  onnxModel,
  rawTensor,
  value,
} from '../../test/support/build-onnx.ts'
import { checkModel } from './check-model.ts'
import { placeFiles } from './memory-files.ts'
import { mutateOnnx } from './mutate-onnx.ts'
import { smallModels } from './small-models.ts'
import { type FuzzInput, type FuzzTarget, withBytes } from './target.ts'

const NAME = 'model.onnx'

/** Views, ties, a subgraph, Constant nodes, typed fields: what the reader has code for, in 2 KiB. */
export function manyShapes(): Uint8Array {
  return onnxBytes(
    onnxModel({
      nodes: [
        node('Reshape', ['w', 'shape'], ['w2']),
        node('Gemm', ['x', 'w2', 'b'], ['h'], { transB: 1 }),
        node('Transpose', ['v'], ['vt'], { perm: [1, 0] }),
        node('MatMul', ['h', 'vt'], ['m']),
        node('If', ['flag'], ['y'], {
          then_branch: graph({
            nodes: [
              node('Constant', [], ['k'], { value: floatTensor('', [3, 4], 3) }),
              node('MatMul', ['m', 'k'], ['t']),
            ],
            outputs: [value('t', [2, 4])],
          }),
          else_branch: graph({
            nodes: [node('MatMul', ['m', 'e'], ['f'])],
            outputs: [value('f', [2, 4])],
            initializers: [
              create(TensorProtoSchema, { name: 'e', dataType: 1, dims: [3n, 4n], floatData: Array(12).fill(1) }),
            ],
          }),
        }),
      ],
      inputs: [value('x', [2, 5]), value('flag', [], 9)],
      outputs: [value('y', [2, 4])],
      initializers: [
        floatTensor('w', [15], 1),
        intTensor('shape', [3, 5]),
        floatTensor('b', [3], 2),
        floatTensor('v', [3, 3], 4),
      ],
    }),
  )
}

/** Weights large enough for every encoding, and their kinds of use. */
export function manyUses(): Uint8Array {
  return onnxBytes(
    onnxModel(
      {
        nodes: [
          node('Conv', ['x', 'c'], ['h']),
          node('Gather', ['table', 'ids'], ['g']),
          node('MatMul', ['g', 'm'], ['y']),
          node('DequantizeLinear', ['q', 'qs', 'qz'], ['d']),
          node('MatMul', ['g', 'd'], ['z']),
        ],
        inputs: [value('x', ['N', 2, 8, 8]), value('ids', ['T'], ONNX.i64)],
        outputs: [value('h', ['N', 8, 6, 6]), value('y', ['T', 16]), value('z', ['T', 4])],
        initializers: [
          floatTensor('c', [8, 2, 3, 3], 5),
          floatTensor('table', [20, 8], 6),
          floatTensor('m', [8, 16], 7),
          rawTensor('q', ONNX.i8, [8, 4], new Int8Array(32).fill(3)),
          rawTensor('qs', ONNX.f32, [], Float32Array.of(0.5)),
          rawTensor('qz', ONNX.i8, [], Int8Array.of(0)),
        ],
      },
      { opset: 21, ir: 10 },
    ),
  )
}

export const target: FuzzTarget = {
  name: 'onnx',
  guided: true,
  maxBytes: 32 * 1024,
  seeds(): FuzzInput[] {
    const built = [manyShapes(), manyUses()]
    const real = smallModels(['.onnx'], 30 * 1024).map((path) => readFileSync(path))
    return [...built, ...real].map((bytes) => [{ name: NAME, bytes: Uint8Array.from(bytes) }])
  },
  mutate(input, other, dice) {
    return withBytes(input, 0, mutateOnnx(input[0]!.bytes, other[0]!.bytes, dice))
  },
  async run(input, dice) {
    const reader = await openModel(placeFiles(input))
    try {
      return await checkModel(reader, dice)
    } finally {
      await reader.close()
    }
  },
}
