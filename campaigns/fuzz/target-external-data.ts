// The ONNX reader with external data: a model that names ranges of other files, those files, and what names them.

import { modelCompanions, openModel } from '../../src/formats/index.ts'
import { externalTensor, floatTensor, node, onnxBytes, onnxModel, value } from '../../test/support/build-onnx.ts'
import { rampBytes } from '../../test/support/build-safetensors.ts'
import { checkModel } from './check-model.ts'
import { placeFiles } from './memory-files.ts'
import { mutateBytes } from './mutate-bytes.ts'
import { mutateFiles } from './mutate-files.ts'
import { mutateOnnx } from './mutate-onnx.ts'
import type { FuzzInput, FuzzTarget } from './target.ts'

function modelWith(tensors: Record<string, { dims: number[]; at: Record<string, string> }>): Uint8Array {
  const names = Object.keys(tensors)
  return onnxBytes(
    onnxModel({
      nodes: names.map((name, i) => node('MatMul', ['x', name], [`y${i}`])),
      inputs: [value('x', ['N', 8])],
      outputs: names.map((_, i) => value(`y${i}`, ['N', 'M'])),
      initializers: [
        ...Object.entries(tensors).map(([name, { dims, at }]) => externalTensor(name, dims, at)),
        floatTensor('unused', [4], 1),
      ],
    }),
  )
}

const ramp = (length: number) => rampBytes(length).map((byte, i) => (i % 4 === 3 ? 0x3e : byte))

export const target: FuzzTarget = {
  name: 'external-data',
  guided: true,
  maxBytes: 32 * 1024,
  seeds(): FuzzInput[] {
    return [
      [
        {
          name: 'model.onnx',
          bytes: modelWith({
            a: { dims: [8, 16], at: { location: 'weights.bin', offset: '0', length: '512' } },
            b: { dims: [8, 8], at: { location: 'weights.bin', offset: '512' } },
          }),
        },
        { name: 'weights.bin', bytes: ramp(768) },
      ],
      [
        {
          name: 'model.onnx',
          bytes: modelWith({
            a: { dims: [8, 64], at: { location: 'parts/a.bin', length: '2048', offset: '64', checksum: 'ab' } },
            tied: { dims: [8, 64], at: { location: './parts/a.bin', offset: '64' } },
            c: { dims: [8, 2], at: { location: 'more.bin' } },
          }),
        },
        { name: 'parts/a.bin', bytes: ramp(2112) },
        { name: 'more.bin', bytes: ramp(64) },
      ],
    ]
  },
  mutate(input, other, dice) {
    return mutateFiles(input, other, dice, ({ name, bytes }, { bytes: theirs }) =>
      name.endsWith('.onnx') ? mutateOnnx(bytes, theirs, dice) : mutateBytes(bytes, theirs, dice),
    )
  },
  async run(input, dice) {
    const files = placeFiles(input)
    if (dice.chance(0.2)) {
      await modelCompanions(files[0]!)
      return 'companions'
    }
    const reader = await openModel(files)
    try {
      return await checkModel(reader, dice)
    } finally {
      await reader.close()
    }
  },
}
