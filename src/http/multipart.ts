// Multipart bodies through multer with a storage engine of our own: files go straight into an Upload (which hashes and
// stores them), small texts into fields. Entry: receiveMultipart. The first error wins and is thrown at once, without
// waiting for the rest of a body that may be gigabytes.

import type { Readable, Writable } from 'node:stream'
import type { Request, Response } from 'express'
import multer from 'multer'
import type { Limits } from '../config.ts'
import { AppError } from '../errors.ts'
import { behindTheEnd, feedMultipart } from './feed-multipart.ts'

export interface MultipartRules {
  /** Parts with a file name, by part name: called in the order of the body, one after the other. */
  files: Record<string, (fileName: string, stream: Readable) => Promise<void>>
  /** Text parts that may come, each at most once, as text or as a small file. */
  fields: readonly string[]
}

/** Field names of this API are short; what is longer is an attack on the parser. */
const MAX_FIELD_NAME_BYTES = 100
/** Header lines of one part: Content-Disposition, Content-Type and few others. */
const MAX_PART_HEADERS = 16

/** Resolves with the text fields. Throws request_invalid, content_type_unsupported, body_too_large, and what `files` throws. */
export function receiveMultipart(
  request: Request,
  response: Response,
  limits: Limits,
  rules: MultipartRules,
): Promise<Record<string, string>> {
  if (!request.is('multipart/form-data')) {
    throw new AppError(
      'content_type_unsupported',
      `This call takes multipart/form-data, not ${request.get('content-type') ?? 'a body without Content-Type'}.`,
      { allowed: ['multipart/form-data'] },
    )
  }
  const fields: Record<string, string> = {}
  return new Promise((resolve, reject) => {
    const takeField = (name: string, value: unknown) => {
      if (!rules.fields.includes(name)) throw unknownPart(name, rules)
      if (typeof value !== 'string' || Object.hasOwn(fields, name)) {
        throw new AppError('request_invalid', `Part "${name}" must be one text; it comes twice or is nested.`, {
          path: name,
        })
      }
      fields[name] = value
    }
    // Files are handed on in the order of the body, although the parser may announce one before the last is on disk.
    let earlier: Promise<void> = Promise.resolve()
    let failure: unknown = null
    // A part may be announced after the answer was decided: nobody would wait for it, so its file must end at once.
    const unfinished = new Set<Readable>()
    let over = false
    const end = () => {
      over = true
      for (const stream of unfinished) stream.destroy()
    }
    const storage: multer.StorageEngine = {
      _handleFile(_request, file, done) {
        const take = Object.hasOwn(rules.files, file.fieldname) ? rules.files[file.fieldname] : undefined
        const work = failure
          ? Promise.reject(failure)
          : take
            ? earlier.then(() => (over ? Promise.reject(behindTheEnd()) : take(file.originalname, file.stream)))
            : rules.fields.includes(file.fieldname)
              ? readText(file.stream, file.fieldname, limits).then((text) => takeField(file.fieldname, text))
              : Promise.reject(unknownPart(file.fieldname, rules))
        earlier = work.catch(() => {})
        unfinished.add(file.stream)
        work.then(
          () => {
            unfinished.delete(file.stream)
            done(null, {})
          },
          (error: unknown) => {
            unfinished.delete(file.stream)
            failure ??= error
            reject(failure)
            file.stream.resume()
            done(error)
          },
        )
      },
      // The owner of the Upload discards it as a whole.
      _removeFile: (_request, _file, done) => done(null),
    }
    const options: multer.Options & { streamHandler(request: Readable, parser: Writable): void } = {
      storage,
      streamHandler: feedMultipart,
      preservePath: true,
      defParamCharset: 'utf8',
      limits: {
        fileSize: limits.uploadBytes,
        files: limits.uploadParts,
        // One more than there are, so that an unknown one is refused by its name.
        fields: rules.fields.length + 1,
        fieldSize: limits.jsonBytes,
        fieldNameSize: MAX_FIELD_NAME_BYTES,
        headerPairs: MAX_PART_HEADERS,
      },
    }
    multer(options).any()(request, response, (error: unknown) => {
      end()
      if (error) return reject(error)
      try {
        for (const [name, value] of Object.entries((request.body ?? {}) as Record<string, unknown>)) {
          takeField(name, value)
        }
        resolve(fields)
      } catch (cause) {
        reject(cause)
      }
    })
  })
}

function unknownPart(name: string, rules: MultipartRules): AppError {
  const allowed = [...Object.keys(rules.files), ...rules.fields]
  return new AppError('request_invalid', `Part "${name}" is unknown; this call takes ${allowed.join(', ')}.`, {
    path: name,
    allowed,
  })
}

async function readText(stream: Readable, name: string, limits: Limits): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > limits.jsonBytes) {
      throw new AppError('body_too_large', `Part "${name}" is larger than ${limits.jsonBytes} bytes.`, {
        limit: 'jsonBytes',
        allowed: limits.jsonBytes,
        requested: size,
      })
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
