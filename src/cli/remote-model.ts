// Local files on their way to a server: gathered and hashed here, sent only when the server does not have them. Entries:
// sendModel, sendDataset. The main file is looked into by an inspect child, for the names of its companions.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { Client, FileContent, Model, UploadSource } from '../client/index.ts'
import { openFile } from '../client-node.ts'
import { AppError } from '../errors.ts'
import { gatherThrough, withInspectChild } from '../local/children.ts'
import { datasetFile } from '../local/dataset-file.ts'
import type { GatheredModel } from '../local/model-files.ts'
import type { SourceFile } from '../tensor/model.ts'
import type { ShownProgress } from './progress-display.ts'

type ShowProgress = (progress: ShownProgress) => void

export function gatherLocally(argument: string, signal: AbortSignal): Promise<GatheredModel> {
  return withInspectChild((inspect) => gatherThrough(inspect, argument, signal))
}

/** Throws TensorpressError, ConnectionError. */
export async function sendModel(
  client: Client,
  files: readonly SourceFile[],
  onProgress: ShowProgress,
  signal: AbortSignal,
): Promise<Model> {
  const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  let hashedBytes = 0
  const sources: UploadSource[] = []
  for (const { name, path } of files) {
    const sha256 = await hashFile(path, signal, (bytes) => {
      hashedBytes += bytes
      onProgress({ stage: 'hashing', doneBytes: hashedBytes, totalBytes, tensor: name })
    })
    sources.push({ name, content: await contentOf(path), sha256 })
  }
  return client.uploadModel(sources, { signal, onProgress: uploading(onProgress) })
}

/** Resolves with its id; null: there is none. Throws not_found, TensorpressError, ConnectionError. */
export async function sendDataset(
  client: Client,
  argument: string | undefined,
  onProgress: ShowProgress,
  signal: AbortSignal,
): Promise<string | null> {
  const file = await datasetFile(argument)
  if (file === null) return null
  const source = { name: file.fileName, content: await contentOf(file.path), sha256: file.sha256 ?? undefined }
  return (await client.uploadDataset(source, { signal, onProgress: uploading(onProgress) })).id
}

/** Throws not_found, also later, when the file cannot be read any more or was changed. */
async function contentOf(path: string): Promise<FileContent> {
  const refuse = (error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error)
    throw new AppError('not_found', `the file cannot be sent: ${reason}`, { file: path }, error)
  }
  const content = await openFile(path).catch(refuse)
  return { size: content.size, slice: async (start, end) => Promise.resolve(content.slice(start, end)).catch(refuse) }
}

/** Shows nothing when the server has everything already. */
function uploading(show: ShowProgress): (doneBytes: number, totalBytes: number) => void {
  let sending = false
  return (doneBytes, totalBytes) => {
    sending ||= doneBytes < totalBytes
    if (sending) show({ stage: 'uploading', doneBytes, totalBytes, tensor: null })
  }
}

async function hashFile(path: string, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024, signal })) {
    hash.update(chunk as Buffer)
    onBytes((chunk as Buffer).length)
  }
  return hash.digest('hex')
}
