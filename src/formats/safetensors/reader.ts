// An opened safetensors model, one file or shards with their index: openSafetensors. Only headers, the index and config.json
// are read; tensor bytes are read by range when asked for.

import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { AppError } from '../../errors.ts'
import type {
  FileLayout,
  ModelReader,
  ModelSummary,
  OutputOptions,
  SourceFile,
  TensorData,
  TensorInfo,
  TensorPlan,
} from '../../tensor/model.ts'
import { describeContent, readHead } from '../detect.ts'
import { readFully } from '../wire/byte-source.ts'
import { clip } from '../wire/json-header.ts'
import { describeTensors, findCompressedForms, type RawTensor } from './describe-tensors.ts'
import { type Header, MAX_TENSOR_COUNT, readHeader } from './header.ts'
import { CONFIG_NAME, type InputModel, type InputShard, layoutArtifact } from './layout.ts'
import { MAX_CONFIG_BYTES, readConfigJson } from './quantization-config.ts'
import { INDEX_SUFFIX, isBareName, MAX_INDEX_BYTES, readShardIndex, type ShardIndex } from './shard-index.ts'

/** Files of one model: the largest public checkpoints have a few hundred shards. */
export const MAX_MODEL_FILES = 10_000

class SafetensorsReader implements ModelReader {
  readonly files: SourceFile[]
  readonly summary: ModelSummary
  readonly tensors: TensorInfo[]
  readonly #handles: FileHandle[]
  readonly #input: InputModel

  constructor(files: SourceFile[], handles: FileHandle[], input: InputModel, raw: RawTensor[], summary: ModelSummary) {
    this.files = files
    this.#handles = handles
    this.#input = input
    this.tensors = describeTensors(raw)
    this.summary = summary
  }

  layout(plans: TensorPlan[], options: OutputOptions): FileLayout {
    return layoutArtifact(this.#input, plans, options)
  }

  async read(data: TensorData, offsetBytes: number, into: Uint8Array): Promise<void> {
    if (data.kind === 'inline') {
      into.set(data.bytes.subarray(offsetBytes, offsetBytes + into.length))
      return
    }
    const handle = this.#handles[data.file]
    const name = this.files[data.file]?.name ?? ''
    if (!handle) throw new AppError('internal', `a read from file ${data.file}, which the model does not have`)
    let done = 0
    while (done < into.length) {
      const position = data.offsetBytes + offsetBytes + done
      const { bytesRead } = await handle.read(into, done, into.length - done, position).catch((error: unknown) => {
        throw unreadable(name, error)
      })
      if (bytesRead === 0)
        throw new AppError('store_failed', `"${name}" became shorter while it was read`, {
          file: name,
          offset: position,
        })
      done += bytesRead
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#handles.splice(0).map((handle) => handle.close()))
  }
}

/**
 * Opens the model that these files form.
 * @throws AppError format_truncated, format_invalid, format_unrecognised, external_data_invalid, dtype_unsupported,
 *   limit_exceeded, store_failed.
 */
export async function openSafetensors(files: SourceFile[]): Promise<ModelReader> {
  if (files.length > MAX_MODEL_FILES)
    throw new AppError('limit_exceeded', `a model of ${files.length} files, allowed ${MAX_MODEL_FILES}`, {
      limit: 'model_files',
      allowed: MAX_MODEL_FILES,
      requested: files.length,
    })
  const handles: FileHandle[] = []
  try {
    checkNames(files)
    for (const file of files) handles.push(await openSource(file))
    return await openParts(files, handles)
  } catch (error) {
    await Promise.all(handles.map((handle) => handle.close()))
    throw error
  }
}

async function openParts(files: SourceFile[], handles: FileHandle[]): Promise<ModelReader> {
  const shardFiles = filesWhere(files, (name) => name.endsWith('.safetensors'))
  const [indexFile, secondIndex] = filesWhere(files, (name) => name.endsWith(INDEX_SUFFIX))
  if (secondIndex) throw new AppError('format_invalid', `a model with two indexes: "${secondIndex.name}"`, {})
  // A single file may have any name; it was recognised by its content.
  if (shardFiles.length === 0 && !indexFile && files.length === 1) shardFiles.push({ ...files[0]!, file: 0 })
  const content = indexFile ? readShardIndex(readSmall(indexFile, handles, MAX_INDEX_BYTES), indexFile.name) : null
  if (content) checkShards(content, shardFiles, indexFile?.name ?? '')
  else if (shardFiles.length !== 1) throw await noSingleFile(shardFiles.length, files)

  const shards: InputShard[] = []
  const raw: RawTensor[] = []
  for (const { file, name, sizeBytes } of shardFiles) {
    await refuseOtherContent(files[file]!)
    const header = readHeader(handles[file]!.fd, name, sizeBytes)
    if (content) checkMembership(header, content, name)
    if (raw.length + header.entries.length > MAX_TENSOR_COUNT)
      throw new AppError('limit_exceeded', `the model has more than ${MAX_TENSOR_COUNT} tensors`, {
        limit: 'tensor_count',
        allowed: MAX_TENSOR_COUNT,
        requested: raw.length + header.entries.length,
      })
    raw.push(...inDataOrder(header, file))
    const headerOrder = header.entries.map((entry) => entry.name)
    shards.push({ file, name, sizeBytes, metadata: header.metadata, hasMetadata: header.hasMetadata, headerOrder })
  }
  if (content) checkComplete(content, raw, indexFile?.name ?? '')
  const configFile = filesWhere(files, (name) => name === CONFIG_NAME)[0]
  const configBytes = configFile ? readSmall(configFile, handles, MAX_CONFIG_BYTES) : null
  if (configBytes) readConfigJson(configBytes, CONFIG_NAME)
  const input: InputModel = {
    shards,
    index: indexFile && content ? { ...indexFile, content } : null,
    config: configFile && configBytes ? { file: configFile.file, bytes: configBytes } : null,
    extras: filesWhere(files, () => true).filter(
      ({ file, name }) =>
        file !== indexFile?.file && name !== CONFIG_NAME && !shards.some((shard) => shard.file === file),
    ),
  }
  return new SafetensorsReader(files, handles, input, raw, summarise(shards, raw, input))
}

type IndexedFile = { file: number; name: string; sizeBytes: number }

function filesWhere(files: readonly SourceFile[], test: (name: string) => boolean): IndexedFile[] {
  return files.map(({ name, sizeBytes }, file) => ({ file, name, sizeBytes })).filter(({ name }) => test(name))
}

function checkNames(files: readonly SourceFile[]): void {
  const seen = new Set<string>()
  for (const { name } of files) {
    if (!isBareName(name))
      throw new AppError(
        'external_data_invalid',
        `"${clip(name)}" is no bare file name; a safetensors model is one folder`,
        {
          file: clip(name),
        },
      )
    if (seen.has(name)) throw new AppError('format_invalid', `the model has two files named "${name}"`, { file: name })
    seen.add(name)
  }
}

async function openSource(file: SourceFile): Promise<FileHandle> {
  const handle = await open(file.path, 'r').catch((error: unknown) => {
    throw unreadable(file.name, error)
  })
  const { size } = await handle.stat()
  if (size === file.sizeBytes) return handle
  await handle.close()
  const detail = `"${file.name}" has ${size} bytes and had ${file.sizeBytes} when it was received`
  throw new AppError('store_failed', detail, { file: file.name })
}

function unreadable(name: string, error: unknown): AppError {
  const reason = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  return new AppError('store_failed', `"${name}" cannot be read: ${reason}`, { file: name }, error)
}

function readSmall(file: IndexedFile, handles: readonly FileHandle[], allowed: number): Uint8Array {
  if (file.sizeBytes > allowed)
    throw new AppError('limit_exceeded', `"${file.name}" has ${file.sizeBytes} bytes, allowed ${allowed}`, {
      file: file.name,
      limit: 'json_bytes',
      allowed,
      requested: file.sizeBytes,
    })
  const bytes = new Uint8Array(file.sizeBytes)
  readFully(handles[file.file]!.fd, file.name, 0, bytes)
  return bytes
}

/** Says what a file is that carries the name of a safetensors file and the content of something else. */
async function refuseOtherContent(file: SourceFile): Promise<void> {
  const head = await readHead(file)
  if (head[8] === 0x7b || head.length < 8) return
  const looksLike = describeContent(head)
  if (looksLike === null || looksLike === 'a run of zero bytes' || looksLike === 'plain text') return
  throw new AppError('format_unrecognised', `"${file.name}" is no safetensors file: it looks like ${looksLike}`, {
    file: file.name,
    looksLike,
  })
}

async function noSingleFile(count: number, files: readonly SourceFile[]): Promise<AppError> {
  const names = files.map(({ name }) => `"${name}"`).join(', ')
  const detail =
    count === 0
      ? `none of the files ends in .safetensors: ${names}`
      : `${count} .safetensors files without an index; add the model${INDEX_SUFFIX} that says which tensor is in which file`
  return new AppError('format_invalid', detail, { files: files.map(({ name }) => name) })
}

function checkShards(index: ShardIndex, shards: readonly IndexedFile[], file: string): void {
  const present = new Set(shards.map(({ name }) => name))
  const named = new Set(index.weightMap.values())
  const missing = [...named].filter((name) => !present.has(name))
  if (missing.length > 0) {
    const list = missing.slice(0, 5).map((name) => `"${clip(name)}"`)
    const detail = `"${file}" names ${missing.length} file(s) that were not given: ${list.join(', ')}`
    throw new AppError('external_data_invalid', detail, { file, missing: missing.slice(0, 100) })
  }
  const extra = shards.find(({ name }) => !named.has(name))
  if (extra)
    throw new AppError('format_invalid', `"${extra.name}" holds no tensor that "${file}" names`, { file: extra.name })
}

function checkMembership({ entries }: Header, index: ShardIndex, shard: string): void {
  for (const { name } of entries) {
    const home = index.weightMap.get(name)
    if (home === shard) continue
    const found = home === undefined ? 'the index does not name it' : `the index puts it into "${clip(home)}"`
    throw new AppError('format_invalid', `"${shard}" holds tensor ${JSON.stringify(clip(name))}, but ${found}`, {
      file: shard,
      tensor: clip(name),
    })
  }
}

function checkComplete(index: ShardIndex, raw: readonly RawTensor[], file: string): void {
  if (raw.length === index.weightMap.size) return
  const present = new Set(raw.map(({ name }) => name))
  for (const [name, shard] of index.weightMap)
    if (!present.has(name))
      throw new AppError(
        'format_invalid',
        `"${file}" puts tensor ${JSON.stringify(clip(name))} into "${shard}", which lacks it`,
        {
          file,
          tensor: clip(name),
        },
      )
}

/** By position, so that a run over the tensors reads each file front to back. */
function inDataOrder({ entries }: Header, file: number): RawTensor[] {
  return entries
    .toSorted((a, b) => a.offsetBytes - b.offsetBytes)
    .map(({ name, dtype, shape, offsetBytes, lengthBytes }) => {
      return { name, dtype, shape, data: { kind: 'file', file, offsetBytes, lengthBytes } }
    })
}

function summarise(shards: readonly InputShard[], raw: readonly RawTensor[], input: InputModel): ModelSummary {
  const metadata: Record<string, string> = Object.assign(
    Object.create(null),
    ...shards.map((shard) => shard.metadata).reverse(),
  )
  const notes: string[] = []
  if (shards.length > 1) notes.push(`${shards.length} shards`)
  if (input.extras.length > 0) notes.push(`copied along unchanged: ${input.extras.map(({ name }) => name).join(', ')}`)
  return {
    format: 'safetensors',
    irVersion: null,
    opset: null,
    producer: metadata['format'] ?? null,
    inputs: [],
    outputs: [],
    metadata,
    alreadyCompressed: findCompressedForms(raw, metadata),
    notes,
  }
}
