// How the compressed tensors of a file are stored, as the `quantization_config` that its readers look for:
// quantizationConfig (from plans), addToMetadata and addToConfigJson (never replacing a config that is already there).
// Packed blocks: the schema of the compressed-tensors library. Scaled int8: our own, in the same shape.

import { AppError } from '../../errors.ts'
import type { TensorPlan } from '../../tensor/model.ts'
import { type JsonObject, parseJson } from '../wire/json-header.ts'
import { SCALED_SUFFIXES } from './describe-tensors.ts'

const KEY = 'quantization_config'
/** Where ours goes when the model already has one for other tensors. */
const OTHER_KEY = 'tensorpress_quantization_config'

/** config.json of a model; the largest public ones (with label lists) have a few MB. */
export const MAX_CONFIG_BYTES = 16 * 2 ** 20

interface ConfigGroup {
  targets: string[]
  weights: Record<string, unknown>
  input_activations: null
  output_activations: null
  [key: string]: unknown
}

export type QuantizationConfig = Record<string, unknown>

/** The config of all integer-coded tensors among `plans`; null when there are none. */
export function quantizationConfig(plans: readonly TensorPlan[]): QuantizationConfig | null {
  const packed = groupBy(plans, ({ tensor, encode }) =>
    encode.kind === 'block-packed'
      ? {
          target: tensor.name.replace(/\.weight$/, ''),
          format: 'pack-quantized',
          weights: {
            num_bits: encode.bits,
            type: 'int',
            symmetric: encode.symmetric,
            strategy: 'group',
            group_size: encode.blockSize,
            dynamic: false,
          },
        }
      : null,
  )
  const scaled = groupBy(plans, ({ tensor, encode }) =>
    encode.kind === 'scaled-int'
      ? {
          target: tensor.name,
          format: 'scaled-int8',
          weights: {
            num_bits: encode.bits,
            type: 'int',
            symmetric: encode.symmetric,
            strategy: encode.granularity,
            axis: encode.axis,
            scale_suffix: SCALED_SUFFIXES.scale,
            ...(encode.symmetric ? {} : { zero_point_suffix: SCALED_SUFFIXES.zeroPoint }),
          },
        }
      : null,
  )
  const ours = { quant_method: 'tensorpress', format: 'scaled-int8', config_groups: scaled }
  if (Object.keys(packed).length === 0) return Object.keys(scaled).length === 0 ? null : ours
  return {
    quant_method: 'compressed-tensors',
    format: 'pack-quantized',
    quantization_status: 'compressed',
    global_compression_ratio: null,
    kv_cache_scheme: null,
    ignore: [],
    config_groups: packed,
    // Readers of compressed-tensors pass over keys that they do not know.
    ...(Object.keys(scaled).length > 0 ? { scaled_int8: ours } : {}),
  }
}

function groupBy(
  plans: readonly TensorPlan[],
  describe: (plan: TensorPlan) => { target: string; format: string; weights: Record<string, unknown> } | null,
): Record<string, ConfigGroup> {
  const groups = new Map<string, ConfigGroup>()
  for (const plan of plans) {
    const found = plan.action === 'compress' ? describe(plan) : null
    if (!found) continue
    const key = JSON.stringify(found.weights)
    const group = groups.get(key)
    if (group) group.targets.push(found.target)
    else {
      const { target, format, weights } = found
      groups.set(key, { targets: [target], weights, input_activations: null, output_activations: null, format })
    }
  }
  return Object.fromEntries([...groups.values()].map((group, i) => [`group_${i}`, group]))
}

/** `__metadata__` with the config as a JSON string. */
export function addToMetadata(metadata: Record<string, string>, config: QuantizationConfig): Record<string, string> {
  const key = metadata[KEY] === undefined ? KEY : OTHER_KEY
  return Object.assign(Object.create(null), metadata, { [key]: JSON.stringify(config) })
}

/** Parses config.json far enough to be sure that it can be extended. Throws format_invalid or limit_exceeded. */
export function readConfigJson(bytes: Uint8Array, file: string): JsonObject {
  const json = parseJson(bytes, { file, baseOffset: 0, maxDepth: 64, maxMembers: 1_000_000 })
  if (!(json instanceof Map)) throw new AppError('format_invalid', `"${file}" is no JSON object`, { file })
  return json
}

/** config.json with the config as its last member; every byte before the closing brace stays. `bytes` null: a new file. */
export function addToConfigJson(bytes: Uint8Array | null, file: string, config: QuantizationConfig): Uint8Array {
  const members = bytes ? readConfigJson(bytes, file) : new Map()
  const key = members.has(KEY) ? OTHER_KEY : KEY
  const body = JSON.stringify(config, null, 2).replaceAll('\n', '\n  ')
  const text = bytes ? Buffer.from(bytes).toString('utf8') : '{}\n'
  const brace = text.lastIndexOf('}')
  const before = text.slice(0, brace).trimEnd()
  const comma = members.size > 0 ? ',' : ''
  return Buffer.from(`${before}${comma}\n  ${JSON.stringify(key)}: ${body}\n${text.slice(brace)}`)
}
