// The safetensors reader: one file in, a described, planned and written-back model out, or an AppError.

import { openModel } from '../../src/formats/index.ts'
import { buildSafetensors, f32Bytes, rampBytes, rawSafetensors } from '../../test/support/build-safetensors.ts'
import { checkModel } from './check-model.ts'
import { placeFiles } from './memory-files.ts'
import { mutateSafetensors } from './mutate-safetensors.ts'
import { type FuzzInput, type FuzzTarget, withBytes } from './target.ts'

const NAME = 'model.safetensors'

const CONFIG = JSON.stringify({ quant_method: 'compressed-tensors', format: 'pack-quantized', config_groups: {} })

/** Files of a few tensors: mixed types, scalars and empty ones, quantized by us and by others, escapes in names. */
export function safetensorsSeeds(): Uint8Array[] {
  const matrix = (name: string, rows: number, columns: number, seed: number) => ({
    name,
    dtype: 'F32',
    shape: [rows, columns],
    data: rampBytes(4 * rows * columns, seed).map((byte, i) => (i % 4 === 3 ? 0x3e : byte)),
  })
  return [
    buildSafetensors([
      matrix('a.weight', 16, 32, 1),
      { name: 'a.bias', dtype: 'F32', shape: [16], data: rampBytes(64) },
    ]),
    buildSafetensors(
      [
        { name: 's', dtype: 'F32', shape: [], data: f32Bytes([1]) },
        { name: 'none', dtype: 'I64', shape: [0, 3], data: new Uint8Array() },
        { name: 'h', dtype: 'F16', shape: [4, 8], data: rampBytes(64) },
        { name: 'b', dtype: 'BOOL', shape: [3], data: Uint8Array.of(1, 0, 1) },
      ],
      { format: 'pt', 'k"e\\y': 'v\u00e9' },
    ),
    buildSafetensors(
      [
        { name: 'q.weight', dtype: 'I8', shape: [8, 8], data: rampBytes(64) },
        { name: 'q.weight.scale', dtype: 'F32', shape: [8], data: rampBytes(32) },
        matrix('w', 64, 64, 3),
      ],
      { quantization_config: CONFIG },
    ),
    rawSafetensors('{}'),
    rawSafetensors('{"__metadata__":{}}   '),
  ]
}

export const target: FuzzTarget = {
  name: 'safetensors',
  guided: true,
  maxBytes: 48 * 1024,
  seeds: (): FuzzInput[] => safetensorsSeeds().map((bytes) => [{ name: NAME, bytes }]),
  mutate(input, other, dice) {
    return withBytes(input, 0, mutateSafetensors(input[0]!.bytes, other[0]!.bytes, dice))
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
