// Where every byte of a safetensors artifact goes: layoutArtifact. Pure. Files whose tensors all stay are copied whole;
// others get a new header with the members in their old order. Parts of a compressed tensor stay beside each other in the
// header and in one shard. Data keeps its order unless a tensor would then lie off its own alignment: as no hole is allowed,
// the data is then ordered by alignment, widest first (stable), which is what the reference writer does.

import { AppError } from '../../errors.ts'
import { DTYPES, type DType } from '../../tensor/dtype.ts'
import type { FileLayout, OutputFile, OutputOptions, TensorPlan } from '../../tensor/model.ts'
import type { JsonObject, JsonValue } from '../wire/json-header.ts'
import { encodeHeader } from './header.ts'
import { type OutTensor, outTensors } from './out-tensors.ts'
import { addToConfigJson, addToMetadata, quantizationConfig } from './quantization-config.ts'
import { copyFile, literalFile, RunList } from './run-list.ts'
import { encodeShardIndex, INDEX_SUFFIX, type ShardIndex } from './shard-index.ts'

export const CONFIG_NAME = 'config.json'
const EXTENSION = '.safetensors'

/** One .safetensors file of the input. `file` indexes ModelReader.files. */
export interface InputShard {
  file: number
  name: string
  sizeBytes: number
  metadata: Record<string, string>
  hasMetadata: boolean
  /** Tensor names in the order of the header. */
  headerOrder: string[]
}

/** What the reader knows of the input's files. */
export interface InputModel {
  shards: InputShard[]
  index: { file: number; name: string; sizeBytes: number; content: ShardIndex } | null
  config: { file: number; bytes: Uint8Array } | null
  /** Further files, copied as they are (tokenizer.json and the like); config.json is not among them. */
  extras: { file: number; name: string; sizeBytes: number }[]
}

interface OutShard {
  name: string
  metadata: Record<string, string> | null
  plans: TensorPlan[]
  /** Tensor names in header order; null: as the plans. */
  headerOrder: string[] | null
  /** The input file that this one repeats when no plan changes anything. */
  unchanged: InputShard | null
}

/** Lays out the artifact. `plans` are in data order, shard by shard. Throws limit_exceeded when a header grows too long. */
export function layoutArtifact(input: InputModel, plans: readonly TensorPlan[], options: OutputOptions): FileLayout {
  const shards = assignShards(input, plans, options)
  const sharded = shards.length > 1 || (input.index !== null && options.shardBytes === null)
  const config = quantizationConfig(plans)
  const notes: FileLayout['notes'] = []
  const files = shards.map((shard) => layoutShard(shard))
  if (sharded) files.unshift(layoutIndex(input, shards, files, options))
  else if (input.index) notes.push({ tensor: null, note: 'one shard is left, so that no index is written' })
  if (input.config || (sharded && config)) {
    files.push(layoutConfig(input, config))
    if (!input.config) notes.push({ tensor: null, note: `${CONFIG_NAME} was created for the quantization_config` })
  }
  for (const { file, name, sizeBytes } of input.extras) files.push(copyFile(file, name, sizeBytes))
  refuseTwins(files)
  return { files, notes }
}

function assignShards(input: InputModel, plans: readonly TensorPlan[], options: OutputOptions): OutShard[] {
  if (options.shardBytes !== null) return reshard(input, plans, options)
  return input.shards.map((shard) => {
    const names = new Set(shard.headerOrder)
    return {
      name: input.index ? shard.name : options.fileName,
      metadata: shard.hasMetadata ? shard.metadata : null,
      plans: plans.filter(({ tensor }) => names.has(tensor.name)),
      headerOrder: shard.headerOrder,
      unchanged: shard,
    }
  })
}

function reshard(input: InputModel, plans: readonly TensorPlan[], options: OutputOptions): OutShard[] {
  const limitBytes = options.shardBytes ?? Number.POSITIVE_INFINITY
  const groups: TensorPlan[][] = [[]]
  let filledBytes = 0
  for (const plan of plans) {
    const planBytes = outTensors(plan).reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
    if (filledBytes > 0 && filledBytes + planBytes > limitBytes) {
      groups.push([])
      filledBytes = 0
    }
    groups.at(-1)?.push(plan)
    filledBytes += planBytes
  }
  const metadata = Object.assign(Object.create(null), ...input.shards.map((shard) => shard.metadata).reverse())
  const hasMetadata = input.shards.some((shard) => shard.hasMetadata)
  const [only] = input.shards
  return groups.map((group, i) => ({
    name:
      groups.length === 1 ? `${stemOf(options.fileName)}${EXTENSION}` : shardName(options.fileName, i, groups.length),
    metadata: hasMetadata ? metadata : null,
    plans: group,
    headerOrder: groups.length === 1 && input.shards.length === 1 ? (only?.headerOrder ?? null) : null,
    unchanged: groups.length === 1 && input.shards.length === 1 ? (only ?? null) : null,
  }))
}

/** model.safetensors, model.safetensors.index.json and model-00001-of-00002.safetensors all have the stem `model`. */
function stemOf(fileName: string): string {
  const base = fileName.endsWith(INDEX_SUFFIX)
    ? fileName.slice(0, -INDEX_SUFFIX.length)
    : fileName.replace(/\.safetensors$/, '')
  return base.replace(/-[0-9]{5}-of-[0-9]{5}$/, '')
}

function shardName(fileName: string, index: number, count: number): string {
  const five = (value: number) => String(value).padStart(5, '0')
  return `${stemOf(fileName)}-${five(index + 1)}-of-${five(count)}${EXTENSION}`
}

function layoutShard(shard: OutShard): OutputFile {
  const config = quantizationConfig(shard.plans)
  if (shard.unchanged && shard.plans.every(({ action }) => action === 'keep'))
    return copyFile(shard.unchanged.file, shard.name, shard.unchanged.sizeBytes)
  const made = new Map(shard.plans.map((plan) => [plan.tensor.name, outTensors(plan)]))
  const inDataOrder = orderByAlignment([...made.values()].flat())
  const begins = new Map<OutTensor, number>()
  let sizeOfData = 0
  for (const tensor of inDataOrder) {
    begins.set(tensor, sizeOfData)
    sizeOfData += tensor.lengthBytes
  }
  const inHeaderOrder = (shard.headerOrder ?? [...made.keys()]).flatMap((name) => made.get(name) ?? [])
  const members = inHeaderOrder.map((tensor) => {
    const begin = begins.get(tensor) ?? 0
    return { ...tensor, begin, end: begin + tensor.lengthBytes }
  })
  const metadata = config ? addToMetadata(shard.metadata ?? {}, config) : shard.metadata
  const runs = new RunList(encodeHeader(members, metadata))
  for (const tensor of inDataOrder) runs.add(tensor)
  return runs.finish(shard.name)
}

function alignmentBytes(dtype: DType): number {
  return Math.max(1, DTYPES[dtype].bits / 8)
}

function orderByAlignment(tensors: OutTensor[]): OutTensor[] {
  let position = 0
  for (const { dtype, lengthBytes } of tensors) {
    if (position % alignmentBytes(dtype) !== 0)
      return tensors.toSorted((a, b) => alignmentBytes(b.dtype) - alignmentBytes(a.dtype))
    position += lengthBytes
  }
  return tensors
}

function layoutIndex(
  input: InputModel,
  shards: readonly OutShard[],
  files: readonly OutputFile[],
  options: OutputOptions,
): OutputFile {
  const keeps = shards.every(({ unchanged, plans }) => unchanged && plans.every(({ action }) => action === 'keep'))
  if (input.index && keeps) return copyFile(input.index.file, input.index.name, input.index.sizeBytes)
  const homes = new Map<string, { shard: string; names: string[] }>()
  let totalBytes = 0
  shards.forEach(({ plans }, i) => {
    for (const plan of plans) {
      const made = outTensors(plan)
      totalBytes += made.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
      homes.set(plan.tensor.name, { shard: files[i]?.name ?? '', names: made.map(({ name }) => name) })
    }
  })
  const weightMap = new Map<string, string>()
  for (const tensor of input.index?.content.weightMap.keys() ?? homes.keys()) {
    const home = homes.get(tensor)
    for (const name of home?.names ?? []) weightMap.set(name, home?.shard ?? '')
  }
  const metadata: JsonObject = new Map<string, JsonValue>(input.index?.content.metadata ?? [])
  metadata.set('total_size', totalBytes)
  return literalFile(
    input.index && options.shardBytes === null ? input.index.name : `${stemOf(options.fileName)}${INDEX_SUFFIX}`,
    encodeShardIndex(weightMap, metadata),
  )
}

function layoutConfig(input: InputModel, config: ReturnType<typeof quantizationConfig>): OutputFile {
  if (input.config && !config) return copyFile(input.config.file, CONFIG_NAME, input.config.bytes.length)
  return literalFile(CONFIG_NAME, addToConfigJson(input.config?.bytes ?? null, CONFIG_NAME, config ?? {}))
}

/** A chosen output name may meet the name of a file that is copied along. */
function refuseTwins(files: readonly OutputFile[]): void {
  const seen = new Set<string>()
  for (const { name } of files) {
    if (seen.has(name))
      throw new AppError(
        'request_invalid',
        `the artifact would hold two files named "${name}"; choose another output name`,
        {
          path: 'output.fileName',
          file: name,
        },
      )
    seen.add(name)
  }
}
