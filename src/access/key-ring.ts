// The keys in force. Entry: openKeyRing. Keys come from a text or from a file that is read again every few seconds, so that a
// mounted secret can change under a running server: reading it (rather than watching it) works the same whether the file was
// written, renamed over, or reached through a link that was swapped, as Kubernetes does. A bad new content changes nothing.

import { timingSafeEqual } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { AppError } from '../errors.ts'
import { type ApiKey, hashSecret, parseApiKeys } from './api-key.ts'

export interface KeyRing {
  /** false: there are no keys, and whoever reaches the server may do everything. */
  readonly required: boolean
  /** Keys in force. */
  readonly count: number
  /** false: the key file holds something that could not be taken, and the keys before it are still in force. */
  readonly current: boolean
  /** null: no such key. How long it takes does not depend on which key it is nor on how much of it is right. */
  identify(secret: string): ApiKey | null
  close(): void
}

export interface KeyRingLog {
  info(fields: Record<string, unknown>, message: string): void
  error(fields: Record<string, unknown>, message: string): void
}

export interface KeySource {
  /** The entries themselves. */
  inline?: string | undefined
  /** A file that holds them. Not together with `inline`. */
  file?: string | undefined
}

/** Kubernetes takes about a minute to bring a changed secret to its pods; this adds little to that. */
const REREAD_MS = 5000
/** A thousand keys are under 200 kB. */
const MAX_FILE_BYTES = 1024 * 1024

/** Throws `usage` when the keys given cannot be read; never goes on with none when some were asked for. */
export async function openKeyRing(source: KeySource, log: KeyRingLog, rereadMs = REREAD_MS): Promise<KeyRing> {
  const { inline, file } = source
  if (inline !== undefined && file !== undefined) {
    throw new AppError('usage', `${INLINE_VARIABLE} and TENSORPRESS_API_KEYS_FILE are both set; use one of them.`)
  }
  if (file !== undefined) return openFileRing(file, log, rereadMs)
  return fixedRing(inline === undefined ? null : parseApiKeys(inline, INLINE_VARIABLE))
}

const INLINE_VARIABLE = 'TENSORPRESS_API_KEYS'

/**
 * Takes the inline keys out of the environment: children inherit it, and what runs there meets hostile files. An empty variable is
 * a mistake (a secret that was not there), not a wish for no keys.
 */
export function takeInlineKeys(environment: NodeJS.ProcessEnv): string | undefined {
  const text = environment[INLINE_VARIABLE]
  delete environment[INLINE_VARIABLE]
  return text
}

/** Keys that do not change; null: none are required. */
export function fixedRing(keys: readonly ApiKey[] | null): KeyRing {
  return {
    required: keys !== null,
    count: keys?.length ?? 0,
    current: true,
    identify: (secret) => find(keys ?? [], secret),
    close() {},
  }
}

async function openFileRing(file: string, log: KeyRingLog, rereadMs: number): Promise<KeyRing> {
  const first = await readKeyFile(file)
  let keys = parseApiKeys(first, file)
  // Of the text only its hash is kept: it may hold secrets in the clear.
  let seen = hashSecret(first)
  let problem: string | null = null
  let reading = false

  async function reread(): Promise<void> {
    if (reading) return // a file system that hangs
    reading = true
    try {
      const found = await readKeyFile(file)
      const hash = hashSecret(found)
      if (!hash.equals(seen)) {
        const changed = parseApiKeys(found, file)
        log.info({ names: namesOf(changed), names_before: namesOf(keys) }, 'API keys changed')
        keys = changed
        seen = hash
      }
      problem = null
    } catch (error) {
      const { detail } = AppError.from(error)
      if (detail !== problem)
        log.error({ error: detail }, 'API keys could not be read again; the ones before stay in force')
      problem = detail
    } finally {
      reading = false
    }
  }

  const timer = setInterval(() => void reread(), rereadMs)
  timer.unref()
  return {
    required: true,
    get count() {
      return keys.length
    },
    get current() {
      return problem === null
    },
    identify: (secret) => find(keys, secret),
    close: () => clearInterval(timer),
  }
}

async function readKeyFile(file: string): Promise<string> {
  try {
    const { size } = await stat(file)
    if (size > MAX_FILE_BYTES) {
      throw new AppError('usage', `${file} has ${size} bytes; a file of API keys has ${MAX_FILE_BYTES} at most.`)
    }
    return await readFile(file, 'utf8')
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('usage', `The file of API keys cannot be read: ${(error as Error).message}`, {}, error)
  }
}

function namesOf(keys: readonly ApiKey[]): string[] {
  return [...new Set(keys.map(({ name }) => name))]
}

/** Compares with every key, so that finding an early one is not faster. */
function find(keys: readonly ApiKey[], secret: string): ApiKey | null {
  const hash = hashSecret(secret)
  let found: ApiKey | null = null
  for (const key of keys) {
    if (timingSafeEqual(key.hash, hash)) found = key
  }
  return found
}
