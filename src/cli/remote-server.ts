// The client for the server of --server, with its key, and how the client's failures become the errors and exit codes of the
// command line. Entries: connect, remotely.

import { readFile } from 'node:fs/promises'
import { type Client, ConnectionError, createClient, TensorpressError } from '../client/index.ts'
import { AppError } from '../errors.ts'
import type { CommandLine } from './command.ts'

/** How long to try again while nothing gets on: a server that is replaced is back within this. */
const RETRY_SECONDS = 120

/** Throws usage, not_found. */
export async function connect(server: string, args: CommandLine, environment = process.env): Promise<Client> {
  const seconds = Number(environment['TENSORPRESS_RETRY_SECONDS'] || RETRY_SECONDS)
  if (!(seconds >= 0)) {
    throw new AppError('usage', 'TENSORPRESS_RETRY_SECONDS must be a number of seconds', {
      path: 'TENSORPRESS_RETRY_SECONDS',
    })
  }
  return createClient({ baseUrl: server, apiKey: await apiKey(args, environment), retrySeconds: seconds })
}

/** The file wins; what stands in it is never shown. */
async function apiKey(args: CommandLine, environment: NodeJS.ProcessEnv): Promise<string | undefined> {
  const path = args.text('api-key-file')
  if (path === undefined) return environment['TENSORPRESS_API_KEY']?.trim() || undefined
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new AppError('not_found', `the key file "${path}" cannot be read (${error.code})`, { file: path }, error)
  })
  const key = text.trim()
  if (/^\S+$/.test(key)) return key
  throw new AppError('usage', `the key file "${path}" must hold one key and nothing else`, { path: 'api-key-file' })
}

/** Errors of the server keep their code, and with it their exit status. */
export async function remotely<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof TensorpressError) {
      const { code, detail, context } = error
      const hint = code === 'unauthorized' ? ' Here: in TENSORPRESS_API_KEY, or in a file by --api-key-file.' : ''
      throw AppError.fromObject({ code, detail: `${detail}${hint}`, context })
    }
    if (error instanceof ConnectionError) throw new AppError('server_unreachable', error.message, {}, error)
    throw error
  }
}
