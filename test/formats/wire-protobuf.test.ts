// The protobuf skeleton: taking payloads out of a message and putting them back gives the message, whatever its shape.

import assert from 'node:assert/strict'
import { closeSync, openSync } from 'node:fs'
import { test } from 'node:test'
import { create, equals, fromBinary, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import {
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProtoSchema,
} from 'onnx-buf'
import { encodeModel, type ScannedModel, scanModel } from '../../src/formats/onnx/structure.ts'
import { WINDOW_BYTES } from '../../src/formats/wire/byte-source.ts'
import { decodePayloadMarker, encodePayloadMarker, encodeVarint } from '../../src/formats/wire/protobuf.ts'
import { expandSkeleton } from '../../src/formats/wire/protobuf-expand.ts'
import { INLINE_PAYLOAD_BYTES } from '../../src/formats/wire/protobuf-fields.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'

/** Sizes around the thresholds: nothing, one, the inline limit, the read window. */
const sizes = fc.oneof(
  fc.nat(8),
  fc.integer({ min: INLINE_PAYLOAD_BYTES / 4 - 2, max: INLINE_PAYLOAD_BYTES / 4 + 2 }),
  fc.integer({ min: WINDOW_BYTES / 4 - 2, max: WINDOW_BYTES / 4 + 2 }),
)

const tensors = fc
  .record({
    name: fc.string({ unit: 'grapheme', maxLength: 12 }),
    dims: fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { maxLength: 3 }),
    dataType: fc.integer(),
    size: sizes,
    fill: fc.constantFrom('raw', 'float', 'double', 'int32', 'int64', 'none'),
  })
  .map(({ name, dims, dataType, size, fill }) => {
    const tensor = create(TensorProtoSchema, { name, dims, dataType })
    const numbers = Array.from({ length: size }, (_, i) => i * 7 - 100)
    if (fill === 'raw') tensor.rawData = Uint8Array.from({ length: size * 4 }, (_, i) => i)
    if (fill === 'float') tensor.floatData = numbers
    if (fill === 'double') tensor.doubleData = numbers
    if (fill === 'int32') tensor.int32Data = numbers
    if (fill === 'int64') tensor.int64Data = numbers.map(BigInt)
    return tensor
  })

const { graph: graphs } = fc.letrec<{ graph: GraphProto }>((tie) => ({
  graph: fc
    .record(
      {
        initializer: fc.array(tensors, { maxLength: 3 }),
        constant: tensors,
        body: fc.option(tie('graph'), { depthSize: 'small', maxDepth: 3, nil: undefined }),
        docString: fc.string({ unit: 'binary', maxLength: 20 }),
      },
      { noNullPrototype: true },
    )
    .map(({ initializer, constant, body, docString }) => {
      const attribute = [create(AttributeProtoSchema, { name: 'value', t: constant, floats: [1.5, -2] })]
      if (body) attribute.push(create(AttributeProtoSchema, { name: 'body', g: body, ints: [1n, -1n] }))
      return create(GraphProtoSchema, { initializer, docString, node: [create(NodeProtoSchema, { attribute })] })
    }),
}))

function scanFile(path: string, sizeBytes: number): ScannedModel {
  const fd = openSync(path, 'r')
  try {
    return scanModel(fd, 'm.onnx', sizeBytes, 0)
  } finally {
    closeSync(fd)
  }
}

test('scanning a model and putting its payloads back gives the same message', (t) => {
  const folder = tempFolder(t)
  fc.assert(
    fc.property(graphs, fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }), (graph, irVersion) => {
      const model: ModelProto = create(ModelProtoSchema, { irVersion, graph })
      const bytes = toBinary(ModelProtoSchema, model)
      const [file] = writeFiles(folder, { 'm.onnx': bytes })
      const scanned = scanFile(file!.path, bytes.length)
      for (const payload of scanned.payloads) assert.equal(payload.kind, 'data')
      const { pieces, lengthBytes } = encodeModel(fromBinary(ModelProtoSchema, scanned.skeleton), scanned.payloads)
      const back = Buffer.concat(
        pieces.map((piece) => {
          if (piece.kind === 'bytes') return piece.bytes
          const payload = scanned.payloads[piece.index]!
          assert.ok(payload.kind === 'data' && payload.data.kind === 'file')
          return bytes.subarray(payload.data.offsetBytes, payload.data.offsetBytes + payload.lengthBytes)
        }),
      )
      assert.equal(back.length, lengthBytes)
      assert.ok(equals(ModelProtoSchema, model, fromBinary(ModelProtoSchema, back)))
      const structureBytes = scanned.payloads.reduce((rest, payload) => rest - payload.lengthBytes, bytes.length)
      assert.ok(scanned.skeleton.length <= structureBytes * 3 + scanned.payloads.length * 16 + 64)
    }),
    { numRuns: 150, seed: 7 },
  )
})

test('markers and varints hold any payload number and any length', () => {
  assert.deepEqual(encodeVarint(0), [0])
  assert.deepEqual(encodeVarint(300), [0xac, 0x02])
  assert.deepEqual(encodeVarint(2 ** 35), [0x80, 0x80, 0x80, 0x80, 0x80, 0x01])
  fc.assert(fc.property(fc.nat(2 ** 31 - 1), (index) => decodePayloadMarker(encodePayloadMarker(index)) === index))
})

test('lengths of enclosing messages are exact when payloads are larger than 2^32 bytes', (t) => {
  const tensor = create(TensorProtoSchema, { name: 'w', rawData: new Uint8Array(INLINE_PAYLOAD_BYTES + 1) })
  const model = create(ModelProtoSchema, { graph: create(GraphProtoSchema, { initializer: [tensor] }) })
  const bytes = toBinary(ModelProtoSchema, model)
  const [file] = writeFiles(tempFolder(t), { 'm.onnx': bytes })
  const { skeleton } = scanFile(file!.path, bytes.length)
  const payloadBytes = 2 ** 33 + 5
  const { pieces, lengthBytes } = expandSkeleton(skeleton, ModelProtoSchema, () => ({
    field: 9,
    lengthBytes: payloadBytes,
  }))
  const head = Buffer.concat(pieces.flatMap((piece) => (piece.kind === 'bytes' ? [piece.bytes] : [])))
  // raw_data: tag, 5 bytes of length; tensor: name (3 bytes) before it; initializer and graph: tag and length around it.
  const rawField = 1 + 5 + payloadBytes
  const tensorBytes = 3 + rawField
  const graphBytes = 1 + encodeVarint(tensorBytes).length + tensorBytes
  assert.deepEqual(
    [...head],
    [
      ...[0x3a, ...encodeVarint(graphBytes)],
      ...[0x2a, ...encodeVarint(tensorBytes)],
      ...[0x42, 1, 0x77],
      ...[0x4a, ...encodeVarint(payloadBytes)],
    ],
  )
  assert.equal(lengthBytes, head.length + payloadBytes)
})
