// GET /v1/jobs/{id}/events: server-sent events (WHATWG HTML, section 9.2). Each event carries the whole job. After the final
// state comes `end`, and the stream closes; a client that reconnects after it gets 204, which tells EventSource to stop.

import type { Response } from 'express'
import { z } from 'zod'
import { SSE_HEARTBEAT_SECONDS } from '../config.ts'
import { isFinal } from '../jobs/job.ts'
import type { JobEvent } from '../jobs/service.ts'
import type { HttpDeps } from './deps.ts'
import { jobBody, jobId } from './jobs.ts'
import { clientSignal, parse, pathParam, type Route } from './route.ts'

/** What EventSource waits before it reconnects. */
const RECONNECT_MS = 2000

const lastEventId = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional()

export function jobEventRoutes({ service, metrics }: HttpDeps, heartbeatMs = SSE_HEARTBEAT_SECONDS * 1000): Route[] {
  return [
    {
      method: 'get',
      path: '/v1/jobs/{id}/events',
      operationId: 'followJob',
      scope: 'read',
      tag: 'Jobs',
      summary: 'Follow a job (server-sent events)',
      description: `Events \`state\` and \`progress\` (at least once a second while bytes move), each with the whole job as JSON in \`data\`; then \`end\`. A comment line comes every ${SSE_HEARTBEAT_SECONDS} seconds.`,
      params: { id: jobId },
      headers: {
        'Last-Event-ID': {
          description: 'Number of the last event seen; what came after it is sent.',
          example: '17',
          schema: { type: 'string', pattern: '^[0-9]{0,15}$' },
        },
      },
      responses: {
        200: {
          description: 'The stream.',
          content: {
            'text/event-stream': {
              schema: null,
              example: 'id: 18\nevent: progress\ndata: {"id":"0192f3a4b5c67d8e","state":"running",…}\n\n',
            },
          },
        },
        204: { description: 'The job is final and its last event was seen: nothing will come.' },
      },
      errors: ['not_found', 'request_invalid'],
      async handle(request, response) {
        const { 'Last-Event-ID': afterId } = parse(
          z.object({ 'Last-Event-ID': lastEventId }),
          { 'Last-Event-ID': request.get('last-event-id') || undefined },
          'header',
        )
        const id = pathParam(request, 'id')
        const job = await service.jobs.get(id)
        const signal = clientSignal(response)
        const events = service.jobs.events(id, afterId ?? null, signal)
        if (isFinal(job.state) && afterId !== undefined) {
          const missed: JobEvent[] = []
          for await (const event of events) missed.push(event)
          if (missed.length === 0) {
            response.status(204).end()
            return
          }
          begin(response)
          for (const event of missed) send(response, event)
          end(response)
          return
        }
        begin(response)
        if (request.method === 'HEAD') return void response.end()
        metrics.eventStreamsOpen.inc()
        const heartbeat = setInterval(() => response.write(': still here\n\n'), heartbeatMs)
        try {
          for await (const event of events) {
            // A slow reader gets every state and the progress it can take.
            if (event.type === 'progress' && response.writableNeedDrain) continue
            send(response, event)
          }
          if (!signal.aborted) end(response)
        } finally {
          clearInterval(heartbeat)
          metrics.eventStreamsOpen.dec()
        }
      },
    },
  ]
}

function begin(response: Response): void {
  response.status(200).set({
    'Content-Type': 'text/event-stream; charset=utf-8',
    'Cache-Control': 'no-store',
    // Proxies of the nginx family hold a stream back without this.
    'X-Accel-Buffering': 'no',
  })
  response.flushHeaders()
  response.write(`retry: ${RECONNECT_MS}\n\n`)
}

/** Followers of one job are sent the same text: written once, however many they are. */
const texts = new WeakMap<JobEvent, string>()

function send(response: Response, event: JobEvent): void {
  let text = texts.get(event)
  if (text === undefined) {
    text = `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(jobBody(event.job))}\n\n`
    texts.set(event, text)
  }
  response.write(text)
}

function end(response: Response): void {
  response.end('event: end\ndata: {}\n\n')
}
