// NumPy .npy array headers, versions 1.0 to 3.0: readNpyHeader, and writeNpyHeader for arrays we make ourselves.
// Spec: numpy.lib.format. Layout: 93 'NUMPY' major minor, header length (u16 in 1.0, else u32, little-endian), then a Python
// dict literal padded with spaces and '\n', then the elements. Only plain numeric dtypes are taken: objects are pickles.

import { AppError } from '../../errors.ts'
import { byteLength, type DType, elementCount } from '../../tensor/dtype.ts'

/** NumPy itself refuses to evaluate headers beyond 10,000 characters; the largest useful one is far below. */
export const MAX_NPY_HEADER_BYTES = 65_536
/** NumPy arrays have at most 64 dimensions (32 before 2.0). */
export const MAX_NPY_RANK = 64

export interface NpyHeader {
  dtype: DType
  littleEndian: boolean
  /** Column-major element order; never true for rank 0 and 1, where both orders are the same. */
  fortranOrder: boolean
  shape: number[]
  /** First byte of the elements, counted from the start of the file. */
  dataOffset: number
  /** Bytes of all elements. */
  dataBytes: number
}

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]

const DTYPE_OF: Record<string, DType> = {
  f2: 'f16',
  f4: 'f32',
  f8: 'f64',
  i1: 'i8',
  i2: 'i16',
  i4: 'i32',
  i8: 'i64',
  u1: 'u8',
  u2: 'u16',
  u4: 'u32',
  u8: 'u64',
  b1: 'bool',
}

const KINDS: Record<string, string> = {
  O: 'Python objects (a pickle, never loaded)',
  S: 'byte strings',
  U: 'text',
  V: 'raw or structured records',
  c: 'complex numbers',
  m: 'time spans',
  M: 'dates',
}

function invalid(what: string, offset: number): AppError {
  return new AppError('dataset_invalid', `not a readable .npy array: ${what} (byte ${offset})`, { offset })
}

/** Bytes that readNpyHeader needs: the whole header, or the 12 bytes that tell its length. */
export function npyHeaderBytes(head: Uint8Array): number {
  if (head.length < 12) return 12
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength)
  return head[6] === 1 ? 10 + view.getUint16(8, true) : 12 + view.getUint32(8, true)
}

/**
 * Parses the header at the start of `head`.
 * @throws AppError dataset_invalid naming the byte, and dtype_unsupported naming the dtype.
 */
export function readNpyHeader(head: Uint8Array): NpyHeader {
  MAGIC.forEach((byte, i) => {
    if (head[i] !== byte) throw invalid('it does not start with \\x93NUMPY', i)
  })
  const major = head[6] ?? 0
  if (head.length < 12) throw invalid('it ends inside the header', head.length)
  if (major < 1 || major > 3) throw invalid(`version ${major}.${head[7]}; 1.0, 2.0 and 3.0 are read`, 6)
  const dataOffset = npyHeaderBytes(head)
  const textOffset = major === 1 ? 10 : 12
  if (dataOffset - textOffset > MAX_NPY_HEADER_BYTES)
    throw new AppError('limit_exceeded', `the .npy header has ${dataOffset - textOffset} bytes`, {
      limit: 'npy_header_bytes',
      allowed: MAX_NPY_HEADER_BYTES,
      requested: dataOffset - textOffset,
    })
  if (head.length < dataOffset) throw invalid('it ends inside the header', head.length)
  const text = decodeText(head.subarray(textOffset, dataOffset), major === 3, textOffset)
  const fields = new LiteralReader(text, textOffset).readDict()

  const order = fields.get('fortran_order')
  const shape = fields.get('shape')
  if (typeof order !== 'boolean' || !Array.isArray(shape) || !fields.has('descr') || fields.size !== 3)
    throw invalid("the header must hold exactly 'descr', 'fortran_order' and 'shape'", textOffset)
  const { dtype, littleEndian } = parseDescr(fields.get('descr'), textOffset)
  const dataBytes = byteLength(dtype, elementCount(shape))
  if (!Number.isSafeInteger(dataBytes)) throw invalid(`shape (${shape.join(', ')}) is beyond 2^53 bytes`, textOffset)
  return { dtype, littleEndian, fortranOrder: order && shape.length > 1, shape, dataOffset, dataBytes }
}

function parseDescr(descr: unknown, offset: number): { dtype: DType; littleEndian: boolean } {
  if (typeof descr !== 'string') throw new AppError('dtype_unsupported', 'a .npy array of structured records', {})
  const match = /^([<>=|]?)([a-zA-Z])([0-9]*)/.exec(descr)
  const kind = match?.[2] ?? ''
  const dtype = match && match[0] === descr ? DTYPE_OF[kind + match[3]] : undefined
  if (!dtype) {
    const what = KINDS[kind]
    const detail = `.npy dtype '${descr}'${what ? ` (${what})` : ''}; supported are ${Object.keys(DTYPE_OF).join(' ')}`
    throw new AppError('dtype_unsupported', detail, { dtype: descr, offset })
  }
  return { dtype, littleEndian: match?.[1] !== '>' }
}

function decodeText(bytes: Uint8Array, utf8: boolean, offset: number): string {
  if (!utf8) return Buffer.from(bytes).toString('latin1')
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw invalid('the header is not UTF-8', offset)
  }
}

type Literal = string | boolean | number[] | null

/** Reads the one shape of Python literal that NumPy writes: {'key': 'text' | True | False | (1, 2,)}. */
class LiteralReader {
  readonly #text: string
  readonly #base: number
  #at = 0

  constructor(text: string, base: number) {
    this.#text = text
    this.#base = base
  }

  readDict(): Map<string, Literal> {
    const fields = new Map<string, Literal>()
    this.#expect('{')
    while (!this.#take('}')) {
      const key = this.#string()
      if (fields.has(key)) throw this.#error(`key '${key}' twice`)
      this.#expect(':')
      fields.set(key, this.#value())
      if (!this.#take(',')) {
        this.#expect('}')
        break
      }
    }
    this.#skip()
    if (this.#at < this.#text.length) throw this.#error('text after the dict')
    return fields
  }

  #value(): Literal {
    this.#skip()
    const char = this.#text[this.#at]
    if (char === "'" || char === '"') return this.#string()
    if (char === '(') return this.#tuple()
    if (this.#take('True')) return true
    if (this.#take('False')) return false
    if (char === '[') return this.#skipList()
    throw this.#error('a value that is no string, tuple, True or False')
  }

  /** A structured descr; its content does not matter, since it is refused. */
  #skipList(): null {
    let depth = 0
    do {
      const char = this.#text[this.#at++]
      if (char === undefined) throw this.#error('a list without end')
      if (char === '[') depth++
      if (char === ']') depth--
    } while (depth > 0)
    return null
  }

  #tuple(): number[] {
    const values: number[] = []
    this.#expect('(')
    while (!this.#take(')')) {
      this.#skip()
      const digits = /^[0-9]{1,19}/.exec(this.#text.slice(this.#at, this.#at + 20))?.[0]
      if (digits === undefined) throw this.#error('a dimension that is no whole number')
      const value = Number(digits)
      if (!Number.isSafeInteger(value)) throw this.#error(`a dimension of ${digits}`)
      values.push(value)
      if (values.length > MAX_NPY_RANK) throw this.#error(`more than ${MAX_NPY_RANK} dimensions`)
      this.#at += digits.length
      this.#take('L') // Python 2 wrote 3L
      if (!this.#take(',')) {
        this.#expect(')')
        break
      }
    }
    return values
  }

  #string(): string {
    this.#skip()
    const quote = this.#text[this.#at]
    if (quote !== "'" && quote !== '"') throw this.#error('no string where one belongs')
    const end = this.#text.indexOf(quote, this.#at + 1)
    if (end < 0) throw this.#error('a string without end')
    const value = this.#text.slice(this.#at + 1, end)
    this.#at = end + 1
    return value
  }

  #skip(): void {
    while (' \n\t\r'.includes(this.#text[this.#at] ?? 'x')) this.#at++
  }

  #take(token: string): boolean {
    this.#skip()
    if (!this.#text.startsWith(token, this.#at)) return false
    this.#at += token.length
    return true
  }

  #expect(token: string): void {
    if (!this.#take(token)) throw this.#error(`no '${token}' where one belongs`)
  }

  #error(what: string): AppError {
    return invalid(`the header has ${what}`, this.#base + this.#at)
  }
}
