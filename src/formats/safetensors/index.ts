// The safetensors format: recognition by content, companions of an index, and the door to the reader.
// Spec: the format section of the safetensors library; shards and index: the layout of the Hugging Face libraries.

import { access, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AppError } from '../../errors.ts'
import type { ModelFormat, SourceFile } from '../../tensor/model.ts'
import { MAX_HEADER_BYTES } from './header.ts'
import { CONFIG_NAME } from './layout.ts'
import { openSafetensors } from './reader.ts'
import { INDEX_SUFFIX, MAX_INDEX_BYTES, readShardIndex } from './shard-index.ts'

export const safetensors: ModelFormat = {
  id: 'safetensors',
  extensions: ['.safetensors'],

  match(head, name, sizeBytes) {
    if (name.endsWith(INDEX_SUFFIX)) return 0.9
    if (head.length > 8 && head[8] === 0x7b) {
      const declared = Buffer.from(head.buffer, head.byteOffset, 8).readBigUInt64LE()
      if (declared >= 2n && declared <= BigInt(MAX_HEADER_BYTES) && declared + 8n <= BigInt(sizeBytes)) return 1
    }
    // A damaged file is worth a precise error: by its name, but only when nothing else claims the content.
    return name.endsWith('.safetensors') ? 0.05 : 0
  },

  async companions(main) {
    if (!main.name.endsWith(INDEX_SUFFIX)) return []
    const { weightMap } = readShardIndex(await readIndexFile(main), main.name)
    const names = [...new Set(weightMap.values())]
    const config = join(dirname(main.path), CONFIG_NAME)
    const hasConfig = await access(config).then(
      () => true,
      () => false,
    )
    return hasConfig ? [...names, CONFIG_NAME] : names
  },

  open: openSafetensors,
}

async function readIndexFile(main: SourceFile): Promise<Uint8Array> {
  const handle = await open(main.path).catch((error: NodeJS.ErrnoException) => {
    throw new AppError('store_failed', `"${main.name}" cannot be opened: ${error.code}`, { file: main.name }, error)
  })
  try {
    const { size } = await handle.stat()
    if (size > MAX_INDEX_BYTES)
      throw new AppError('limit_exceeded', `"${main.name}" has ${size} bytes, allowed ${MAX_INDEX_BYTES}`, {
        limit: 'json_bytes',
        allowed: MAX_INDEX_BYTES,
        requested: size,
      })
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}
