// model.safetensors.index.json, which says in which shard each tensor is: readShardIndex and encodeShardIndex.
// {"metadata": {"total_size": bytes, ...}, "weight_map": {tensor: file}}; files are bare names beside the index.

import { AppError } from '../../errors.ts'
import { clip, type JsonObject, parseJson } from '../wire/json-header.ts'
import { MAX_HEADER_BYTES, MAX_TENSOR_COUNT } from './header.ts'

export const INDEX_SUFFIX = '.safetensors.index.json'
/** One line a tensor of about 100 bytes: the limit of the headers serves here too. */
export const MAX_INDEX_BYTES = MAX_HEADER_BYTES

export interface ShardIndex {
  /** Tensor name -> shard file, in the order of the file. */
  weightMap: Map<string, string>
  metadata: JsonObject
}

/** Parses an index. Throws format_invalid, external_data_invalid (an entry is no bare name) or limit_exceeded. */
export function readShardIndex(bytes: Uint8Array, file: string): ShardIndex {
  const json = parseJson(bytes, { file, baseOffset: 0, maxDepth: 8, maxMembers: 2 * MAX_TENSOR_COUNT })
  const map = json instanceof Map ? json.get('weight_map') : undefined
  if (!(json instanceof Map) || !(map instanceof Map)) throw invalid(file, 'it has no "weight_map" object', {})
  const metadata = json.get('metadata') ?? new Map()
  if (!(metadata instanceof Map)) throw invalid(file, 'its "metadata" is no object', {})
  if (map.size > MAX_TENSOR_COUNT)
    throw new AppError('limit_exceeded', `"${file}" names ${map.size} tensors, allowed ${MAX_TENSOR_COUNT}`, {
      file,
      limit: 'tensor_count',
      allowed: MAX_TENSOR_COUNT,
      requested: map.size,
    })
  const weightMap = new Map<string, string>()
  for (const [tensor, shard] of map) {
    if (typeof shard !== 'string' || !isBareName(shard)) {
      const found = typeof shard === 'string' ? JSON.stringify(clip(shard)) : typeof shard
      const detail = `it puts tensor ${JSON.stringify(clip(tensor))} into ${found}; only bare names of files beside it are allowed`
      throw new AppError('external_data_invalid', `"${file}": ${detail}`, { file, tensor: clip(tensor) })
    }
    weightMap.set(tensor, shard)
  }
  return { weightMap, metadata }
}

/** A file name that cannot leave its folder: no separators, no drive, not a dot name. */
export function isBareName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\\:\0]/.test(name)
}

/** An index in the layout that the Hugging Face libraries write: two spaces, a line a tensor. */
export function encodeShardIndex(weightMap: ReadonlyMap<string, string>, metadata: JsonObject): Uint8Array {
  const members = [...metadata].map(([key, value]) => `    ${JSON.stringify(key)}: ${encodeJson(value)}`)
  const lines = [...weightMap].map(([tensor, shard]) => `    ${JSON.stringify(tensor)}: ${JSON.stringify(shard)}`)
  const text = `{\n  "metadata": {\n${members.join(',\n')}\n  },\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`
  return Buffer.from(text)
}

/** Compact JSON of a parsed value; integers beyond 2^53 keep their digits. */
export function encodeJson(value: unknown): string {
  if (typeof value === 'bigint') return value.toString()
  if (Array.isArray(value)) return `[${value.map(encodeJson).join(', ')}]`
  if (value instanceof Map)
    return `{${[...value].map(([key, item]) => `${JSON.stringify(key)}: ${encodeJson(item)}`).join(', ')}}`
  return JSON.stringify(value)
}

function invalid(file: string, what: string, context: Record<string, unknown>): AppError {
  return new AppError('format_invalid', `"${file}": ${what}`, { file, ...context })
}
