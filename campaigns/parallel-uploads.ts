// Many uploads that are all open at the same moment: each sends half of its file, then waits until every other one has, and
// one upload more, which must be refused with 429 and a time to come back. Entry: openUploads.

import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiClient, ApiClient as Client, receive, sha256 } from './api-client.ts'
import { readMetrics } from './process-figures.ts'
import { seededSafetensors } from './seeded-models.ts'

/** 1 MiB of weights each. */
const ROWS = 4096

export async function openUploads(
  { url }: ApiClient,
  count: number,
  firstSeed: number,
  holdSeconds: number,
): Promise<{ stored: number; findings: string[] }> {
  const findings: string[] = []
  const api = new Client(url, count + 8)
  const halves = Promise.withResolvers<void>()
  const one = async (seed: number): Promise<boolean> => {
    const { name, bytes } = seededSafetensors(seed, ROWS)
    const put = api.open('PUT', `/v1/models/${name}`, { 'content-length': bytes.byteLength })
    const answered = receive(put)
    answered.catch(() => {})
    put.write(bytes.subarray(0, bytes.byteLength >> 1))
    await halves.promise
    put.end(bytes.subarray(bytes.byteLength >> 1))
    const { status, body } = await answered
    const wanted = sha256(bytes)
    const good = status === 201 && (JSON.parse(body.toString('utf8')) as { id: string }).id === wanted
    if (!good) findings.push(`upload ${seed}: ${status} ${body.toString('utf8').slice(0, 200)}`)
    else await api.json('DELETE', `/v1/models/${wanted}`)
    return good
  }
  try {
    const uploads = Array.from({ length: count }, (_, index) => one(firstSeed + index))
    await untilOpen(api, count)
    const extra = seededSafetensors(firstSeed + count, 1)
    const { status, headers } = await api.send('PUT', `/v1/models/${extra.name}`, extra.bytes)
    if (status !== 429 || !(Number(headers['retry-after']) > 0)) {
      findings.push(`upload ${count + 1} of ${count} allowed: ${status}, Retry-After ${headers['retry-after']}`)
    }
    await sleep(holdSeconds * 1000)
    halves.resolve()
    const stored = (await Promise.all(uploads)).filter((good) => good).length
    return { stored, findings }
  } finally {
    halves.resolve()
    api.close()
  }
}

async function untilOpen(api: Client, count: number): Promise<void> {
  const deadline = performance.now() + 30_000
  for (;;) {
    const open = (await readMetrics(api)).get('tensorpress_uploads_in_progress') ?? 0
    if (open === count) return
    if (performance.now() > deadline) throw new Error(`only ${open} of ${count} uploads are open after 30 s`)
    await sleep(50)
  }
}
