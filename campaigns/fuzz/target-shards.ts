// The safetensors reader over shards: an index, its shards, config.json and a file that is copied along.

import { modelCompanions, openModel } from '../../src/formats/index.ts'
import { buildSafetensors, rampBytes } from '../../test/support/build-safetensors.ts'
import { checkModel } from './check-model.ts'
import { placeFiles } from './memory-files.ts'
import { mutateFiles } from './mutate-files.ts'
import { mutateJsonBytes, mutateSafetensors } from './mutate-safetensors.ts'
import type { FuzzInput, FuzzTarget } from './target.ts'

const SHARDS = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const
const INDEX = 'model.safetensors.index.json'

function matrix(name: string, rows: number, columns: number) {
  const data = rampBytes(4 * rows * columns).map((byte, i) => (i % 4 === 3 ? 0x3e : byte))
  return { name, dtype: 'F32', shape: [rows, columns], data }
}

const json = (value: unknown) => Uint8Array.from(Buffer.from(JSON.stringify(value, null, 2)))

function sharded(): FuzzInput {
  return [
    {
      name: INDEX,
      bytes: json({
        metadata: { total_size: 2816 },
        weight_map: { 'a.weight': SHARDS[0], 'a.bias': SHARDS[0], 'b.weight': SHARDS[1] },
      }),
    },
    {
      name: SHARDS[0],
      bytes: buildSafetensors(
        [matrix('a.weight', 8, 32), { name: 'a.bias', dtype: 'F16', shape: [8], data: rampBytes(16) }],
        {
          format: 'pt',
        },
      ),
    },
    { name: SHARDS[1], bytes: buildSafetensors([matrix('b.weight', 16, 32)]) },
  ]
}

const WORDS = [...SHARDS, INDEX, 'a.weight', 'b.weight', '../x', 'pack-quantized'].map((word) => JSON.stringify(word))

export const target: FuzzTarget = {
  name: 'shards',
  guided: true,
  maxBytes: 48 * 1024,
  seeds(): FuzzInput[] {
    const config = {
      hidden_size: 32,
      layer_norm_eps: 1e-5,
      quantization_config: { quant_method: 'x', config_groups: {} },
    }
    return [
      sharded(),
      [...sharded(), { name: 'config.json', bytes: json(config) }, { name: 'tokenizer.json', bytes: json({ a: [1] }) }],
      [
        { name: 'model.safetensors', bytes: sharded()[2]!.bytes },
        { name: 'config.json', bytes: json({}) },
      ],
    ]
  },
  mutate(input, other, dice) {
    return mutateFiles(input, other, dice, ({ name, bytes }, { bytes: theirs }) =>
      name.endsWith('.json') ? mutateJsonBytes(bytes, theirs, dice, WORDS) : mutateSafetensors(bytes, theirs, dice),
    )
  },
  async run(input, dice) {
    const files = placeFiles(input)
    if (dice.chance(0.1)) {
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
