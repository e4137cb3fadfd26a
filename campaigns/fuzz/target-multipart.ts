// Uploads against the real Express app: the request head and a multipart (or raw) body as bytes on a connection. No answer may
// blame the server, and no upload may stay behind.

import { setTimeout as sleep } from 'node:timers/promises'
import { f4, npzBytes } from '../../test/support/write-npz.ts'
import { exchange, judgeAnswer } from './http-exchange.ts'
import { mutateBody, mutateHead } from './mutate-multipart.ts'
import { type RealApp, startRealApp } from './real-app.ts'
import { type FuzzInput, type FuzzTarget, withBytes } from './target.ts'
import { manyShapes } from './target-onnx.ts'
import { safetensorsSeeds } from './target-safetensors.ts'

const BOUNDARY = 'fuzz'
/** Cases between two looks at what stays behind. */
const SWEEP_CASES = 50
/** A request that is not whole gets no answer: the client leaves soon. One that is gets one, or it is a hang. */
const PATIENCE_MS = { incomplete: 60, whole: 60_000 }
/** What the server needs to notice that a client left and to remove its upload. */
const SETTLE_MS = 3000

interface Part {
  name: string
  file?: string
  type?: string
  content: string | Uint8Array
}

function multipart(path: string, parts: readonly Part[], more = ''): FuzzInput {
  const body = Buffer.concat([
    ...parts.flatMap(({ name, file, type, content }) => [
      Buffer.from(`--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"`),
      Buffer.from(
        `${file === undefined ? '' : `; filename="${file}"`}${type ? `\r\nContent-Type: ${type}` : ''}\r\n\r\n`,
      ),
      Buffer.from(content),
      Buffer.from('\r\n'),
    ]),
    Buffer.from(`--${BOUNDARY}--\r\n`),
  ])
  return request(`POST ${path} HTTP/1.1`, `multipart/form-data; boundary=${BOUNDARY}`, body, more)
}

function request(line: string, contentType: string, body: Uint8Array, more = ''): FuzzInput {
  const head = `${line}\r\nHost: 127.0.0.1\r\nContent-Type: ${contentType}\r\n${more}`
  return [
    { name: 'head', bytes: Uint8Array.from(Buffer.from(head)) },
    { name: 'body', bytes: Uint8Array.from(body) },
  ]
}

/** Whether the length that is put behind it is the one that counts. */
function isPlainHead(bytes: Uint8Array): boolean {
  const text = Buffer.from(bytes).toString('latin1')
  return (
    /^[A-Z]+ \/\S* HTTP\/1\.1\r\n(?:[A-Za-z-]+: [ -~]*\r\n)*$/.test(text) &&
    !/^(content-length|transfer-|upgrade|connection)/im.test(text)
  )
}

let app: RealApp | null = null
let cases = 0

async function nothingStays(): Promise<void> {
  await app!.sweep()
  for (let waitedMs = 0; app!.leftovers().length > 0; waitedMs += 20) {
    if (waitedMs > SETTLE_MS) throw new Error(`uploads stayed behind: ${app!.leftovers().join(', ')}`)
    await sleep(20)
  }
}

export const target: FuzzTarget = {
  name: 'multipart',
  guided: true,
  maxBytes: 96 * 1024,
  async setUp() {
    app = await startRealApp()
  },
  async tearDown() {
    await app?.close()
  },
  seeds(): FuzzInput[] {
    const model = safetensorsSeeds()[0]!
    const dataset = npzBytes({ x: f4([3, 2], [1, 2, 3, 4, 5, 6]) })
    return [
      multipart('/v1/models', [{ name: 'model', file: 'm.safetensors', content: model }]),
      multipart('/v1/models', [
        { name: 'model', file: 'm.onnx', type: 'application/octet-stream', content: manyShapes() },
        { name: 'data', file: 'parts/w.bin', content: 'abc' },
      ]),
      multipart('/v1/datasets', [{ name: 'dataset', file: 'd.npz', content: dataset }]),
      multipart(
        '/v1/compress',
        [
          { name: 'model', file: 'm.safetensors', content: model },
          { name: 'recipe', content: 'int8' },
          { name: 'validate', content: 'false' },
          { name: 'output', content: '{"shardBytes":null}' },
          { name: 'require', content: 'maxSizeRatio=0.9' },
        ],
        'Prefer: respond-async\r\n',
      ),
      request('PUT /v1/models/m.safetensors HTTP/1.1', 'application/octet-stream', model),
      request('POST /v1/plans HTTP/1.1', 'application/json', Buffer.from('{"model":"x","recipe":"int8"}')),
    ]
  },
  mutate(input, other, dice) {
    if (dice.chance(0.3)) return withBytes(input, 0, mutateHead(input[0]!.bytes, other[0]!.bytes, dice))
    return withBytes(input, 1, mutateBody(input[1]!.bytes, other[1]!.bytes, dice))
  },
  async run([head, body], dice) {
    if (++cases % SWEEP_CASES === 0) await nothingStays()
    const length = Math.max(0, body!.bytes.length + (dice.chance(0.03) ? dice.pick([-1, 1, 1000]) : 0))
    const end = `Content-Length: ${length}\r\nConnection: close\r\n\r\n`
    const whole = length <= body!.bytes.length && isPlainHead(head!.bytes)
    const patienceMs = whole ? PATIENCE_MS.whole : PATIENCE_MS.incomplete
    const bytes = Buffer.concat([head!.bytes, Buffer.from(end)])
    const answer = await exchange(app!.port, bytes, body!.bytes, patienceMs)
    if (answer === null && whole) throw new Error('a whole request got no answer')
    return judgeAnswer(answer)
  },
}
