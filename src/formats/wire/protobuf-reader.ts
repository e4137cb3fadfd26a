// Tags and lengths of a protobuf file, read one by one with the end of the enclosing message in view. Entry: WireReader.

import { AppError } from '../../errors.ts'
import type { ByteSource } from './byte-source.ts'

export class WireReader {
  readonly source: ByteSource

  constructor(source: ByteSource) {
    this.source = source
  }

  /** A varint whose value must be exact: a tag or a length. */
  varint(end: number): number {
    const start = this.source.position
    let value = 0
    let scale = 1
    for (let i = 0; i < 10; i++) {
      if (this.source.position >= end) throw this.cut('a varint', start, end)
      const byte = this.source.byte()
      value += (byte & 0x7f) * scale
      scale *= 128
      if (byte < 0x80) return value
    }
    throw this.invalid('a varint is longer than 10 bytes', start)
  }

  /** The bytes end before the field does: truncation at the end of the file, a lying length inside. */
  cut(what: string, start: number, end: number, needed?: number): AppError {
    const want = needed === undefined ? '' : ` of ${needed} bytes`
    if (end >= this.source.sizeBytes) {
      return new AppError(
        'format_truncated',
        `"${this.source.name}" ends at byte ${this.source.sizeBytes}, inside ${what}${want} that starts at byte ${start}`,
        { file: this.source.name, offsetBytes: start, sizeBytes: this.source.sizeBytes },
      )
    }
    return this.invalid(`${what}${want} reaches beyond byte ${end}, where its message ends`, start)
  }

  /** A length that fits into the enclosing message; `what` names the field in errors. */
  length(what: string, end: number): number {
    const start = this.source.position
    const length = this.varint(end)
    if (length > end - this.source.position) throw this.cut(what, start, end, length)
    return length
  }

  invalid(what: string, offsetBytes: number): AppError {
    return new AppError('format_invalid', `"${this.source.name}", byte ${offsetBytes}: ${what}`, {
      file: this.source.name,
      offsetBytes,
    })
  }
}
