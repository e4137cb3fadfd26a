// A job until its end: the event stream (server-sent events, WHATWG HTML section 9.2), taken up again with Last-Event-ID after a
// broken connection or a restart. Entry: followJob. EventSource would do, and can send no key.

import { BackOff } from './back-off.ts'
import { bodyOf } from './body.ts'
import { ConnectionError } from './client-error.ts'
import type { Job } from './generated/schema.ts'
import type { Http } from './http.ts'

/** The server writes something every 15 seconds; three times that is a dead connection. */
const SILENCE_MS = 45_000

export interface FollowOptions {
  signal?: AbortSignal | undefined
}

/** Yields the job as it is, and each change of it; the last one is final. Throws TensorpressError, ConnectionError. */
export async function* followJob(http: Http, id: string, options: FollowOptions = {}): AsyncGenerator<Job, void> {
  const { signal } = options
  const path = `/v1/jobs/${encodeURIComponent(id)}`
  const backOff = new BackOff(http.retryMs, signal)
  let lastId: string | null = null
  for (;;) {
    try {
      const response = await http.send({
        method: 'GET',
        path: `${path}/events`,
        headers: { Accept: 'text/event-stream', ...(lastId === null ? {} : { 'Last-Event-ID': lastId }) },
        signal,
      })
      if (response.status === 204) return
      for await (const event of eventsOf(response, signal)) {
        backOff.progress()
        if (event.id !== '') lastId = event.id
        if (event.type === 'end') return
        if (event.type === 'state' || event.type === 'progress') yield JSON.parse(event.data) as Job
      }
      throw new ConnectionError('the event stream broke off')
    } catch (error) {
      await backOff.wait(error)
    }
  }
}

export function isFinal({ state }: Pick<Job, 'state'>): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled'
}

interface ServerEvent {
  id: string
  type: string
  data: string
}

async function* eventsOf(response: Response, signal: AbortSignal | undefined): AsyncGenerator<ServerEvent> {
  let event: ServerEvent = { id: '', type: 'message', data: '' }
  for await (const line of linesOf(response, signal)) {
    if (line === '') {
      if (event.data !== '') yield event
      event = { id: '', type: 'message', data: '' }
      continue
    }
    const colon = line.indexOf(':')
    if (colon === 0) continue
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'id') event.id = value
    else if (field === 'event') event.type = value
    else if (field === 'data') event.data = event.data === '' ? value : `${event.data}\n${value}`
  }
}

async function* linesOf(response: Response, signal: AbortSignal | undefined): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const piece of bodyOf(response, SILENCE_MS, signal)) {
    text += decoder.decode(piece, { stream: true })
    const lines = text.split('\n')
    text = lines.pop()!
    yield* lines
  }
}
