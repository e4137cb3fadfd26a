// The protobuf skeleton scanner against a protobuf runtime: what it accepts can be decoded, and its skeleton with the payloads
// put back means the same message.

import assert from 'node:assert/strict'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { ModelProtoSchema } from 'onnx-buf'
import { decodeModel, encodeModel, scanModel } from '../../src/formats/onnx/structure.ts'
import { open, placeFiles } from './memory-files.ts'
import { mutateOnnx } from './mutate-onnx.ts'
import { type FuzzInput, type FuzzTarget, withBytes } from './target.ts'
import { target as onnx } from './target-onnx.ts'

export const target: FuzzTarget = {
  name: 'protobuf',
  guided: true,
  maxBytes: 16 * 1024,
  seeds: (): FuzzInput[] => onnx.seeds().filter(([file]) => file!.bytes.length < 8 * 1024),
  mutate(input, other, dice) {
    return withBytes(input, 0, mutateOnnx(input[0]!.bytes, other[0]!.bytes, dice))
  },
  async run(input) {
    const [file] = placeFiles(input)
    const bytes = input[0]!.bytes
    const handle = await open(file!.path)
    try {
      const { skeleton, payloads } = scanModel(handle.fd, file!.name, bytes.length, 0)
      const model = decodeModel(skeleton, file!.name)
      const { pieces, lengthBytes } = encodeModel(model, payloads)
      const whole = Buffer.concat(
        pieces.map((piece) => {
          if (piece.kind === 'bytes') return piece.bytes
          const payload = payloads[piece.index]!
          assert.ok(payload.kind === 'data')
          const { data } = payload
          return data.kind === 'inline'
            ? data.bytes
            : bytes.subarray(data.offsetBytes, data.offsetBytes + data.lengthBytes)
        }),
      )
      assert.equal(whole.length, lengthBytes)
      const before = toBinary(ModelProtoSchema, fromBinary(ModelProtoSchema, bytes))
      const after = toBinary(ModelProtoSchema, fromBinary(ModelProtoSchema, whole))
      assert.ok(Buffer.from(before).equals(after), 'the expanded skeleton means the same message')
      return 'scanned'
    } finally {
      await handle.close()
    }
  },
}
