// What the server acknowledged, and the audit of it: everything that got a good answer must be there, whole, after any
// crash; what got no answer may be there or not, but never half. Entry: CrashLedger.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { openModel } from '../src/formats/index.ts'
import { openSqliteCatalog } from '../src/store/sqlite-catalog.ts'
import { type ApiClient, type JobBody, sha256 } from './api-client.ts'
import { ResumableLedger } from './crash-uploads.ts'

export type Kill = 'server' | 'gpu' | 'inference' | 'inspect'

interface KnownModel {
  name: string
  /** deleting: a delete was sent and not answered. */
  state: 'uploading' | 'there' | 'deleting' | 'deleted'
}

interface KnownJob {
  key: string
  model: string
  recipe: string
  cancelAsked: boolean
  /** Once seen final it must stay as it was. */
  final: { state: JobBody['state']; artifact: string | null } | null
}

export class CrashLedger {
  readonly models = new Map<string, KnownModel>()
  readonly datasets = new Set<string>()
  /** By id. */
  readonly jobs = new Map<string, KnownJob>()
  /** Idempotency keys of requests without an answer, with what was asked. */
  readonly unanswered = new Map<string, { model: string; recipe: string }>()
  readonly findings: string[] = []
  readonly uploads = new ResumableLedger((text) => this.find(text))
  /** Artifacts by what was asked: the same bytes every time. */
  readonly #artifacts = new Map<string, string>()
  downloads = 0

  find(text: string): void {
    this.findings.push(text)
  }

  /** Jobs that nobody has seen end. */
  unfinished(): string[] {
    return [...this.jobs].filter(([, { final }]) => final === null).map(([id]) => id)
  }

  /** Asks for every unfinished job and for a seeded part of the rest: after every kill. */
  async auditSample(api: ApiClient, random: () => number, count: number): Promise<void> {
    for (const id of this.unfinished()) await this.#auditJob(api, id, this.jobs.get(id)!)
    await this.uploads.audit(api)
    const pick = <T>(items: Iterable<T>) => [...items].filter((_, __, all) => random() < count / all.length)
    for (const [id, known] of pick(this.models)) await this.#auditModel(api, id, known)
    for (const [id, known] of pick(this.jobs)) await this.#auditJob(api, id, known)
  }

  /** Waits until every job has ended, then looks at everything. `kills` of children explain attempts and failures. */
  async auditAll(api: ApiClient, childKills: number): Promise<void> {
    for (const [key, asked] of this.unanswered) {
      // The same key again: the job that was made before the crash, if one was, or a new one.
      const job = await api
        .json<JobBody>('POST', '/v1/jobs', asked, { 'idempotency-key': key })
        .catch((error: unknown) => this.find(`retrying ${key}: ${String(error)}`))
      if (job) this.jobs.set(job.id, { key, ...asked, cancelAsked: false, final: null })
    }
    this.unanswered.clear()
    for (const [id, known] of this.jobs) {
      const job = await api.waitForJob(id, 240_000)
      this.#judgeEnd(job, known, childKills)
      await this.#auditJob(api, id, known)
    }
    for (let path = this.uploads.waiting(() => 0); path !== null; path = this.uploads.waiting(() => 0)) {
      const id = await this.uploads.resume(api, path)
      this.models.set(id, { name: path, state: 'there' })
      await this.uploads.settle(api, path)
    }
    for (const [id, known] of this.models) await this.#auditModel(api, id, known)
    for (const id of this.datasets) {
      const { status } = await api.send('GET', `/v1/datasets/${id}`)
      if (status !== 200) this.find(`dataset ${id} was acknowledged and is ${status}`)
    }
    await this.#auditList(api)
  }

  #judgeEnd(job: JobBody, known: KnownJob, childKills: number): void {
    if (job.state === 'cancelled' && known.cancelAsked) return
    if (job.attempt - 1 > childKills)
      this.find(`job ${job.id} took ${job.attempt} attempts, ${childKills} children died`)
    if (job.state === 'succeeded') return
    const exhausted = job.error?.code === 'worker_crashed' && job.attempt === 3 && childKills >= 3
    if (!exhausted) this.find(`job ${job.id} (${known.recipe}) ended ${job.state}: ${JSON.stringify(job.error)}`)
  }

  async #auditModel(api: ApiClient, id: string, known: KnownModel): Promise<void> {
    const { status, body } = await api.send('GET', `/v1/models/${id}`)
    if (status === 404 && known.state !== 'there') return
    if (status === 404) return this.find(`model ${known.name} was acknowledged and is gone`)
    if (status !== 200) return this.find(`model ${known.name}: ${status}`)
    if (known.state === 'deleted') return this.find(`model ${known.name} was deleted and is back`)
    const { files } = JSON.parse(body.toString('utf8')) as { files: { name: string; sha256: string }[] }
    if (files[0]?.sha256 !== id) this.find(`model ${known.name}: the sha256 of its file is ${files[0]?.sha256}`)
    const tensors = await api.send('GET', `/v1/models/${id}/tensors`)
    if (tensors.status !== 200) this.find(`model ${known.name}: its tensor table is ${tensors.status}`)
  }

  async #auditJob(api: ApiClient, id: string, known: KnownJob): Promise<void> {
    const { status, body } = await api.send('GET', `/v1/jobs/${id}`)
    if (status !== 200) return this.find(`job ${id} was acknowledged and is ${status}`)
    const job = JSON.parse(body.toString('utf8')) as JobBody
    if (job.finishedAt === null) {
      if (known.final !== null) this.find(`job ${id} was ${known.final.state} and is ${job.state} again`)
      return
    }
    const artifact = job.state === 'succeeded' ? await this.#auditArtifact(api, job, known) : null
    if (known.final !== null && (known.final.state !== job.state || known.final.artifact !== artifact)) {
      this.find(`job ${id} was ${JSON.stringify(known.final)} and is ${job.state} with ${artifact}`)
    }
    known.final = { state: job.state, artifact }
  }

  async #auditArtifact(api: ApiClient, job: JobBody, known: KnownJob): Promise<string | null> {
    const { status, headers, body } = await api.send('GET', job.links.artifact ?? '/')
    if (status !== 200) {
      this.find(`job ${job.id} succeeded and its artifact is ${status}`)
      return null
    }
    this.downloads++
    const hash = sha256(body)
    if (headers.etag !== `"${hash}"`) this.find(`artifact of job ${job.id}: sha256 ${hash}, ETag ${headers.etag}`)
    const report = await api.send('GET', job.links.report ?? '/', null, { accept: 'application/json' })
    if (report.status !== 200 || !report.body.includes(hash)) {
      this.find(
        `report of job ${job.id}: ${report.status}, and the artifact's sha256 is ${report.body.includes(hash) ? '' : 'not '}in it`,
      )
    }
    const asked = `${job.model} ${known.recipe}`
    const before = this.#artifacts.get(asked)
    if (before !== undefined && before !== hash) this.find(`two artifacts of ${asked}: ${before} and ${hash}`)
    this.#artifacts.set(asked, hash)
    return hash
  }

  /** No job but those that were acknowledged: one crash must not make two of one request. */
  async #auditList(api: ApiClient): Promise<void> {
    let cursor: string | null = null
    const seen: string[] = []
    do {
      const query: string = cursor === null ? '' : `&cursor=${cursor}`
      const page: { items: JobBody[]; next: string | null } = await api.json('GET', `/v1/jobs?limit=1000${query}`)
      seen.push(...page.items.map(({ id }) => id))
      cursor = page.next
    } while (cursor !== null)
    for (const id of seen) if (!this.jobs.has(id)) this.find(`job ${id} is in the list and nobody was told of it`)
    if (new Set(seen).size !== seen.length) this.find('a job is in the list twice')
  }
}

/**
 * The data folder of a server that has stopped in order after a start that swept: every file belongs to a row and every row
 * has its files, whole. Returns what is not so, and how many files were looked at.
 */
export async function auditFolder(dataDir: string): Promise<{ findings: string[]; files: number; loaded: number }> {
  const findings: string[] = []
  const catalog = openSqliteCatalog(join(dataDir, 'catalog.sqlite'))
  const list = (...parts: string[]) => readdirSync(join(dataDir, ...parts))
  const compare = (what: string, found: readonly string[], known: ReadonlySet<string>) => {
    for (const name of found) if (!known.has(name)) findings.push(`${what} ${name} belongs to no row`)
    for (const name of known) if (!found.includes(name)) findings.push(`${what} ${name} has a row and no file`)
  }
  let files = 0
  let loaded = 0
  try {
    for (const name of list('temporary')) findings.push(`temporary/${name} was left`)
    const models = list('models')
    compare('model', models, await catalog.modelIds())
    for (const id of models) {
      for (const name of list('models', id, 'files')) {
        files++
        if (sha256(readFileSync(join(dataDir, 'models', id, 'files', name))) !== id)
          findings.push(`model ${id} is damaged`)
      }
    }
    const datasets = list('datasets').map((name) => name.replace(/\.npz$/, ''))
    compare('dataset', datasets, await catalog.datasetIds())
    const uploads = await catalog.listUploads(null)
    const open = uploads.filter(({ state }) => state === 'receiving' || state === 'stored').map(({ id }) => id)
    compare('upload', list('uploads'), new Set(open))
    const blobs = list('blobs').flatMap((folder) => list('blobs', folder))
    compare('blob', blobs, await catalog.referencedBlobs())
    for (const name of blobs) {
      files++
      const path = join(dataDir, 'blobs', name.slice(0, 2), name)
      const bytes = readFileSync(path)
      if (sha256(bytes) !== name) findings.push(`blob ${name} is damaged`)
      // Reports and results are JSON; everything else is an artifact, and opens as a model.
      if (bytes[0] === 0x7b) continue
      const [format] = bytes[0] === 0x08 ? ['onnx'] : ['safetensors']
      const reader = await openModel([{ name: `artifact.${format}`, path, sizeBytes: bytes.byteLength }])
      await reader.close()
      loaded++
    }
  } catch (error) {
    findings.push(`the data folder could not be read: ${String(error)}`)
  } finally {
    await catalog.close()
  }
  return { findings, files, loaded }
}
