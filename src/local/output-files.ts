// Where the files of an artifact go: made in a private folder beside the target, and moved into place only when all is well,
// main file last. An interrupted run leaves nothing; what a killed one left is cleared by the next. Entry: openOutput().

import { link, mkdir, mkdtemp, readdir, rename, rm, stat, unlink } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { AppError } from '../errors.ts'
import { artifactFileName } from '../jobs/artifact-key.ts'
import type { GatheredModel } from './model-files.ts'

const TEMPORARY_PREFIX = '.tensorpress-'

export interface OutputTarget {
  /** Folder that the finished files end in. */
  folder: string
  /** Name of the main file in it. */
  fileName: string
}

/**
 * Where the artifact of `model` goes. Without `output`: the name that a server would give it, in the current folder; for a model
 * that is a folder, a folder `<name>.<recipe>` with the file names of the model. An output that names an existing folder, or ends in a slash, gets that name inside.
 */
export async function outputTarget(
  model: GatheredModel,
  recipeName: string,
  output: string | undefined,
): Promise<OutputTarget> {
  const mainName = model.files[0]!.name
  if (model.isFolder) {
    return {
      folder: resolve(output ?? `${model.stem}.${recipeName.replaceAll(/[^\w+.-]+/g, '-')}`),
      fileName: mainName,
    }
  }
  const named = artifactFileName(mainName, recipeName)
  if (output === undefined) return { folder: resolve('.'), fileName: named }
  const isFolder = /[\\/]$/.test(output) || ((await stat(output).catch(() => null))?.isDirectory() ?? false)
  if (isFolder) return { folder: resolve(output), fileName: named }
  return { folder: dirname(resolve(output)), fileName: basename(output) }
}

export interface Output {
  /** Private to this run; exists. */
  temporaryFolder: string
  /**
   * Moves the named files of `from` (on the same file system) to the target, in the given order. Returns their final paths.
   * Throws conflict when one exists and `force` is false; then none is left.
   */
  publish(from: string, names: string[]): Promise<string[]>
  /** Removes whatever was not published. Always safe to call. */
  discard(): Promise<void>
}

/** Throws conflict when the main file exists already (before any work is done), store_failed when the folder is not writable. */
export async function openOutput(target: OutputTarget, force: boolean): Promise<Output> {
  if (!force) await refuseExisting(join(target.folder, target.fileName))
  const made = await orStoreFailed(target.folder, () => makeFolder(target.folder))
  await clearDeadRuns(target.folder)
  const temporaryFolder = await orStoreFailed(target.folder, () =>
    mkdtemp(join(target.folder, `${TEMPORARY_PREFIX}${process.pid}-`)),
  )
  return {
    temporaryFolder,
    async publish(from, names) {
      const published: string[] = []
      try {
        for (const name of names) {
          const final = join(target.folder, name)
          await orStoreFailed(target.folder, () => makeFolder(dirname(final)))
          await orStoreFailed(target.folder, () => moveInto(join(from, name), final, force))
          published.push(final)
        }
      } catch (error) {
        if (!force) await Promise.all(published.map((path) => rm(path, { force: true })))
        throw error
      }
      return published
    },
    async discard() {
      await rm(temporaryFolder, { recursive: true, force: true })
      // A folder that only this run made, and that stayed empty, goes too.
      if (made && (await readdir(target.folder).catch(() => ['?'])).length === 0) {
        await rm(target.folder, { recursive: true, force: true })
      }
    },
  }
}

/**
 * Makes a folder and those above it; whether it had to be made. Not by mkdir's recursive mode: that never returns where the
 * kernel says "not found" below a folder that exists, as in /proc (seen in Node 24.21).
 */
export async function makeFolder(path: string): Promise<boolean> {
  try {
    await mkdir(path)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return false
    const parent = dirname(path)
    if (code !== 'ENOENT' || parent === path || (await stat(parent).catch(() => null)) !== null) throw error
  }
  await makeFolder(dirname(path))
  await mkdir(path)
  return true
}

/** Throws conflict when there is a file already. */
export async function refuseExisting(path: string): Promise<void> {
  if ((await stat(path).catch(() => null)) === null) return
  throw new AppError(
    'conflict',
    `"${path}" exists already; use --force to replace it (in code: overwrite), or another output`,
    { file: path },
  )
}

/**
 * Throws conflict when a file of the artifact would take the place of one of the model: not even overwriting may lose the original.
 * Compares files, not names, so links are seen through.
 */
export async function refuseInput(target: OutputTarget, model: GatheredModel): Promise<void> {
  const inputs = await Promise.all(model.files.map(({ path }) => stat(path)))
  for (const name of [target.fileName, `${target.fileName}.data`]) {
    const path = join(target.folder, name)
    const found = await stat(path).catch(() => null)
    if (found === null || !inputs.some(({ dev, ino }) => dev === found.dev && ino === found.ino)) continue
    throw new AppError('conflict', `"${path}" is a file of the model itself; name another output`, { file: path })
  }
}

/** A rename would replace silently what appeared meanwhile; a hard link refuses to. Not every file system has links. */
async function moveInto(from: string, to: string, force: boolean): Promise<void> {
  if (force) return rename(from, to)
  try {
    await link(from, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return refuseExisting(to)
    return rename(from, to)
  }
  await unlink(from)
}

/** Failures of the file system as errors that name the folder. */
export async function orStoreFailed<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof AppError) throw error
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOSPC') {
      throw new AppError('disk_full', `no space is left in "${folder}"`, { folder }, error)
    }
    throw new AppError('store_failed', `"${folder}" cannot be written (${code ?? error})`, { folder }, error)
  }
}

/** Folders of runs whose process is gone (killed outright). */
async function clearDeadRuns(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const pid = new RegExp(`^\\${TEMPORARY_PREFIX}(\\d+)-`).exec(name)?.[1]
    if (pid !== undefined && !isAlive(Number(pid))) {
      await rm(join(folder, name), { recursive: true, force: true }).catch(() => {})
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
