// Files as contents to upload, for Node: `import { openFile } from 'tensorpress/client/node'`. Entry: openFile. fs.openAsBlob would do
// and is wrong from 4 GiB on: it keeps the lower 32 bits of the size (Node 24.21).

import { open, stat } from 'node:fs/promises'
import type { FileContent } from './client/index.ts'

/** Reads a piece when it is asked for, and keeps nothing. `slice` rejects when the file was changed meanwhile. */
export async function openFile(path: string): Promise<FileContent> {
  const { size, mtimeMs } = await stat(path)
  return {
    size,
    async slice(start, end) {
      const handle = await open(path)
      try {
        const now = await handle.stat()
        if (now.size !== size || now.mtimeMs !== mtimeMs) throw new Error(`${path} was changed while it was sent`)
        const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - start))
        let filled = 0
        while (filled < bytes.length) {
          const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, start + filled)
          if (bytesRead === 0) throw new Error(`${path} ended while it was sent`)
          filled += bytesRead
        }
        return new Blob([bytes])
      } finally {
        await handle.close()
      }
    },
  }
}
