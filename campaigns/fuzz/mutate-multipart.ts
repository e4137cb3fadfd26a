// Mutations of a multipart request: parts removed, repeated, swapped and exchanged, header lines by token, boundaries and line
// ends that do not fit, lengths that lie. Entries: mutateHead, mutateBody.

import { mutateBytes } from './mutate-bytes.ts'
import { mutateText } from './mutate-text.ts'
import type { Dice } from './random.ts'

const WORDS = [
  'multipart/form-data',
  'boundary=',
  'boundary=x',
  'boundary="a b"',
  `boundary=${'x'.repeat(80)}`,
  'application/json',
  'charset=utf-7',
  'Content-Disposition',
  'Content-Type',
  'Content-Transfer-Encoding: base64',
  'form-data',
  'attachment',
  'name="model"',
  'name="data"',
  'name="dataset"',
  'name="recipe"',
  'name="require"',
  'name="__proto__"',
  'name="a[b][c]"',
  "filename*=UTF-8''%e2%82%ac.onnx",
  "filename*=utf-8''%zz",
  'filename="../x"',
  'filename="C:\\x"',
  'filename=""',
  'filename="a\0b"',
  `filename="${'n'.repeat(400)}"`,
  'Transfer-Encoding: chunked',
  'Content-Length: 5',
  'Content-Encoding: gzip',
  'Expect: 100-continue',
  'Expect: x',
  'Prefer: wait=1e9',
  'Idempotency-Key: k',
  'Range: bytes=0-',
  'Host: evil.example',
  'Origin: http://evil.example',
  'PUT',
  'DELETE',
  'PATCH',
  '/v1/datasets',
  '/v1/models',
  '/v1/models/x.onnx',
  '/v1/compress',
  '/%ff',
  '/..%2f',
]

export function mutateHead(bytes: Uint8Array, other: Uint8Array, dice: Dice): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1')
  if (dice.chance(0.1)) return mutateBytes(bytes, other, dice)
  return Buffer.from(mutateText(text, Buffer.from(other).toString('latin1'), dice, WORDS), 'latin1')
}

/** Cut at the first line, which is the boundary where the body is whole. */
function partsOf(bytes: Uint8Array): { boundary: string; parts: string[] } {
  const text = Buffer.from(bytes).toString('latin1')
  const boundary = text.slice(0, Math.max(0, text.indexOf('\r\n')))
  return boundary === '' ? { boundary, parts: [text] } : { boundary, parts: text.split(boundary) }
}

export function mutateBody(bytes: Uint8Array, other: Uint8Array, dice: Dice): Uint8Array {
  const { boundary, parts } = partsOf(bytes)
  if (dice.chance(0.1) || parts.length < 2) return mutateBytes(bytes, other, dice)
  const at = 1 + dice.below(parts.length - 1)
  const part = parts[at]!
  switch (dice.below(7)) {
    case 0:
      parts.splice(at, 1)
      break
    case 1:
      parts.splice(at, 0, part)
      break
    case 2: {
      const second = 1 + dice.below(parts.length - 1)
      parts[at] = parts[second]!
      parts[second] = part
      break
    }
    case 3: {
      const theirs = partsOf(other).parts
      parts.splice(at, 0, dice.pick(theirs))
      break
    }
    case 4:
      parts[at] = part.replaceAll('\r\n', dice.pick(['\n', '\r', '\r\n\r\n', '', ' \r\n']))
      break
    default: {
      const end = part.indexOf('\r\n\r\n')
      const [head, content] = end < 0 ? [part, ''] : [part.slice(0, end), part.slice(end)]
      if (dice.chance(0.7)) parts[at] = mutateText(head, '', dice, WORDS) + content
      else parts[at] = head + Buffer.from(mutateBytes(Buffer.from(content, 'latin1'), other, dice)).toString('latin1')
    }
  }
  return Buffer.from(parts.join(boundary), 'latin1')
}
