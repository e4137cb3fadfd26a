// Resumable uploads (tus 1.0) against the real Express app: a few requests on one upload, each as bytes. No answer may blame the
// server, the offset grows by exactly what was sent, and what is finished is what was sent.
// A file of the input is one request: its name is method and path, its bytes are header lines, an empty line and the body.

import { createHash } from 'node:crypto'
import { type Answer, exchange, judgeAnswer } from './http-exchange.ts'
import { mutateBytes } from './mutate-bytes.ts'
import { mutateText } from './mutate-text.ts'
import type { Dice } from './random.ts'
import { type RealApp, startRealApp } from './real-app.ts'
import { type FuzzFile, type FuzzInput, type FuzzTarget, withBytes } from './target.ts'
import { safetensorsSeeds } from './target-safetensors.ts'

const BLANK = '\r\n\r\n'
const BYTES = 'Content-Type: application/offset+octet-stream'
const TUS = 'Tus-Resumable: 1.0.0'
/** Requests of one case; more say nothing new. */
const MAX_REQUESTS = 8
const SWEEP_CASES = 50
const PATIENCE_MS = 60_000

const WORDS = [
  'Upload-Length: 0',
  'Upload-Length: 10',
  'Upload-Length: 65537',
  'Upload-Length: 1e3',
  'Upload-Length: -1',
  'Upload-Length: 9007199254740993',
  'Upload-Defer-Length: 1',
  'Upload-Offset: 0',
  'Upload-Offset: 1',
  'Upload-Offset: 99999999999999999999',
  'Upload-Concat: partial',
  'Upload-Concat: final;/v1/uploads/x',
  'Upload-Checksum: sha1 AAAA',
  'Tus-Resumable: 0.2.2',
  'X-HTTP-Method-Override: DELETE',
  'filename',
  'filename bS5zYWZldGVuc29ycw==',
  'kind ZGF0YXNldA==',
  'kind bW9kZWw=',
  'set YQ==',
  'sha256',
  'sha256 YWJj',
  '__proto__ YQ==',
  'filename Li4veA==',
  'Content-Type: application/json',
  'Forwarded: host=evil',
  'X-Forwarded-Host: evil',
  'Content-Encoding: gzip',
]

function request(name: string, headers: readonly string[], body: Uint8Array = new Uint8Array()): FuzzFile {
  return { name, bytes: Uint8Array.from(Buffer.concat([Buffer.from(headers.join('\r\n') + BLANK), body])) }
}

/** Header lines and body; without an empty line all of it is header lines. */
function partsOf({ bytes }: FuzzFile): { headers: string; body: Uint8Array } {
  const at = Buffer.from(bytes).indexOf(BLANK)
  if (at < 0) return { headers: Buffer.from(bytes).toString('latin1'), body: new Uint8Array() }
  return { headers: Buffer.from(bytes).toString('latin1', 0, at), body: bytes.subarray(at + BLANK.length) }
}

function mutateRequest(file: FuzzFile, other: FuzzFile, dice: Dice): Uint8Array {
  const { headers, body } = partsOf(file)
  if (body.length > 0 && dice.chance(0.4)) {
    return request('', headers.split('\r\n'), mutateBytes(body, partsOf(other).body, dice)).bytes
  }
  const changed = mutateText(headers, partsOf(other).headers, dice, WORDS).split(BLANK)[0]!
  return request('', changed.split('\r\n'), body).bytes
}

let app: RealApp | null = null
let cases = 0

interface Upload {
  id: string
  /** Those that an earlier request of the case made. */
  others: string[]
  sent: Uint8Array[]
}

/** Sends one request; keeps account of the bytes that were taken. */
async function send(file: FuzzFile, upload: Upload): Promise<Answer> {
  const { headers, body } = partsOf(file)
  const [method = '', path = ''] = file.name.split(' ')
  // Framing is fuzzed elsewhere (multipart): here every request is whole.
  const lines = headers
    .split(/\r\n|\r|\n/)
    .filter(
      (line) =>
        /^[A-Za-z][\w-]*: [ -~]+$/.test(line) &&
        !/^(content-length|transfer-|connection|host|expect|upgrade)/i.test(line),
    )
  const head = [
    `${method} ${path.replace('{id}', upload.id)} HTTP/1.1`,
    'Host: 127.0.0.1',
    ...lines,
    `Content-Length: ${body.length}`,
    'Connection: close',
    BLANK.slice(2),
  ].join('\r\n')
  const answer = await exchange(app!.port, Buffer.from(head, 'latin1'), body, PATIENCE_MS, method === 'HEAD')
  if (answer === null) throw new Error(`${file.name} got no answer`)
  const before = upload.sent.reduce((sum, bytes) => sum + bytes.length, 0)
  if (method === 'POST' && answer.status === 201) {
    upload.others.push(upload.id)
    upload.id = answer.headers['location']?.split('/').at(-1) ?? ''
    upload.sent = [body]
    expectOffset(answer, body.length)
  } else if (method === 'PATCH' && answer.status === 204) {
    upload.sent.push(body)
    expectOffset(answer, before + body.length)
  } else if (method === 'HEAD' && answer.status === 200) expectOffset(answer, before)
  return answer
}

function expectOffset({ headers }: Answer, expected: number): void {
  const found = headers['upload-offset'] ?? '0'
  if (found !== String(expected)) throw new Error(`Upload-Offset is ${found} after ${expected} bytes were taken`)
}

/** What the server says of the upload in the end agrees with what was sent. */
async function audit(upload: Upload): Promise<void> {
  const answer = await send(request('GET /v1/uploads/{id}', []), upload)
  if (answer.status === 404) return
  judgeAnswer(answer)
  const view = JSON.parse(answer.body) as { state: string; sha256: string | null; offset: number; sizeBytes: number }
  if (view.offset > view.sizeBytes) throw new Error(`${view.offset} bytes of ${view.sizeBytes} are stored`)
  const hash = createHash('sha256')
  for (const bytes of upload.sent) hash.update(bytes)
  if (view.state === 'finished' && view.sha256 !== hash.digest('hex'))
    throw new Error('what was stored is not what was sent')
  await send(request('DELETE /v1/uploads/{id}', [TUS]), upload)
}

export const target: FuzzTarget = {
  name: 'tus',
  guided: true,
  maxBytes: 64 * 1024,
  async setUp() {
    app = await startRealApp()
  },
  async tearDown() {
    await app?.close()
  },
  seeds(): FuzzInput[] {
    const model = safetensorsSeeds()[1]!
    const metadata = 'Upload-Metadata: filename bS5zYWZldGVuc29ycw=='
    const create = [TUS, `Upload-Length: ${model.length}`, metadata]
    const patch = (offset: number, body: Uint8Array) =>
      request('PATCH /v1/uploads/{id}', [TUS, `Upload-Offset: ${offset}`, BYTES], body)
    const head = request('HEAD /v1/uploads/{id}', [TUS])
    const half = model.length >> 1
    return [
      [request('POST /v1/uploads', create), patch(0, model)],
      [request('POST /v1/uploads', create), patch(0, model.subarray(0, half)), head, patch(half, model.subarray(half))],
      [request('POST /v1/uploads', [...create, BYTES], model.subarray(0, half)), patch(half, model.subarray(half))],
      [
        request('POST /v1/uploads', [TUS, `Upload-Length: ${model.length}`, `${metadata},set YQ==`]),
        patch(0, model),
        head,
      ],
      [request('POST /v1/uploads', create), request('DELETE /v1/uploads/{id}', [TUS]), head],
      [request('OPTIONS /v1/uploads', [])],
    ]
  },
  mutate(input, other, dice) {
    const at = dice.below(input.length)
    switch (dice.below(8)) {
      case 0:
        return input.length > 1 ? input.filter((_, index) => index !== at) : input
      case 1:
        return input.length < MAX_REQUESTS ? [...input.slice(0, at), input[at]!, ...input.slice(at)] : input
      case 2:
        return input.length < MAX_REQUESTS
          ? [...input.slice(0, at + 1), dice.pick(other), ...input.slice(at + 1)]
          : input
      default:
        return withBytes(input, at, mutateRequest(input[at]!, dice.pick(other), dice))
    }
  },
  async run(input) {
    if (++cases % SWEEP_CASES === 0) await app!.sweep()
    const upload: Upload = { id: 'none', others: [], sent: [] }
    let refusal: unknown = null
    for (const file of input) {
      const answer = await send(file, upload)
      try {
        judgeAnswer(answer, file.name.startsWith('HEAD '))
      } catch (error) {
        // A refusal of one request does not end the case: what comes after it is what interests.
        refusal ??= error
        if (answer.status >= 500) throw error
      }
    }
    await audit(upload)
    for (const id of upload.others) await send(request('DELETE /v1/uploads/{id}', [TUS]), { id, others: [], sent: [] })
    if (refusal !== null) throw refusal
    return 'carried out'
  },
}
