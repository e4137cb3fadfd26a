// Many clients that follow one job by server-sent events, from before it starts until its end. Entry: followJobs.

import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiClient, type JobBody } from './api-client.ts'
import { readMetrics } from './process-figures.ts'
import { seededOnnx, seededSafetensors } from './seeded-models.ts'

/** A few seconds of work in front of the followed job, so that every follower is there when it starts. */
const ROWS_BEFORE = 2 ** 18
/** They come within this time, not in one instant. */
const ARRIVAL_MS = 3000
const STREAM_MS = 300_000

export async function followJobs(
  { url }: ApiClient,
  count: number,
  seed: number,
): Promise<{ complete: number; findings: string[] }> {
  const api = new ApiClient(url, count + 16)
  const findings: string[] = []
  try {
    const before = await createJob(api, seededSafetensors(seed, ROWS_BEFORE), 'prune-50+int8')
    const followed = await createJob(api, seededOnnx(seed + 1, 4096), 'int8')
    const followers = Array.from({ length: count }, async (_, index) => {
      await sleep((ARRIVAL_MS * index) / count)
      return follow(api, followed)
    })
    const deadline = performance.now() + 60_000
    for (;;) {
      const open = (await readMetrics(api)).get('tensorpress_event_streams_open') ?? 0
      if (open >= count) break
      if ((await api.json<JobBody>('GET', `/v1/jobs/${followed}`)).finishedAt !== null) break
      if (performance.now() > deadline) throw new Error(`only ${open} of ${count} streams are open after 60 s`)
      await sleep(100)
    }
    const texts = await Promise.all(followers.map((follower) => follower.catch((error: unknown) => String(error))))
    const incomplete = texts.filter((text) => !isComplete(text))
    findings.push(...incomplete.slice(0, 3).map((text) => `an event stream ended early: ${text.slice(-200)}`))
    for (const id of [before, followed]) {
      const job = await api.waitForJob(id)
      if (job.state !== 'succeeded') findings.push(`job ${id}: ${JSON.stringify(job.error)}`)
      await api.json('DELETE', `/v1/models/${job.model}`)
    }
    return { complete: count - incomplete.length, findings }
  } finally {
    api.close()
  }
}

async function createJob(api: ApiClient, model: { name: string; bytes: Uint8Array }, recipe: string): Promise<string> {
  const { id } = await api.json<{ id: string }>('PUT', `/v1/models/${model.name}`, model.bytes)
  return (await api.json<JobBody>('POST', '/v1/jobs', { model: id, recipe })).id
}

/** The whole text of the stream. */
async function follow(api: ApiClient, id: string): Promise<string> {
  const sent = api.open('GET', `/v1/jobs/${id}/events`, { accept: 'text/event-stream' })
  sent.setTimeout(STREAM_MS, () => sent.destroy(new Error('the stream was silent for too long')))
  sent.end()
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  let text = ''
  for await (const piece of response.setEncoding('utf8')) text += piece as string
  return response.statusCode === 200 ? text : `${response.statusCode} ${text}`
}

/** The last state is final, and `end` comes after it. */
export function isComplete(text: string): boolean {
  const events = text.split('\n\n').filter((event) => event.includes('event: '))
  const last = events.at(-2)
  return /^event: end$/m.test(events.at(-1) ?? '') && /"state":"(succeeded|failed|cancelled)"/.test(last ?? '')
}
