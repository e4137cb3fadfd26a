// Opens an ONNX model and its external data, and answers for it: metadata, tensor bytes by range, layout of an artifact.
// Entry: openOnnx, onnxCompanions. Holds open files and the encoded structure, never tensor bytes.

import type { FileHandle } from 'node:fs/promises'
import { lstat, open, stat } from 'node:fs/promises'
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
import { readHead } from '../detect.ts'
import { readFully } from '../wire/byte-source.ts'
import { externalLocations, resolveExternalData } from './external-data.ts'
import { layoutModel, type ModelStructure } from './layout.ts'
import { matchOnnx } from './recognise.ts'
import { decodeModel, encodeSkeleton, scanModel } from './structure.ts'
import { checkVersions, summarise } from './summary.ts'
import { collectWeights } from './weights.ts'

/** Opens the model in `files`: the one that looks most like ONNX, the others being its external data. */
export async function openOnnx(files: readonly SourceFile[]): Promise<ModelReader> {
  const mainIndex = await findMain(files)
  const handles: FileHandle[] = []
  try {
    const opened: SourceFile[] = []
    for (const [index, file] of files.entries()) {
      const { handle, sizeBytes } = await openFile(file, index === mainIndex)
      handles.push(handle)
      opened.push({ ...file, sizeBytes })
    }
    return new OnnxReader(opened, handles, mainIndex)
  } catch (error) {
    await Promise.all(handles.map((handle) => handle.close()))
    throw error
  }
}

/** Names of the data files that the model refers to. See ModelFormat.companions. */
export async function onnxCompanions(main: SourceFile): Promise<string[]> {
  const { handle, sizeBytes } = await openFile(main, true)
  try {
    const scanned = scanModel(handle.fd, main.name, sizeBytes, 0)
    return externalLocations(decodeModel(scanned.skeleton, main.name))
  } finally {
    await handle.close()
  }
}

async function findMain(files: readonly SourceFile[]): Promise<number> {
  let best = 0
  let bestScore = -1
  for (const [index, file] of files.entries()) {
    if (files.length === 1) break
    // A file that cannot be read is not the main one; opening it says why.
    const head = await readHead(file).catch(() => null)
    const score = head ? matchOnnx(head, file.name) : -1
    if (score > bestScore) {
      best = index
      bestScore = score
    }
  }
  return best
}

async function openFile(file: SourceFile, isMain: boolean): Promise<{ handle: FileHandle; sizeBytes: number }> {
  try {
    if (!isMain && (await lstat(file.path)).isSymbolicLink()) {
      throw new AppError('external_data_invalid', `"${file.name}" is a symbolic link; external data must be a file`, {
        file: file.name,
      })
    }
    const found = await stat(file.path)
    if (!found.isFile()) {
      throw new AppError(
        isMain ? 'format_unrecognised' : 'external_data_invalid',
        `"${file.name}" is not a regular file`,
        { file: file.name },
      )
    }
    return { handle: await open(file.path, 'r'), sizeBytes: found.size }
  } catch (error) {
    if (error instanceof AppError) throw error
    const code = (error as NodeJS.ErrnoException).code
    throw new AppError(
      code === 'ENOENT' ? 'not_found' : 'store_failed',
      `"${file.name}" cannot be opened: ${code ?? String(error)}`,
      { file: file.name },
      error,
    )
  }
}

/** Errors about a tensor get the file that holds it. */
function namingFile<T>(file: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof AppError) || error.context['file'] !== undefined) throw error
    throw new AppError(error.code, `"${file}": ${error.detail}`, { ...error.context, file }, error)
  }
}

class OnnxReader implements ModelReader {
  readonly files: SourceFile[]
  readonly summary: ModelSummary
  readonly tensors: TensorInfo[]
  readonly #handles: FileHandle[]
  readonly #structure: ModelStructure

  constructor(files: SourceFile[], handles: FileHandle[], mainIndex: number) {
    this.files = files
    this.#handles = handles
    const main = files[mainIndex]!
    const { skeleton, payloads } = scanModel(handles[mainIndex]!.fd, main.name, main.sizeBytes, mainIndex)
    const model = decodeModel(skeleton, main.name)
    checkVersions(model, main.name)
    const usesExternalData = namingFile(main.name, () => resolveExternalData(model, payloads, files, mainIndex))
    this.#structure = {
      fileName: main.name,
      skeleton: usesExternalData ? encodeSkeleton(model) : skeleton,
      payloads,
      usesExternalData,
    }
    const table = namingFile(main.name, () =>
      collectWeights(model, payloads, (data) => this.#readWhole(data), main.name),
    )
    this.tensors = table.weights.map(({ info }) => info)
    this.summary = summarise(model, table)
  }

  layout(plans: TensorPlan[], options: OutputOptions): FileLayout {
    return layoutModel(this.#structure, plans, options, (data) => this.#readWhole(data))
  }

  async read(data: TensorData, offsetBytes: number, into: Uint8Array): Promise<void> {
    if (data.kind === 'inline') {
      into.set(data.bytes.subarray(offsetBytes, offsetBytes + into.length))
      return
    }
    const file = this.files[data.file]!
    const handle = this.#handles[data.file]!
    let done = 0
    while (done < into.length) {
      const at = data.offsetBytes + offsetBytes + done
      const { bytesRead } = await handle.read(into, done, into.length - done, at).catch((error: Error) => {
        throw new AppError('store_failed', `"${file.name}" cannot be read at byte ${at}: ${error.message}`, {
          file: file.name,
          offsetBytes: at,
        })
      })
      if (bytesRead === 0) {
        throw new AppError(
          'format_truncated',
          `"${file.name}" ends at byte ${at}, before the tensor bytes it declares`,
          {
            file: file.name,
            offsetBytes: at,
          },
        )
      }
      done += bytesRead
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#handles.splice(0).map((handle) => handle.close()))
  }

  #readWhole(data: TensorData): Uint8Array {
    if (data.kind === 'inline') return data.bytes
    const bytes = new Uint8Array(data.lengthBytes)
    readFully(this.#handles[data.file]!.fd, this.files[data.file]!.name, data.offsetBytes, bytes)
    return bytes
  }
}
