// The dataset that somebody named: an .npz file, hashed so that the report can name it. What it holds is read by the inference child.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { AppError } from '../errors.ts'
import type { JobSpec } from '../jobs/run-job.ts'

/** Throws not_found. */
export async function datasetFile(argument: string | undefined): Promise<JobSpec['dataset']> {
  if (argument === undefined) return null
  const path = resolve(argument)
  const found = await stat(path).catch(() => null)
  if (!found?.isFile()) throw new AppError('not_found', `the dataset "${argument}" is not a file`, { file: argument })
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return { id: null, path, fileName: basename(path), sizeBytes: found.size, sha256: hash.digest('hex') }
}
