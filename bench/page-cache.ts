// The page cache of the machine, emptied so that a model comes from the disk. Linux and root only. Entry: dropPageCache.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

/** 3: file contents, and directory entries with inodes. */
const DROP_EVERYTHING = '3\n'

/** Null when it is empty now; otherwise why that could not be done. Only clean pages can go, so what is dirty is written first. */
export function dropPageCache(): string | null {
  if (process.platform !== 'linux') return `not possible on ${process.platform}`
  spawnSync('sync')
  try {
    writeFileSync('/proc/sys/vm/drop_caches', DROP_EVERYTHING)
    return null
  } catch (error) {
    return `/proc/sys/vm/drop_caches: ${(error as NodeJS.ErrnoException).code ?? error}`
  }
}
