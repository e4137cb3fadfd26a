// Hands the body of a request to the multipart parser and ends what the parser leaves open: after the last boundary it goes on
// to announce parts and never ends their files, so that whoever reads one would wait for ever. Entry: feedMultipart.

import { Readable, type Writable } from 'node:stream'
import { AppError } from '../errors.ts'

/** In place of `request.pipe(parser)`. */
export function feedMultipart(request: Readable, parser: Writable): void {
  let open: Readable | null = null
  parser.on('file', (_name: unknown, file: Readable) => {
    open = file
    // The parser ends a file by pushing null; what is read of it may come much later.
    file.push = (chunk: unknown, encoding?: BufferEncoding) => {
      if (chunk === null && open === file) open = null
      return Readable.prototype.push.call(file, chunk, encoding)
    }
  })
  request.once('end', () => {
    // Called back when everything before it has been parsed.
    parser.write(Buffer.alloc(0), (error) => {
      if (error) return
      parser.end()
      // The parser itself refuses a body without a last boundary, in its own words.
      setImmediate(() => void open?.destroy(behindTheEnd()))
    })
  })
  request.pipe(parser, { end: false })
}

export function behindTheEnd(): AppError {
  return new AppError('request_invalid', 'The multipart body goes on behind its last boundary.', { path: 'body' })
}
