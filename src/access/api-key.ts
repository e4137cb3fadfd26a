// An API key: a name, scopes, and the SHA-256 of its secret. `parseApiKeys` reads what an operator writes down
// (NAME:SCOPES:SECRET, one entry a line or separated by spaces), `newApiKey` makes a key. No error message and no value that
// leaves this file holds a secret.
//
// Why a plain SHA-256: a slow hash is for passwords, which people choose and which can be guessed. A key has 256 random bits, so
// its hash cannot be searched, and a slow hash would only let anybody keep the server busy with wrong keys.

import { createHash, randomBytes } from 'node:crypto'
import { AppError } from '../errors.ts'

/** What a key may do. `admin` may do everything. */
export const SCOPES = {
  admin: 'everything, also deleting models and datasets, and cancelling jobs of other keys',
  submit: 'upload models and datasets, create jobs, cancel its own jobs, POST /v1/compress',
  read: 'list, describe, plan, follow; reports and artifacts',
  metrics: '/metrics',
} as const

export type Scope = keyof typeof SCOPES
export const SCOPE_NAMES = Object.keys(SCOPES) as Scope[]

export interface ApiKey {
  name: string
  scopes: ReadonlySet<Scope>
  /** SHA-256 of the secret, 32 bytes. */
  hash: Buffer
}

/** 32 characters of base64url are 192 bits where they are random; words and dates are shorter. */
export const MIN_SECRET_CHARACTERS = 32
/** Header lines are limited to 16 KiB; a key that long would be a mistake. */
const MAX_SECRET_CHARACTERS = 512
/** Each request is compared with every key. */
export const MAX_KEYS = 1000
const SECRET_BYTES = 32
/** Marks a key in texts, so that scanners for leaked secrets can find it. */
const SECRET_PREFIX = 'tpk_'
const HASH_PREFIX = 'sha256:'
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/

export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret, 'utf8').digest()
}

export function allows(key: Pick<ApiKey, 'scopes'>, scope: Scope): boolean {
  return key.scopes.has('admin') || key.scopes.has(scope)
}

/** A fresh secret, and the entry with its hash. Throws `usage`. */
export function newApiKey(name: string, scopes: readonly string[]): { secret: string; entry: string } {
  if (!NAME.test(name)) throw new AppError('usage', `--name ${JSON.stringify(name)}: ${NAME_RULE}`)
  const known = readScopes(scopes)
  if (known === null) {
    throw new AppError('usage', `--scopes ${JSON.stringify(scopes.join(','))}: ${SCOPES_RULE}`)
  }
  const secret = SECRET_PREFIX + randomBytes(SECRET_BYTES).toString('base64url')
  return { secret, entry: `${name}:${[...known].join(',')}:${HASH_PREFIX}${hashSecret(secret).toString('hex')}` }
}

const NAME_RULE =
  'a name is 1 to 64 lower-case letters, digits, dots, dashes and underscores, and begins with a letter or digit'
const SCOPES_RULE = `scopes are one or more of ${SCOPE_NAMES.join(', ')}, separated by commas`

function readScopes(words: readonly string[]): Set<Scope> | null {
  const scopes = new Set<Scope>()
  for (const word of words) {
    if (!Object.hasOwn(SCOPES, word)) return null
    scopes.add(word as Scope)
  }
  return scopes.size === 0 ? null : scopes
}

/**
 * Reads the entries of a text; lines that begin with `#` are comments. Throws `usage` naming the entry by its place and, where it
 * has a proper one, its name; never by a part that may be a secret.
 * @param source what the text is called in errors, such as the path of the file.
 */
export function parseApiKeys(text: string, source: string): ApiKey[] {
  const keys: ApiKey[] = []
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trimStart().startsWith('#')) continue
    for (const entry of line.split(/\s+/)) {
      if (entry !== '') keys.push(parseEntry(entry, `${source}, line ${index + 1}`))
    }
  }
  if (keys.length === 0) throw new AppError('usage', `${source} holds no key. ${WHAT_TO_DO}`)
  if (keys.length > MAX_KEYS) {
    throw new AppError('usage', `${source} holds ${keys.length} keys; ${MAX_KEYS} are allowed.`)
  }
  refuseContradictions(keys, source)
  return keys
}

const WHAT_TO_DO = '`tensorpress keys new --name NAME --scopes SCOPES` makes one.'

function parseEntry(entry: string, place: string): ApiKey {
  const bad = (what: string) => new AppError('usage', `${place}: ${what}. ${WHAT_TO_DO}`)
  const [name = '', scopeList, ...rest] = entry.split(':')
  if (scopeList === undefined || rest.length === 0) throw bad('an entry is not of the form NAME:SCOPES:SECRET')
  if (!NAME.test(name)) throw bad(`an entry has no proper name; ${NAME_RULE}`)
  const scopes = readScopes(scopeList.split(','))
  if (scopes === null) throw bad(`key "${name}" has no proper scopes; ${SCOPES_RULE}`)
  const secret = rest.join(':')
  if (secret.startsWith(HASH_PREFIX)) {
    const hex = secret.slice(HASH_PREFIX.length)
    if (!/^[0-9a-f]{64}$/i.test(hex))
      throw bad(`the hash of key "${name}" is not ${HASH_PREFIX} and 64 hexadecimal digits`)
    return { name, scopes, hash: Buffer.from(hex, 'hex') }
  }
  if (!/^[\x21-\x7e]*$/.test(secret)) throw bad(`the secret of key "${name}" has characters beyond printable ASCII`)
  if (secret.length < MIN_SECRET_CHARACTERS || secret.length > MAX_SECRET_CHARACTERS) {
    throw bad(
      `the secret of key "${name}" has ${secret.length} characters; ${MIN_SECRET_CHARACTERS} to ${MAX_SECRET_CHARACTERS} are allowed, and they should be random`,
    )
  }
  return { name, scopes, hash: hashSecret(secret) }
}

/** A name may come twice while its secret is being changed, but means the same rights; a secret has one name. */
function refuseContradictions(keys: readonly ApiKey[], source: string): void {
  const scopesOf = new Map<string, string>()
  const nameOf = new Map<string, string>()
  for (const { name, scopes, hash } of keys) {
    const list = [...scopes].sort().join(',')
    if ((scopesOf.get(name) ?? list) !== list) {
      throw new AppError('usage', `${source}: key "${name}" comes twice with different scopes.`)
    }
    scopesOf.set(name, list)
    const hex = hash.toString('hex')
    const other = nameOf.get(hex)
    if (other !== undefined)
      throw new AppError('usage', `${source}: keys "${other}" and "${name}" have the same secret.`)
    nameOf.set(hex, name)
  }
}
