// One step of a deployment pipeline: compresses a model on a Tensorpress server and lets the pipeline go on only if the result
// keeps to a requirement. The artifact appears under its name only when it does; the report is kept either way.
//
//   node compress-model.ts --model mnist.onnx --recipe int8 --dataset t10k.npz --require metric=top1,maxDrop=0.01 \
//                          --output mnist.int8.onnx --report report.html
//
// Environment: TENSORPRESS_URL (http://127.0.0.1:8080), TENSORPRESS_API_KEY or TENSORPRESS_API_KEY_FILE (none),
// TENSORPRESS_TIMEOUT_SECONDS (3600: for the whole step).
// Status: 0 done; 1 server or network failed, or out of time; 2 wrong arguments or recipe; 3 the server refuses the model, the
// data or the key; 4 the requirement is not met or the artifact failed validation. The same numbers as `tensorpress compress`.
// Needs Node 24 and the package `tensorpress`, of which only the client is loaded. Uploads and downloads go on where they broke off.

import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { type Client, createClient, type Job, TensorpressError } from 'tensorpress/client'
import { openFile } from 'tensorpress/client/node'

/** Ends the step with a status and a reason. */
class Refused extends Error {
  readonly status: number

  constructor(status: number, reason: string) {
    super(reason)
    this.status = status
  }
}

/** Statuses of error codes; every other refusal of the server is 3. */
const STATUS_OF_CODE: Record<string, number> = {
  requirement_not_met: 4,
  validation_failed: 4,
  recipe_invalid: 2,
  request_invalid: 2,
  worker_crashed: 1,
  worker_timeout: 1,
  device_lost: 1,
  device_unavailable: 1,
  store_failed: 1,
  disk_full: 1,
  internal: 1,
}

interface Options {
  model: string
  recipe: string
  output: string
  report: string
  require: string | undefined
  dataset: string | undefined
}

function readOptions(): Options {
  const text = { type: 'string' } as const
  try {
    const { values } = parseArgs({
      options: { model: text, recipe: text, output: text, report: text, require: text, dataset: text },
    })
    const { model, recipe, output, require, dataset } = values
    if (!model || !recipe || !output) throw new TypeError('--model, --recipe and --output are needed')
    return { model, recipe, output, require, dataset, report: values.report ?? `${output}.report.json` }
  } catch (error) {
    throw new Refused(2, (error as Error).message)
  }
}

async function apiKey(): Promise<string | undefined> {
  const { TENSORPRESS_API_KEY: key, TENSORPRESS_API_KEY_FILE: file } = process.env
  if (key) return key
  return file ? (await readFile(file, 'utf8')).trim() : undefined
}

/** A file as the client takes it; hashed, so that what the server has already is not sent again. */
async function source(path: string) {
  if (!existsSync(path)) throw new Refused(3, `${path} cannot be read`)
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece)
  return { name: basename(path), content: await openFile(path), sha256: hash.digest('hex') }
}

async function keepReport(client: Client, job: Job, path: string, signal: AbortSignal): Promise<void> {
  if (job.reportSha256 === null) return
  const text = path.endsWith('.html')
    ? await client.reportPage(job.id, { signal })
    : `${JSON.stringify(await client.report(job.id, { signal }), null, 2)}\n`
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
  console.log(`report: ${path}`)
}

/** Beside the target first: nobody sees half a file, or one of other bytes than the server has. */
async function keepArtifact(client: Client, job: Job, path: string, signal: AbortSignal): Promise<void> {
  const [file, ...others] = await client.artifacts(job.id, { signal })
  if (file === undefined || others.length > 0) throw new Refused(1, `the artifact has ${others.length + 1} files`)
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${process.pid}.part`
  try {
    const hash = createHash('sha256')
    await using target = await open(temporary, 'w')
    for await (const piece of client.download(file, { signal })) {
      hash.update(piece)
      await target.write(piece)
    }
    if (hash.digest('hex') !== file.sha256) throw new Refused(1, 'the download is damaged: its SHA-256 is another one')
    await rename(temporary, path)
  } finally {
    await rm(temporary, { force: true })
  }
  console.log(`artifact: ${path} (${file.sizeBytes} bytes; job ${job.links.self})`)
}

async function main(): Promise<void> {
  const options = readOptions()
  const seconds = Number(process.env['TENSORPRESS_TIMEOUT_SECONDS'] ?? 3600)
  const signal = AbortSignal.timeout(seconds * 1000)
  const baseUrl = process.env['TENSORPRESS_URL'] ?? 'http://127.0.0.1:8080'
  const client = createClient({ baseUrl, apiKey: await apiKey(), retrySeconds: Math.min(seconds, 600) })
  const recipe = existsSync(options.recipe) ? await readFile(options.recipe, 'utf8') : options.recipe
  const { job } = await client.compress([await source(options.model)], {
    recipe,
    ...(options.require === undefined ? {} : { require: options.require }),
    dataset: options.dataset === undefined ? undefined : await source(options.dataset),
    signal,
  })
  await keepReport(client, job, options.report, signal)
  if (job.state === 'succeeded') return keepArtifact(client, job, options.output, signal)
  if (job.error === null) throw new Refused(1, `the job was ${job.state}: ${job.links.self}`)
  throw new Refused(STATUS_OF_CODE[job.error.code] ?? 3, `refused: ${job.error.detail} [${job.error.code}]`)
}

try {
  await main()
} catch (error) {
  const refusal = error instanceof TensorpressError
  const reason = refusal ? `${error.detail} [${error.code}]` : String((error as Error).message)
  console.error(`compress-model: ${reason}`)
  if (error instanceof Refused) process.exitCode = error.status
  else process.exitCode = refusal && error.status < 500 ? (STATUS_OF_CODE[error.code] ?? 3) : 1
}
