// Files that survive a power cut: contents are synced before a rename makes them visible, and the folder is synced after.

import { constants } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** Makes the names in a folder durable. Windows has no such call and needs none. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await fs.open(path, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export async function syncFile(path: string): Promise<void> {
  const handle = await fs.open(path, 'r+')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Renames a synced file or folder to its place, replacing a file there, and makes the new name durable. */
export async function publish(from: string, to: string): Promise<void> {
  await fs.mkdir(dirname(to), { recursive: true })
  await fs.rename(from, to)
  await syncFolder(dirname(to))
}

/** Syncs every folder of a tree, leaves first (its files were synced as they were written). */
export async function syncTree(root: string): Promise<void> {
  for (const entry of await fs.readdir(root, { withFileTypes: true })) {
    if (entry.isDirectory()) await syncTree(join(root, entry.name))
  }
  await syncFolder(root)
}
