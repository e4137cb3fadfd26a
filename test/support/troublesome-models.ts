// ONNX models that misbehave in onnxruntime in known ways, and a small classifier, built in the test.

import { create } from '@bufbuild/protobuf'
import { ValueInfoProtoSchema } from 'onnx-buf'
import { graph, intTensor, node, ONNX, onnxBytes, onnxModel, rawTensor, value } from './build-onnx.ts'

/** x [N, 4] -> y [N, 3] = x * w, with w as given (row-major [4, 3]). */
export function linearModel(weights: readonly number[], outputName = 'y'): Uint8Array {
  return onnxBytes(
    onnxModel({
      nodes: [node('MatMul', ['x', 'w'], [outputName])],
      inputs: [value('x', ['N', 4])],
      outputs: [value(outputName, ['N', 3])],
      initializers: [rawTensor('w', ONNX.f32, [4, 3], Float32Array.from(weights))],
    }),
  )
}

/** Scores of three classes by the first three inputs; `swap` exchanges the last two classes. */
export function identityWeights(swap = false): number[] {
  return swap ? [1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0] : [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]
}

/** A 4-bit tensor that leaves the graph. onnxruntime's binding aborts the process when it is declared without a type. */
export function int4OutputModel(declared: boolean): Uint8Array {
  const output = declared ? value('y', [2], ONNX.i4) : create(ValueInfoProtoSchema, { name: 'y' })
  return onnxBytes(
    onnxModel(
      {
        nodes: [node('QuantizeLinear', ['x', 'scale', 'zero'], ['y'])],
        inputs: [value('x', [2])],
        outputs: [output],
        initializers: [
          rawTensor('scale', ONNX.f32, [], Float32Array.of(1)),
          rawTensor('zero', ONNX.i4, [], Uint8Array.of(0)),
        ],
      },
      { opset: 21, ir: 10 },
    ),
  )
}

/** Adds 1 to x, 2^60 times: never ends. */
export function endlessModel(): Uint8Array {
  const body = graph(
    {
      nodes: [node('Identity', ['condition_in'], ['condition_out']), node('Add', ['v_in', 'one'], ['v_out'])],
      inputs: [value('i', [], ONNX.i64), value('condition_in', [], 9), value('v_in', [1])],
      outputs: [value('condition_out', [], 9), value('v_out', [1])],
    },
    'body',
  )
  const trips = rawTensor('trips', ONNX.i64, [], BigInt64Array.of(2n ** 60n))
  return onnxBytes(
    onnxModel({
      nodes: [node('Loop', ['trips', '', 'x'], ['y'], { body })],
      inputs: [value('x', [1])],
      outputs: [value('y', [1])],
      initializers: [trips, rawTensor('one', ONNX.f32, [1], Float32Array.of(1))],
    }),
  )
}

/** Fills `gibibytes` GiB on its way from x [1] to y [1]. */
export function hungryModel(gibibytes: number): Uint8Array {
  const elements = gibibytes * 2 ** 28
  return onnxBytes(
    onnxModel({
      nodes: [node('Expand', ['x', 'shape'], ['big']), node('ReduceMax', ['big'], ['y'], { keepdims: 1 })],
      inputs: [value('x', [1])],
      outputs: [value('y', [1])],
      initializers: [intTensor('shape', [elements])],
    }),
  )
}

/** y = log(x): NaN for negative inputs where `broken`, otherwise x itself. */
export function nanModel(broken: boolean): Uint8Array {
  return onnxBytes(
    onnxModel({
      nodes: [node(broken ? 'Log' : 'Identity', ['x'], ['y'])],
      inputs: [value('x', [1, 8])],
      outputs: [value('y', [1, 8])],
    }),
  )
}

/** Takes only inputs of a length that no candidate has (7919): Reshape to [7919] fails otherwise. */
export function pickyModel(): Uint8Array {
  return onnxBytes(
    onnxModel({
      nodes: [node('Reshape', ['x', 'shape'], ['y'])],
      inputs: [value('x', ['N', 'T'])],
      outputs: [value('y', [7919])],
      initializers: [intTensor('shape', [7919])],
    }),
  )
}
