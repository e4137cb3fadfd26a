// One client of the soak: each round is a small story that ends as it began, so that the server is in a steady state. What
// the story is depends on the number given. Any answer other than the expected one throws. Entry: SoakClient.

import { ApiClient, type JobBody, receive, sha256 } from './api-client.ts'
import { isComplete } from './event-followers.ts'
import { type SeededModel, seededDataset, seededOnnx, seededSafetensors } from './seeded-models.ts'

export interface SoakCounts {
  rounds: number
  uploads: number
  jobs: number
  downloads: number
  deletes: number
  /** Deletes of a model that a job uses: 409. */
  refused: number
}

const RECIPES = ['int8', 'int4', 'fp16', 'prune-50+int8', 'deadzone-8', 'prune-50']

export class SoakClient {
  readonly #api: ApiClient
  readonly #counts: SoakCounts
  #seed: number

  constructor(url: string, firstSeed: number, counts: SoakCounts) {
    this.#api = new ApiClient(url, 4)
    this.#seed = firstSeed
    this.#counts = counts
  }

  /** @param choice in [0, 1): which story. */
  async round(choice: number): Promise<void> {
    const seed = this.#seed++
    const recipe = RECIPES[seed % RECIPES.length]!
    const onnxRecipe = seed % 7 === 0 ? 'int8-dynamic' : recipe
    if (choice < 0.35) await this.#job(seededSafetensors(seed, 256 + (seed % 7) * 128), recipe)
    else if (choice < 0.6) await this.#job(seededOnnx(seed, 256 + (seed % 5) * 128), onnxRecipe)
    else if (choice < 0.75) await this.#jobWithDataset(seed)
    else if (choice < 0.9) await this.#uploadAndDelete(seededSafetensors(seed, 4096))
    else await this.#leaveHalfWay(seededSafetensors(seed, 4096))
    this.#counts.rounds++
  }

  close(): void {
    this.#api.close()
  }

  async #put({ name, bytes }: SeededModel): Promise<string> {
    const { id } = await this.#api.json<{ id: string }>('PUT', `/v1/models/${name}`, bytes)
    if (id !== sha256(bytes)) throw new Error(`model ${name}: id ${id} is not the sha256 of what was sent`)
    this.#counts.uploads++
    return id
  }

  async #delete(path: string): Promise<void> {
    await this.#api.json('DELETE', path)
    this.#counts.deletes++
  }

  async #job(model: SeededModel, recipe: string, dataset: string | null = null): Promise<void> {
    const id = await this.#put(model)
    const request = { model: id, recipe, ...(dataset === null ? {} : { dataset }) }
    const { id: jobId } = await this.#api.json<JobBody>('POST', '/v1/jobs', request)
    const early = await this.#api.send('DELETE', `/v1/models/${id}`)
    if (early.status === 409) this.#counts.refused++
    // A job this small may have ended already; then the model is gone and the job has what it needs.
    else if (early.status > 299) throw new Error(`DELETE of a model that may be in use: ${early.status}`)
    const job = await this.#follow(jobId)
    if (job.state !== 'succeeded') throw new Error(`job ${recipe} on ${model.name}: ${JSON.stringify(job.error)}`)
    this.#counts.jobs++
    await this.#download(job)
    if (early.status === 409) await this.#delete(`/v1/models/${id}`)
    else this.#counts.deletes++
  }

  async #jobWithDataset(seed: number): Promise<void> {
    const { name, bytes } = seededDataset(seed)
    const form = new FormData()
    form.append('dataset', new Blob([Buffer.from(bytes)]), name)
    const sent = new Response(form)
    const answer = await this.#api.send('POST', '/v1/datasets', new Uint8Array(await sent.arrayBuffer()), {
      'content-type': sent.headers.get('content-type') ?? '',
    })
    if (answer.status !== 201) throw new Error(`POST /v1/datasets: ${answer.status} ${answer.body}`)
    this.#counts.uploads++
    const { id } = JSON.parse(answer.body.toString('utf8')) as { id: string }
    await this.#job(seededOnnx(seed, 256), 'int8', id)
    await this.#delete(`/v1/datasets/${id}`)
  }

  async #uploadAndDelete(model: SeededModel): Promise<void> {
    const id = await this.#put(model)
    await this.#api.json('GET', `/v1/models/${id}/tensors`)
    const tensor = encodeURIComponent('layer.weight')
    await this.#api.json('GET', `/v1/models/${id}/histogram?tensor=${tensor}`)
    await this.#delete(`/v1/models/${id}`)
  }

  /** A client that goes away in the middle of its upload: nothing may stay behind. */
  async #leaveHalfWay({ name, bytes }: SeededModel): Promise<void> {
    const put = this.#api.open('PUT', `/v1/models/${name}`, { 'content-length': bytes.byteLength })
    const gone = receive(put).catch(() => null)
    await new Promise((resolve) => put.write(bytes.subarray(0, bytes.byteLength >> 1), resolve))
    put.destroy()
    await gone
  }

  async #follow(id: string): Promise<JobBody> {
    const stream = await this.#api.send('GET', `/v1/jobs/${id}/events`)
    const text = stream.body.toString('utf8')
    if (stream.status !== 200 || !isComplete(text))
      throw new Error(`the events of job ${id} ended early: ${text.slice(-200)}`)
    return this.#api.json<JobBody>('GET', `/v1/jobs/${id}`)
  }

  async #download(job: JobBody): Promise<void> {
    const { status, headers, body } = await this.#api.send('GET', job.links.artifact ?? '')
    if (status !== 200) throw new Error(`artifact of job ${job.id}: ${status}`)
    if (headers.etag !== `"${sha256(body)}"`) throw new Error(`artifact of job ${job.id}: its sha256 is not its ETag`)
    await this.#api.json('GET', job.links.report ?? '', null, { accept: 'application/json' })
    this.#counts.downloads++
  }
}
