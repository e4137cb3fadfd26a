// What stands between a pipeline and its server on a bad day: a proxy that is busy at first, loses answers, does not wait and
// breaks transfers off in the middle. Entry: startAwkwardProxy. It notes what came through, so that tests can hold clients to it.

import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'

export interface AwkwardProxy {
  url: string
  /** Every request in order: `POST /v1/compress -> 503`, or `-> cut` where the connection was broken. */
  seen: string[]
  headers: IncomingMessage['headers'][]
  /** Upload-Offset of every piece of an upload. */
  offsets: number[]
}

export interface Moods {
  /** The first requests are answered so, with Retry-After: 1, before anything goes through. */
  refusals?: number[]
  /** The request that makes a job gets through, and its answer is lost. */
  losesAnswer?: boolean
  /** Nobody waits for a job: every Prefer becomes respond-async. */
  hurries?: boolean
  /** The first piece of an upload ends after this many bytes. */
  cutsUploadAfterBytes?: number
  /** The first download of an artifact ends after this many bytes. */
  cutsDownloadAfterBytes?: number
}

const CUT_DELAY_MS = 500

export async function startAwkwardProxy(t: TestContext, target: string, moods: Moods): Promise<AwkwardProxy> {
  const refusals = [...(moods.refusals ?? [])]
  let { losesAnswer = false } = moods
  let cutsDownload: number | null = moods.cutsDownloadAfterBytes ?? null
  let cutsUpload: number | null = moods.cutsUploadAfterBytes ?? null
  const seen: string[] = []
  const headers: IncomingMessage['headers'][] = []
  const offsets: number[] = []

  function pass(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const line = `${incoming.method} ${incoming.url}`
    headers.push(incoming.headers)
    const refusal = refusals.shift()
    if (refusal !== undefined) {
      seen.push(`${line} -> ${refusal}`)
      incoming.resume()
      incoming.once('end', () => outgoing.writeHead(refusal, { 'Retry-After': '1' }).end('busy'))
      return
    }
    const { host: _, ...rest } = incoming.headers
    if (moods.hurries && rest['prefer']) rest['prefer'] = 'respond-async'
    const upstream = request(new URL(incoming.url!, target), { method: incoming.method, headers: rest }, (answer) => {
      if (losesAnswer && incoming.method === 'POST' && /\/(compress|jobs)$/.test(incoming.url!)) {
        losesAnswer = false
        seen.push(`${line} -> cut`)
        answer.resume()
        answer.once('end', () => outgoing.destroy())
        return
      }
      const cut = /\/artifact(s\/.+)?$/.test(incoming.url!) ? cutsDownload : null
      seen.push(`${line} -> ${cut === null ? answer.statusCode : 'cut'}`)
      outgoing.writeHead(answer.statusCode!, answer.rawHeaders)
      if (cut === null) {
        answer.pipe(outgoing)
        return
      }
      cutsDownload = null
      answer.once('data', (chunk: Buffer) => {
        answer.destroy()
        outgoing.write(chunk.subarray(0, cut), () => outgoing.destroy())
      })
    })
    upstream.once('error', () => outgoing.destroy())
    if (incoming.method === 'PATCH') offsets.push(Number(incoming.headers['upload-offset']))
    if (incoming.method !== 'PATCH' || cutsUpload === null) {
      incoming.pipe(upstream)
      return
    }
    const kept = cutsUpload
    cutsUpload = null
    seen.push(`${line} -> cut`)
    incoming.once('data', (chunk: Buffer) => {
      incoming.pause()
      upstream.write(chunk.subarray(0, kept))
      // At once, the broken connection would overtake the bytes.
      setTimeout(() => {
        upstream.destroy()
        outgoing.destroy()
      }, CUT_DELAY_MS)
    })
  }

  const server = createServer(pass).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen, headers, offsets }
}
