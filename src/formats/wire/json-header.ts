// Strict JSON from untrusted bytes, for headers and indexes: parseJson. Unlike JSON.parse it refuses duplicate keys, invalid
// UTF-8 and deep nesting, keeps integers beyond 2^53 exact (as bigint), keeps member order, and names the byte at fault.
// Spec: RFC 8259.

import { AppError } from '../../errors.ts'

/** Objects are Maps, so that no key (`__proto__` included) is special and order is the file's. */
export type JsonValue = string | number | bigint | boolean | null | JsonValue[] | JsonObject
export type JsonObject = Map<string, JsonValue>

export interface JsonLimits {
  /** File name, for errors. */
  file: string
  /** Offset of the first byte of the text inside the file, for errors. */
  baseOffset: number
  /** Levels of arrays and objects. Headers need 3; configurations of real models stay below 10. */
  maxDepth: number
  /** Members over all objects together. */
  maxMembers: number
}

/** Any double has a form that is far shorter; longer texts only cost time. */
const MAX_NUMBER_CHARACTERS = 400

const QUOTE = 0x22
const BACKSLASH = 0x5c

const ESCAPES: Record<string, string> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
}

/** Parses exactly one JSON text. Throws format_invalid (file and byte named) or limit_exceeded. */
export function parseJson(bytes: Uint8Array, limits: JsonLimits): JsonValue {
  return new Parser(bytes, limits).parseWhole()
}

class Parser {
  readonly #bytes: Uint8Array
  readonly #text: Buffer
  readonly #limits: JsonLimits
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  #at = 0
  #members = 0

  constructor(bytes: Uint8Array, limits: JsonLimits) {
    this.#bytes = bytes
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#limits = limits
  }

  parseWhole(): JsonValue {
    const value = this.#value(0)
    this.#skipSpace()
    if (this.#at < this.#bytes.length) throw this.#error('text after the end of the JSON value')
    return value
  }

  #value(depth: number): JsonValue {
    this.#skipSpace()
    const byte = this.#bytes[this.#at]
    switch (byte) {
      case 0x7b:
        return this.#object(depth + 1)
      case 0x5b:
        return this.#array(depth + 1)
      case QUOTE:
        return this.#string()
      case 0x74:
        return this.#word('true', true)
      case 0x66:
        return this.#word('false', false)
      case 0x6e:
        return this.#word('null', null)
      default:
        return this.#number()
    }
  }

  #object(depth: number): JsonObject {
    this.#checkDepth(depth)
    const members: JsonObject = new Map()
    this.#at++
    this.#skipSpace()
    if (this.#take(0x7d)) return members
    do {
      this.#skipSpace()
      const keyAt = this.#at
      if (this.#bytes[keyAt] !== QUOTE) throw this.#error('no "key" where one belongs')
      const key = this.#string()
      if (members.has(key)) throw this.#error(`the key ${JSON.stringify(clip(key))} twice`, keyAt)
      if (++this.#members > this.#limits.maxMembers) throw this.#limit('json_members', this.#limits.maxMembers)
      this.#skipSpace()
      if (!this.#take(0x3a)) throw this.#error('no ":" after a key')
      members.set(key, this.#value(depth))
      this.#skipSpace()
    } while (this.#take(0x2c))
    if (!this.#take(0x7d)) throw this.#error('an object that is not closed')
    return members
  }

  #array(depth: number): JsonValue[] {
    this.#checkDepth(depth)
    const values: JsonValue[] = []
    this.#at++
    this.#skipSpace()
    if (this.#take(0x5d)) return values
    do {
      values.push(this.#value(depth))
      this.#skipSpace()
    } while (this.#take(0x2c))
    if (!this.#take(0x5d)) throw this.#error('an array that is not closed')
    return values
  }

  #string(): string {
    const start = ++this.#at
    let escaped = false
    let ascii = true
    for (;;) {
      const byte = this.#bytes[this.#at]
      if (byte === undefined) throw this.#error('a string without end')
      if (byte === QUOTE) break
      if (byte < 0x20) throw this.#error('a control character inside a string')
      if (byte === BACKSLASH) {
        escaped = true
        this.#at++
      }
      if (byte >= 0x80) ascii = false
      this.#at++
    }
    const end = this.#at++
    const raw = ascii ? this.#text.toString('latin1', start, end) : this.#decode(start, end)
    return escaped ? this.#unescape(raw, start) : raw
  }

  #decode(start: number, end: number): string {
    try {
      return this.#utf8.decode(this.#bytes.subarray(start, end))
    } catch {
      throw this.#error('a string that is not UTF-8', start)
    }
  }

  #unescape(raw: string, start: number): string {
    const text = raw.replace(/\\(u[0-9a-fA-F]{4}|[\s\S])/g, (_match, code: string) => {
      if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16))
      const char = ESCAPES[code]
      if (char === undefined) throw this.#error(`the escape \\${code}, which JSON does not have`, start)
      return char
    })
    if (!text.isWellFormed()) throw this.#error('half of a surrogate pair', start)
    return text
  }

  #number(): number | bigint {
    const start = this.#at
    let end = start
    while (isNumberByte(this.#bytes[end])) end++
    if (end - start > MAX_NUMBER_CHARACTERS) throw this.#limit('json_number_characters', MAX_NUMBER_CHARACTERS)
    const text = this.#text.toString('latin1', start, end)
    if (!/^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/.test(text))
      throw this.#error(end === start ? 'no value where one belongs' : `the malformed number ${clip(text)}`, start)
    this.#at = end
    const value = Number(text)
    return Number.isSafeInteger(value) || /[.eE]/.test(text) ? value : BigInt(text)
  }

  #word<T extends boolean | null>(word: string, value: T): T {
    if (this.#text.toString('latin1', this.#at, this.#at + word.length) !== word)
      throw this.#error('no value where one belongs')
    this.#at += word.length
    return value
  }

  #skipSpace(): void {
    for (;;) {
      const byte = this.#bytes[this.#at]
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return
      this.#at++
    }
  }

  #take(byte: number): boolean {
    if (this.#bytes[this.#at] !== byte) return false
    this.#at++
    return true
  }

  #checkDepth(depth: number): void {
    if (depth > this.#limits.maxDepth) throw this.#limit('json_depth', this.#limits.maxDepth)
  }

  #limit(name: string, allowed: number): AppError {
    const { file } = this.#limits
    const offset = this.#limits.baseOffset + this.#at
    return new AppError('limit_exceeded', `"${file}" exceeds the limit ${name} (${allowed}) at byte ${offset}`, {
      file,
      offset,
      limit: name,
      allowed,
      requested: allowed + 1,
    })
  }

  #error(what: string, at = this.#at): AppError {
    const { file, baseOffset } = this.#limits
    const offset = baseOffset + at
    return new AppError('format_invalid', `the JSON of "${file}" has ${what} (byte ${offset})`, { file, offset })
  }
}

function isNumberByte(byte: number | undefined): boolean {
  if (byte === undefined) return false
  return (
    (byte >= 0x30 && byte <= 0x39) || byte === 0x2d || byte === 0x2b || byte === 0x2e || byte === 0x65 || byte === 0x45
  )
}

/** Long names are cut in messages. */
export function clip(text: string): string {
  return text.length > 120 ? `${text.slice(0, 117)}...` : text
}
