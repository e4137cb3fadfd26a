// tensorpress compress --server: the model is sent unless the server has it, the job followed to its end, and the artifact fetched,
// checked against its SHA-256 and moved into place as the local command does. Entry: compressOnServer.

import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Client, DownloadSource, Job, JobRequest } from '../client/index.ts'
import { AppError } from '../errors.ts'
import { checkArtifactName } from '../jobs/artifact-key.ts'
import { type CompressOutcome, publishOrder, refuseUnjudgeable } from '../local/compress-model.ts'
import { makeFolder, type Output, openOutput, orStoreFailed, outputTarget, refuseInput } from '../local/output-files.ts'
import { readRecipe } from '../local/read-recipe.ts'
import type { Report } from '../validate/report.ts'
import { parseRequirements } from '../validate/requirement.ts'
import type { CompressWork } from './compress-file.ts'
import { gatherLocally, sendDataset, sendModel } from './remote-model.ts'
import { remotely } from './remote-server.ts'

/** An unmet requirement is a result here. Throws AppError. */
export async function compressOnServer(client: Client, options: CompressWork): Promise<CompressOutcome> {
  const { recipe, output: recipeOutput, require: recipeRequire } = await readRecipe(options.recipe)
  const requirements = [recipeRequire, options.require].flat().flatMap(parseRequirements)
  const { validate = true, overwrite = false, signal, onProgress } = options
  if (!validate) refuseUnjudgeable(requirements, options.dataset)
  const model = await gatherLocally(options.model, signal)
  const target = await outputTarget(model, recipe.name, options.output)
  if (options.output !== undefined) checkArtifactName(target.fileName)
  await refuseInput(target, model)
  const output = await openOutput(target, overwrite)
  try {
    return await remotely(async () => {
      const sent = await sendModel(client, model.files, onProgress, signal)
      const dataset = await sendDataset(client, options.dataset, onProgress, signal)
      const request: JobRequest = {
        model: sent.id,
        dataset,
        recipe: { ...recipe },
        output: { ...recipeOutput, fileName: target.fileName },
        validate,
        require: requirements.length === 0 ? undefined : requirements.map((requirement) => ({ ...requirement })),
      }
      const job = await runJob(client, request, options)
      if (job.state !== 'succeeded' && job.error?.code !== 'requirement_not_met') throw failureOf(job)
      // The documented outline stands for the whole report, which is the local one.
      const report = (await client.report(job.id, { signal })) as unknown as Report
      const requirementMet = job.artifact?.requirementMet ?? null
      const files = requirementMet === false ? [] : await fetchArtifact(client, job, output, target.fileName, options)
      return { files, report, requirementMet }
    })
  } finally {
    await output.discard()
  }
}

/** Resolves with the final job. When this run is interrupted, so is the job. */
async function runJob(client: Client, request: JobRequest, { signal, onProgress }: CompressWork): Promise<Job> {
  const { id } = await client.createJob(request, { signal })
  const show = ({ state, stage, progress }: Job) => {
    const shown = state === 'queued' ? 'queued' : stage
    if (shown !== null) onProgress({ stage: shown, doneBytes: 0, totalBytes: 0, tensor: null, ...progress })
  }
  try {
    return await client.wait(id, { signal, onJob: show })
  } catch (error) {
    if (signal.aborted) await client.call('cancelJob', { path: { id } }).catch(() => {})
    throw error
  }
}

function failureOf(job: Job): AppError {
  if (job.error !== null) return AppError.fromObject(job.error)
  return new AppError('cancelled', `job ${job.id} was cancelled on the server`, { job: job.id })
}

/** Into the private folder first; resolves with the final paths. */
async function fetchArtifact(
  client: Client,
  job: Job,
  output: Output,
  mainName: string,
  { signal, onProgress }: CompressWork,
): Promise<string[]> {
  const files = await client.artifacts(job.id, { signal })
  const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  let doneBytes = 0
  for (const file of files) {
    const path = join(output.temporaryFolder, fileNameOf(file.name))
    await fetchFile(client, file, path, signal, (bytes) => {
      doneBytes += bytes
      onProgress({ stage: 'downloading', doneBytes, totalBytes, tensor: file.name })
    })
  }
  const names = files.map(({ name }) => name)
  return output.publish(output.temporaryFolder, publishOrder(names, mainName))
}

/** A server must not choose where this machine writes. */
function fileNameOf(name: string): string {
  const parts = name.split('/')
  if (!name.includes('\\') && parts.every((part) => part !== '' && part !== '.' && part !== '..')) return name
  throw new AppError('server_unreachable', `the server calls a file of the artifact ${JSON.stringify(name)}`, {})
}

async function fetchFile(
  client: Client,
  file: DownloadSource & { name: string },
  path: string,
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const folder = dirname(path)
  const handle = await orStoreFailed(folder, async () => {
    await makeFolder(folder)
    return open(path, 'wx')
  })
  const hash = createHash('sha256')
  try {
    for await (const piece of client.download(file, { signal })) {
      hash.update(piece)
      await orStoreFailed(folder, () => handle.writeFile(piece))
      onBytes(piece.byteLength)
    }
    await orStoreFailed(folder, () => handle.sync())
  } finally {
    await handle.close()
  }
  const found = hash.digest('hex')
  if (found === file.sha256) return
  throw new AppError(
    'checksum_mismatch',
    `"${file.name}" arrived with SHA-256 ${found} instead of ${file.sha256}; nothing was written`,
    { file: file.name, expected: file.sha256, found },
  )
}
