// Recognises what a file is from its first bytes: which model format should open it, and, when none should, what it looks
// like instead, so that the error helps. Entry functions: detectFormat (needs the list of formats) and describeContent.

import { open, stat } from 'node:fs/promises'
import { AppError } from '../errors.ts'
import type { ModelFormat, SourceFile } from '../tensor/model.ts'

/** Bytes of the start of a file that recognition sees. Every signature below lies inside; tar's is the last, at 257. */
export const HEAD_BYTES = 4096

interface Signature {
  what: string
  offset: number
  bytes: string
}

/** `bytes` is latin-1 text. The first match wins, so longer signatures stand before their prefixes. */
const SIGNATURES: readonly Signature[] = [
  { what: 'a TensorFlow Lite model', offset: 4, bytes: 'TFL3' },
  { what: 'an onnxruntime model (.ort)', offset: 4, bytes: 'ORTM' },
  { what: 'a GGUF model', offset: 0, bytes: 'GGUF' },
  { what: 'a GGML model', offset: 0, bytes: 'lmgg' },
  { what: 'a GGML model', offset: 0, bytes: 'tjgg' },
  { what: 'an HDF5 file (Keras .h5)', offset: 0, bytes: '\x89HDF\r\n\x1a\n' },
  { what: 'a NumPy array (.npy)', offset: 0, bytes: '\x93NUMPY' },
  { what: 'a zip archive (PyTorch, Keras or .npz)', offset: 0, bytes: 'PK\x03\x04' },
  { what: 'an empty zip archive', offset: 0, bytes: 'PK\x05\x06' },
  { what: 'a PNG image', offset: 0, bytes: '\x89PNG' },
  { what: 'a JPEG image', offset: 0, bytes: '\xff\xd8\xff' },
  { what: 'a GIF image', offset: 0, bytes: 'GIF8' },
  { what: 'a RIFF file (WAV, AVI or WebP)', offset: 0, bytes: 'RIFF' },
  { what: 'a PDF document', offset: 0, bytes: '%PDF' },
  { what: 'a gzip file', offset: 0, bytes: '\x1f\x8b' },
  { what: 'a zstd file', offset: 0, bytes: '\x28\xb5\x2f\xfd' },
  { what: 'an xz file', offset: 0, bytes: '\xfd7zXZ' },
  { what: 'a bzip2 file', offset: 0, bytes: 'BZh' },
  { what: 'a 7z archive', offset: 0, bytes: "7z\xbc\xaf'\x1c" },
  { what: 'a tar archive', offset: 257, bytes: 'ustar' },
  { what: 'an ELF program', offset: 0, bytes: '\x7fELF' },
  { what: 'a Windows program', offset: 0, bytes: 'MZ\x90' },
  { what: 'an SQLite database', offset: 0, bytes: 'SQLite format 3' },
  { what: 'a Git LFS pointer (the model itself was not downloaded)', offset: 0, bytes: 'version https://git-lfs' },
]

/** Says in a few words what the content is, or null when nothing is known about it. `head` is the start of the file. */
export function describeContent(head: Uint8Array): string | null {
  if (head.length === 0) return 'an empty file'
  const text = Buffer.from(head.buffer, head.byteOffset, head.byteLength).toString('latin1')
  for (const signature of SIGNATURES) {
    if (text.startsWith(signature.bytes, signature.offset)) return signature.what
  }
  // A pickle stream: PROTO opcode 0x80, protocol 2..5, then a framing, list, dict, tuple or global opcode.
  if (head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5 && head.length > 2) return 'a Python pickle'
  const start = text.replace(/^\xef\xbb\xbf/, '').trimStart()
  if (/^<(!doctype html|html|head|body)/i.test(start)) return 'an HTML page'
  if (/^<\?xml|^<svg/i.test(start)) return 'an XML document'
  if (/^[[{]\s*["[{\]}]/.test(start)) return 'JSON'
  if (head.every((byte) => byte === 0)) return 'a run of zero bytes'
  return isText(head) ? 'plain text' : null
}

/** UTF-8 without control characters; `head` may end inside a character. */
function isText(head: Uint8Array): boolean {
  if (head.some((byte) => (byte < 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d) || byte === 0x7f))
    return false
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(head, { stream: true })
    return true
  } catch {
    return false
  }
}

/** Reads up to HEAD_BYTES from the start of a file. Throws not_found or store_failed when it cannot be opened. */
export async function readHead(file: SourceFile): Promise<Uint8Array> {
  const cannotOpen = (error: NodeJS.ErrnoException): never => {
    const code = error.code === 'ENOENT' ? 'not_found' : 'store_failed'
    throw new AppError(code, `"${file.name}" cannot be opened: ${error.code ?? error.message}`, { file: file.name })
  }
  // Asked first: opening a pipe would wait for its other end.
  const { isFile } = await stat(file.path).then((found) => ({ isFile: found.isFile() }), cannotOpen)
  if (!isFile) {
    throw new AppError('format_unrecognised', `"${file.name}" is not a regular file`, { file: file.name })
  }
  const handle = await open(file.path, 'r').catch(cannotOpen)
  try {
    const head = new Uint8Array(HEAD_BYTES)
    const { bytesRead } = await handle.read(head, 0, HEAD_BYTES, 0).catch((error: NodeJS.ErrnoException) => {
      throw new AppError('store_failed', `"${file.name}" cannot be read: ${error.code ?? error.message}`, {
        file: file.name,
      })
    })
    return head.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}

/**
 * Picks the format that should open these files: the best match over all files and formats, the earlier file on ties.
 * Throws format_unrecognised, saying what the first file looks like.
 */
export async function detectFormat(
  files: readonly SourceFile[],
  formats: readonly ModelFormat[],
): Promise<ModelFormat> {
  let best: { score: number; format: ModelFormat } | null = null
  let firstHead: Uint8Array | null = null
  for (const file of files) {
    const head = await readHead(file)
    firstHead ??= head
    for (const format of formats) {
      const score = format.match(head, file.name, file.sizeBytes)
      if (score > 0 && score > (best?.score ?? 0)) best = { score, format }
    }
  }
  if (best) return best.format
  const first = files[0]
  if (!first || !firstHead) throw new AppError('format_unrecognised', 'no file was given')
  const looksLike = describeContent(firstHead)
  throw new AppError(
    'format_unrecognised',
    `"${first.name}" is not a model that can be read: ` +
      `${looksLike ? `it looks like ${looksLike}` : 'its content is not known'}; allowed: ${formats.map((f) => f.id).join(', ')}`,
    { file: first.name, looksLike, allowed: formats.map((f) => f.id) },
  )
}
