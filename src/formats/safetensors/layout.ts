// Where every byte of a safetensors artifact goes: layoutArtifact. Pure. Files whose tensors all stay are copied whole;
// others get a new header with the members in their old order. Parts of a compressed tensor stay beside each other in the
// header and in one shard. Data keeps its order unless a tensor would then lie off its own alignment: as no hole is allowed,
// the data is then ordered by alignment, widest first (stable), which is what the reference writer does.

import { AppError } from '../../errors.ts'
import { byteLength, DTYPES, type DType, elementCount } from '../../tensor/dtype.ts'
import type {
  FileLayout,
  OutputFile,
  OutputOptions,
  OutputPart,
  OutputRun,
  PartName,
  TensorData,
  TensorPlan,
} from '../../tensor/model.ts'
import type { JsonObject, JsonValue } from '../wire/json-header.ts'
import { PACKED_SUFFIXES, SCALED_SUFFIXES } from './describe-tensors.ts'
import { encodeHeader } from './header.ts'
import { addToConfigJson, addToMetadata, quantizationConfig } from './quantization-config.ts'
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

type Source =
  | { kind: 'copy'; from: TensorData }
  | { kind: 'part'; tensor: string; part: PartName }
  | { kind: 'bytes'; bytes: Uint8Array }

/** One tensor of an output file. */
interface OutTensor {
  name: string
  dtype: DType
  shape: readonly number[]
  lengthBytes: number
  source: Source
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

/** The tensors that one plan becomes, values first. */
function outTensors({ tensor, action, encode, outputs }: TensorPlan): OutTensor[] {
  if (action === 'keep') {
    const { name, dtype, shape, data } = tensor
    return [
      { name, dtype, shape, lengthBytes: byteLength(dtype, elementCount(shape)), source: { kind: 'copy', from: data } },
    ]
  }
  const part = (partName: PartName, name: string, dtype?: DType, shape?: readonly number[]): OutTensor => {
    const output = findPart(outputs, partName, tensor.name)
    return {
      name,
      dtype: dtype ?? output.dtype,
      shape: shape ?? output.shape,
      lengthBytes: output.lengthBytes,
      source: { kind: 'part', tensor: tensor.name, part: partName },
    }
  }
  const { name } = tensor
  switch (encode.kind) {
    case 'dense':
    case 'float16':
    case 'bfloat16':
      return [part('values', name)]
    case 'scaled-int': {
      // A scalar scale is written as one element, which every reader takes.
      const shared = encode.axis === null ? [1] : [tensor.shape[encode.axis] ?? 1]
      const made = [part('values', name), part('scale', name + SCALED_SUFFIXES.scale, 'f32', shared)]
      if (!encode.symmetric) made.push(part('zero_point', name + SCALED_SUFFIXES.zeroPoint, 'u8', shared))
      return made
    }
    case 'block-packed': {
      const { n, k } = encode.matrix
      const words = (k * encode.bits) / 32
      const made = [
        part('values', name + PACKED_SUFFIXES.values, 'i32', [n, words]),
        part('scale', name + PACKED_SUFFIXES.scale),
        literal(name + PACKED_SUFFIXES.shape, [n, k]),
      ]
      if (!encode.symmetric) made.push(part('zero_point', name + PACKED_SUFFIXES.zeroPoint))
      return made
    }
    case 'dynamic-int8':
      throw new AppError(
        'internal',
        `a plan encodes ${JSON.stringify(name)} as ${encode.kind}, which safetensors cannot hold`,
      )
    default:
      return encode satisfies never
  }
}

function findPart(outputs: readonly OutputPart[], name: PartName, tensor: string): OutputPart {
  const found = outputs.find((output) => output.part === name)
  if (!found) throw new AppError('internal', `the plan of ${JSON.stringify(tensor)} has no part ${name}`)
  return found
}

/** The shape of a packed weight as an int64 tensor. */
function literal(name: string, shape: readonly number[]): OutTensor {
  const words = BigInt64Array.from(shape, BigInt)
  const bytes = new Uint8Array(words.buffer)
  return { name, dtype: 'i64', shape: [shape.length], lengthBytes: bytes.length, source: { kind: 'bytes', bytes } }
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

/** Collects the runs of one file; neighbours that can be one run become one. */
class RunList {
  readonly #runs: OutputRun[] = []
  #literals: Uint8Array[]
  #position: number

  constructor(header: Uint8Array) {
    this.#literals = [header]
    this.#position = header.length
  }

  add({ lengthBytes, source }: OutTensor): void {
    if (lengthBytes === 0) return
    const offsetBytes = this.#position
    this.#position += lengthBytes
    if (source.kind === 'bytes') {
      this.#literals.push(source.bytes)
      return
    }
    this.#flush(offsetBytes)
    if (source.kind === 'part')
      this.#runs.push({ kind: 'part', offsetBytes, lengthBytes, tensor: source.tensor, part: source.part })
    else this.#copy(offsetBytes, source.from)
  }

  finish(name: string): OutputFile {
    this.#flush(this.#position)
    return { name, sizeBytes: this.#position, runs: this.#runs }
  }

  #copy(offsetBytes: number, from: TensorData): void {
    const last = this.#runs.at(-1)
    if (
      from.kind === 'file' &&
      last?.kind === 'copy' &&
      last.from.kind === 'file' &&
      last.from.file === from.file &&
      last.from.offsetBytes + last.from.lengthBytes === from.offsetBytes
    )
      last.from = { ...last.from, lengthBytes: last.from.lengthBytes + from.lengthBytes }
    else this.#runs.push({ kind: 'copy', offsetBytes, from })
  }

  #flush(position: number): void {
    if (this.#literals.length === 0) return
    const bytes = Buffer.concat(this.#literals)
    this.#runs.push({ kind: 'literal', offsetBytes: position - bytes.length, bytes })
    this.#literals = []
  }
}

function copyFile(file: number, name: string, sizeBytes: number): OutputFile {
  const from: TensorData = { kind: 'file', file, offsetBytes: 0, lengthBytes: sizeBytes }
  return { name, sizeBytes, runs: sizeBytes === 0 ? [] : [{ kind: 'copy', offsetBytes: 0, from }] }
}

function literalFile(name: string, bytes: Uint8Array): OutputFile {
  return { name, sizeBytes: bytes.length, runs: [{ kind: 'literal', offsetBytes: 0, bytes }] }
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
