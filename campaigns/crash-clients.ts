// The load under which processes are killed: clients that upload, start jobs of several recipes, download, cancel and delete,
// in parallel, and write into the ledger what they were told. A connection that breaks ends a client's round, never the
// client; an answer that is wrong is a finding. Entry: startCrashClients.

import { setTimeout as sleep } from 'node:timers/promises'
import { ApiClient, ApiFailure, type JobBody, sha256 } from './api-client.ts'
import type { CrashLedger } from './crash-ledger.ts'
import { seededDataset, seededOnnx, seededSafetensors } from './seeded-models.ts'

const RECIPES = ['int8', 'int4', 'fp16', 'prune-50+int8', 'deadzone-8']
/** More jobs than this are not asked for: the queue would only grow, and the end would be a long wait. */
const MOST_UNFINISHED = 12
/** Refusals that a crash or another client explains; anything else is a finding. */
const EXPECTED = new Set(['queue_full', 'too_many_uploads', 'shutting_down', 'conflict', 'not_found'])

export interface CrashClients {
  stop(): Promise<void>
}

/** Numbers for seeds and keys, over all rounds. */
export interface Counter {
  next: number
}

export function startCrashClients(
  url: string,
  count: number,
  ledger: CrashLedger,
  random: () => number,
  counter: Counter,
): CrashClients {
  const api = new ApiClient(url, count * 2)
  let running = true
  const clients = Array.from({ length: count }, async () => {
    while (running) {
      try {
        await story(api, ledger, random, counter)
      } catch (error) {
        if (error instanceof ApiFailure && !EXPECTED.has(error.code)) ledger.find(String(error))
        // Anything else: the server is gone, and this request has no answer.
        if (!(error instanceof ApiFailure)) await sleep(20)
      }
      await sleep(random() * 80)
    }
  })
  return {
    async stop() {
      running = false
      api.close()
      await Promise.all(clients)
    },
  }
}

async function story(api: ApiClient, ledger: CrashLedger, random: () => number, counter: Counter): Promise<void> {
  const choice = random()
  if (choice < 0.45) await upload(api, ledger, random, counter)
  if (choice < 0.75) await startJob(api, ledger, random, counter)
  else if (choice < 0.83) await deleteModel(api, ledger, random)
  else if (choice < 0.845) await cancelJob(api, ledger, random)
  else if (choice < 0.87) await uploadDataset(api, ledger, counter)
  else if (choice < 0.97) await uploadInPieces(api, ledger, random, counter)
  else await download(api, ledger, random)
}

async function upload(api: ApiClient, ledger: CrashLedger, random: () => number, counter: Counter): Promise<void> {
  const seed = counter.next++
  const { name, bytes } = random() < 0.7 ? seededSafetensors(seed, 64 + Math.floor(random() * 2048)) : seededOnnx(seed)
  const id = sha256(bytes)
  const known = { name, state: 'uploading' as 'uploading' | 'there' }
  ledger.models.set(id, known)
  const answer = await api.json<{ id: string }>('PUT', `/v1/models/${name}`, bytes)
  if (answer.id !== id) ledger.find(`model ${name} was stored as ${answer.id}, its sha256 is ${id}`)
  known.state = 'there'
}

async function startJob(api: ApiClient, ledger: CrashLedger, random: () => number, counter: Counter): Promise<void> {
  const model = choose(there(ledger), random)
  if (model === undefined || ledger.unfinished().length >= MOST_UNFINISHED) return
  const recipe = RECIPES[Math.floor(random() * RECIPES.length)]!
  const key = `crash-${counter.next++}`
  const asked = { model, recipe }
  ledger.unanswered.set(key, asked)
  try {
    const job = await api.json<JobBody>('POST', '/v1/jobs', asked, { 'idempotency-key': key })
    ledger.jobs.set(job.id, { key, ...asked, cancelAsked: false, final: null })
    ledger.unanswered.delete(key)
  } catch (error) {
    if (error instanceof ApiFailure) ledger.unanswered.delete(key)
    throw error
  }
}

async function deleteModel(api: ApiClient, ledger: CrashLedger, random: () => number): Promise<void> {
  const id = choose(there(ledger), random)
  if (id === undefined || [...ledger.unanswered.values()].some(({ model }) => model === id)) return
  const known = ledger.models.get(id)!
  known.state = 'deleting'
  try {
    await api.json('DELETE', `/v1/models/${id}`)
    known.state = 'deleted'
  } catch (error) {
    if (error instanceof ApiFailure) known.state = 'there'
    throw error
  }
}

async function cancelJob(api: ApiClient, ledger: CrashLedger, random: () => number): Promise<void> {
  const id = choose(ledger.unfinished(), random)
  if (id === undefined) return
  ledger.jobs.get(id)!.cancelAsked = true
  await api.json('DELETE', `/v1/jobs/${id}`)
}

async function uploadDataset(api: ApiClient, ledger: CrashLedger, counter: Counter): Promise<void> {
  const { name, bytes } = seededDataset(counter.next++)
  const form = new FormData()
  form.append('dataset', new Blob([Buffer.from(bytes)]), name)
  const sent = new Response(form)
  const type = sent.headers.get('content-type') ?? ''
  const body = new Uint8Array(await sent.arrayBuffer())
  const { id } = await api.json<{ id: string }>('POST', '/v1/datasets', body, { 'content-type': type })
  ledger.datasets.add(id)
}

/** Goes on with an upload that a crash cut off, or begins one. */
async function uploadInPieces(
  api: ApiClient,
  ledger: CrashLedger,
  random: () => number,
  counter: Counter,
): Promise<void> {
  const cutOff = ledger.uploads.waiting(random)
  const path = cutOff ?? (await ledger.uploads.begin(api, seededSafetensors(counter.next++, 4096)))
  await ledger.uploads.resume(api, path)
}

async function download(api: ApiClient, ledger: CrashLedger, random: () => number): Promise<void> {
  const id = choose([...ledger.jobs.keys()], random)
  if (id === undefined) return
  const job = await api.json<JobBody>('GET', `/v1/jobs/${id}`)
  if (job.links.artifact === null || job.state !== 'succeeded') return
  const { status, headers, body } = await api.send('GET', job.links.artifact)
  if (status !== 200 || headers.etag !== `"${sha256(body)}"`)
    ledger.find(`artifact of job ${id}: ${status}, ${headers.etag}`)
  ledger.downloads++
}

function there(ledger: CrashLedger): string[] {
  return [...ledger.models].filter(([, { state }]) => state === 'there').map(([id]) => id)
}

function choose<T>(items: readonly T[], random: () => number): T | undefined {
  return items[Math.floor(random() * items.length)]
}
