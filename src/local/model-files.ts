// From the path that somebody gave to the files of the model: a file, a .safetensors.index.json, or a folder that holds one model.
// Which further files the main one names (external data, shards) is read by the inspect child, as the file is untrusted.
// Entry: gatherModel().

import { readdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, normalize, resolve, sep } from 'node:path'
import { AppError } from '../errors.ts'
import type { SourceFile } from '../tensor/model.ts'

export interface GatheredModel {
  /** The main file first. */
  files: SourceFile[]
  /** Name without folder and endings: `model` of `model.safetensors.index.json`; of a folder, the folder's name. */
  stem: string
  /** The argument named a folder or a sharded model: the output is a folder as well. */
  isFolder: boolean
}

const INDEX_ENDING = '.safetensors.index.json'
const ENDINGS = [INDEX_ENDING, '.safetensors', '.onnx'] as const

/**
 * @param companions asks the inspect child for the names that the main file refers to
 * Throws not_found, format_unrecognised, external_data_invalid.
 */
export async function gatherModel(
  argument: string,
  companions: (main: SourceFile) => Promise<string[]>,
): Promise<GatheredModel> {
  const path = resolve(argument)
  const found = await statOrExplain(path, argument)
  const isDirectory = found.isDirectory()
  const mainPath = isDirectory ? await mainFileOf(path, argument) : path
  const main = await sourceFile(basename(mainPath), mainPath, argument)
  const lowerName = main.name.toLowerCase()
  const ending = ENDINGS.find((candidate) => lowerName.endsWith(candidate)) ?? extensionOf(main.name)
  const files = [main]
  for (const name of new Set(await companions(main))) {
    const file = await companionFile(name, mainPath, ending === INDEX_ENDING)
    if (file) files.push(file)
  }
  return {
    files,
    stem: isDirectory ? basename(path) : main.name.slice(0, main.name.length - ending.length),
    isFolder: isDirectory || ending === INDEX_ENDING,
  }
}

function extensionOf(name: string): string {
  return /\.[^.]+$/.exec(name)?.[0] ?? ''
}

async function statOrExplain(path: string, argument: string) {
  try {
    const found = await stat(path)
    if (!found.isFile() && !found.isDirectory()) {
      throw new AppError('format_unrecognised', `"${argument}" is neither a file nor a folder`, { file: argument })
    }
    return found
  } catch (error) {
    if (error instanceof AppError) throw error
    const code = (error as NodeJS.ErrnoException).code
    const what = code === 'ENOENT' || code === 'ENOTDIR' ? 'does not exist' : `cannot be read (${code})`
    throw new AppError('not_found', `"${argument}" ${what}`, { file: argument }, error)
  }
}

async function sourceFile(name: string, path: string, argument: string): Promise<SourceFile> {
  return { name, path, sizeBytes: (await statOrExplain(path, argument)).size }
}

/** The one model of a folder: an index stands for its shards; otherwise there must be exactly one model file. */
async function mainFileOf(folder: string, argument: string): Promise<string> {
  const names = (await readdir(folder)).sort()
  for (const ending of ENDINGS) {
    const matches = names.filter((name) => name.toLowerCase().endsWith(ending))
    if (matches.length === 1) return join(folder, matches[0]!)
    if (matches.length > 1) {
      throw new AppError(
        'format_unrecognised',
        `the folder "${argument}" holds ${matches.length} ${ending} files (${matches.slice(0, 3).join(', ')}${matches.length > 3 ? ', ...' : ''}) and no index that joins them; name one of them`,
        { file: argument },
      )
    }
  }
  throw new AppError(
    'format_unrecognised',
    `the folder "${argument}" holds no model: expected one of *${ENDINGS.join(', *')}`,
    { file: argument },
  )
}

/**
 * A file that the main file names. Names that leave the folder, and files that are not there, are left out: the reader
 * refuses them by name. External data behind a symbolic link is refused here, where the link can still be seen (a link
 * could bring any file of this machine into the artifact); shards may be links, as download caches make them.
 */
async function companionFile(name: string, mainPath: string, linksAllowed: boolean): Promise<SourceFile | null> {
  const inside = normalize(name)
  if (isAbsolute(name) || inside === '..' || inside.startsWith(`..${sep}`) || name.includes('\0')) return null
  const folder = dirname(mainPath)
  const path = join(folder, inside)
  const found = await stat(path).catch(() => null)
  if (!found?.isFile()) return null
  if (!linksAllowed && (await realpath(path)) !== join(await realpath(folder), inside)) {
    throw new AppError(
      'external_data_invalid',
      `the external data file "${name}" of "${basename(mainPath)}" is a symbolic link; copy the data beside the model`,
      { file: name },
    )
  }
  return { name, path, sizeBytes: found.size }
}
