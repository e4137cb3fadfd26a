// Finished files, named by the sha256 of their content. An interface, so that an object store can stand behind it later; the
// local one keeps them under blobs/<aa>/<sha256>. A blob becomes visible only whole: synced, then renamed into place. Rows
// of the catalogue say which blobs are in use; orphans.ts removes the others.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AppError } from '../errors.ts'
import { publish, syncFile } from './durable-files.ts'
import { inStore, isMissing, storeError } from './file-errors.ts'

export interface BlobStore {
  /** Moves the file at `path` into the store; afterwards it is gone from there. `sha256`: of its content, null: count it here. */
  putFile(path: string, sha256: string | null): Promise<{ sha256: string; sizeBytes: number }>
  putBytes(bytes: Uint8Array): Promise<{ sha256: string; sizeBytes: number }>
  /** Whole content, for documents of moderate size. Throws store_failed when it vanished. */
  read(sha256: string): Promise<Buffer>
  /** Where a stream may read it, after checking that it is there with this size. Throws store_failed when it vanished. */
  locate(sha256: string): Promise<{ path: string; sizeBytes: number }>
  /** Makes the blob appear at `path` (a link where the file system allows, else a copy). It must not be written to. */
  place(sha256: string, path: string): Promise<void>
  /** The caller knows that nobody needs it and that it is not being put. A stream that reads it goes on. */
  remove(sha256: string): Promise<void>
  /** Every blob that is there, and paths of what else lies between them: somebody else put it there, and it is left alone. */
  list(): Promise<{ blobs: string[]; strays: string[] }>
}

/** `temporary` must lie on the same file system as `root`. */
export function createLocalBlobStore(root: string, makeTemporary: (label: string) => Promise<string>): BlobStore {
  const pathOf = (sha256: string) => join(root, sha256.slice(0, 2), sha256)

  async function sizeOf(sha256: string): Promise<number | null> {
    try {
      return (await fs.stat(pathOf(sha256))).size
    } catch (error) {
      if (isMissing(error)) return null
      throw storeError(error, `reading blob ${sha256}`)
    }
  }

  async function putFile(path: string, sha256: string | null) {
    return inStore(`storing ${path}`, async () => {
      const known = sha256 ?? (await hashFile(path))
      const { size: sizeBytes } = await fs.stat(path)
      if ((await sizeOf(known)) === sizeBytes) {
        await fs.rm(path)
      } else {
        await syncFile(path)
        await publish(path, pathOf(known))
      }
      return { sha256: known, sizeBytes }
    })
  }

  async function locate(sha256: string) {
    const sizeBytes = await sizeOf(sha256)
    if (sizeBytes !== null) return { path: pathOf(sha256), sizeBytes }
    throw new AppError(
      'store_failed',
      `Blob ${sha256} is named by the catalogue and its file is gone from ${root}. Restore it from a backup, or run the job again.`,
      { sha256 },
    )
  }

  return {
    putFile,
    async putBytes(bytes) {
      const folder = await makeTemporary('blob')
      const path = join(folder, 'bytes')
      try {
        await inStore(`storing ${bytes.byteLength} bytes`, () => fs.writeFile(path, bytes))
        return await putFile(path, createHash('sha256').update(bytes).digest('hex'))
      } finally {
        await fs.rm(folder, { recursive: true, force: true })
      }
    },
    async read(sha256) {
      const { path } = await locate(sha256)
      return inStore(`reading blob ${sha256}`, () => fs.readFile(path))
    },
    locate,
    async place(sha256, path) {
      const { path: from } = await locate(sha256)
      await inStore(`placing blob ${sha256} at ${path}`, async () => {
        await fs.mkdir(dirname(path), { recursive: true })
        try {
          await fs.link(from, path)
        } catch {
          await fs.copyFile(from, path, fs.constants.COPYFILE_FICLONE)
        }
      })
    },
    remove: (sha256) => inStore(`removing blob ${sha256}`, () => fs.rm(pathOf(sha256), { force: true })),
    list: () =>
      inStore(`listing ${root}`, async () => {
        const blobs: string[] = []
        const strays: string[] = []
        for (const folder of await fs.readdir(root, { withFileTypes: true })) {
          const path = join(root, folder.name)
          if (!folder.isDirectory() || folder.name.length !== 2) {
            strays.push(path)
            continue
          }
          for (const file of await fs.readdir(path, { withFileTypes: true })) {
            if (file.isFile() && file.name.startsWith(folder.name)) blobs.push(file.name)
            else strays.push(join(path, file.name))
          }
        }
        return { blobs, strays }
      }),
  }
}

export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
