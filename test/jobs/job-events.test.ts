// Followers of a job: first view, order, coming back, slowness, the end.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createJobEvents } from '../../src/jobs/job-events.ts'
import type { JobEvent, JobState, JobView } from '../../src/jobs/service.ts'

function view(state: JobState, doneBytes = 0): JobView {
  const final = state !== 'queued' && state !== 'running'
  return {
    id: 'j',
    state,
    stage: state === 'running' ? 'encoding' : null,
    progress: { doneBytes, totalBytes: 100, tensor: null },
    attempt: 1,
    modelId: 'm',
    datasetId: null,
    submittedBy: null,
    recipe: { version: 1, name: 'int8', steps: [] },
    output: {},
    require: null,
    validate: true,
    reportSha256: null,
    artifact: null,
    artifactExpired: false,
    webhook: null,
    error: null,
    createdAt: '2026-01-01T00:00:00.000Z',
    startedAt: null,
    finishedAt: final ? '2026-01-01T00:00:09.000Z' : null,
  }
}

async function collect(events: AsyncIterable<JobEvent>): Promise<JobEvent[]> {
  const all: JobEvent[] = []
  for await (const event of events) all.push(event)
  return all
}

const forever = new AbortController().signal

test('a follower gets the view as it is, then every change, and the stream ends with the job', async () => {
  const events = createJobEvents()
  const following = collect(events.follow('j', null, forever, async () => view('queued')))
  await sleep(1)
  events.publish('state', view('running'))
  await sleep(1)
  events.publish('progress', view('running', 50))
  await sleep(1)
  events.publish('state', view('succeeded'))
  const all = await following
  assert.deepEqual(
    all.map((event) => [event.type, event.job.state, event.job.progress?.doneBytes]),
    [
      ['state', 'queued', 0],
      ['state', 'running', 0],
      ['progress', 'running', 50],
      ['state', 'succeeded', 0],
    ],
  )
})

test('a job that ended before is told once, and not again to who has seen it', async () => {
  const events = createJobEvents()
  const current = async () => view('succeeded')
  const [first, ...rest] = await collect(events.follow('j', null, forever, current))
  assert.deepEqual([first?.job.state, rest.length], ['succeeded', 0])
  assert.deepEqual(await collect(events.follow('j', first!.id, forever, current)), [])
})

test('the end is not told again after a restart to who saw it live', async () => {
  const live = createJobEvents()
  const following = collect(live.follow('j', null, forever, async () => view('running')))
  await sleep(1)
  live.publish('state', view('succeeded'))
  const lastId = (await following).at(-1)!.id
  const restarted = createJobEvents()
  assert.deepEqual(await collect(restarted.follow('j', lastId, forever, async () => view('succeeded'))), [])
})

test('a slow follower gets the newest progress and no change of state is dropped', async () => {
  const events = createJobEvents()
  const stream = events.follow('j', null, forever, async () => view('queued'))[Symbol.asyncIterator]()
  await stream.next()
  events.publish('state', view('running'))
  for (let done = 1; done <= 1000; done++) events.publish('progress', view('running', done))
  const second = await stream.next()
  const third = await stream.next()
  assert.deepEqual([second.value?.job.state, second.value?.type], ['running', 'state'])
  assert.equal(third.value?.job.progress?.doneBytes, 1000)
  events.publish('progress', view('running', 1001))
  events.publish('state', view('failed'))
  assert.equal((await stream.next()).value?.job.state, 'failed')
  assert.equal((await stream.next()).done, true)
})

test('ids grow even when many events come in one millisecond', async () => {
  const events = createJobEvents()
  const stream = events.follow('j', null, forever, async () => view('queued'))[Symbol.asyncIterator]()
  const ids = [(await stream.next()).value!.id]
  for (let i = 0; i < 20; i++) {
    events.publish('progress', view('running', i))
    ids.push((await stream.next()).value!.id)
  }
  assert.deepEqual(
    ids,
    [...new Set(ids)].sort((a, b) => a - b),
  )
})

test('an aborted follower ends and is forgotten', async () => {
  const events = createJobEvents()
  const abort = new AbortController()
  const following = collect(events.follow('j', null, abort.signal, async () => view('running')))
  await sleep(1)
  abort.abort()
  assert.equal((await following).length, 1)
})
