// Seals secrets that clients entrust to the catalogue (AES-256-GCM), so that a copy of the catalogue alone gives none away.
// Entry: createSecretBox. The key is a file of the data folder, made when first needed and readable by its owner only.
// Layout of a sealed text: "1." and base64url of 12 bytes nonce, 16 bytes tag, ciphertext.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import * as fs from 'node:fs/promises'
import { dirname } from 'node:path'
import { AppError } from '../errors.ts'
import { syncFolder } from './durable-files.ts'
import { inStore, isMissing } from './file-errors.ts'

export interface SecretBox {
  /** @param owner what the secret belongs to; it opens for no other. */
  seal(secret: string, owner: string): Promise<string>
  /** Throws store_failed when the key file is another one or is gone. */
  open(sealed: string, owner: string): Promise<string>
}

const VERSION = '1.'
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16

export function createSecretBox(keyPath: string): SecretBox {
  let known: Promise<Buffer> | null = null

  async function readKey(): Promise<Buffer | null> {
    try {
      const key = await fs.readFile(keyPath)
      if (key.byteLength === KEY_BYTES) return key
      // Left by a full disk or a kill while it was made: nothing was sealed with it.
      if (key.byteLength === 0) return null
      throw new AppError('store_failed', `${keyPath} has ${key.byteLength} bytes instead of ${KEY_BYTES}. ${ADVICE}`)
    } catch (error) {
      if (isMissing(error)) return null
      throw error
    }
  }

  async function makeKey(): Promise<Buffer> {
    const key = randomBytes(KEY_BYTES)
    // Under its own name only when it is whole; the lock of the data folder keeps others out.
    await fs.writeFile(`${keyPath}.new`, key, { mode: 0o600, flush: true })
    await fs.rename(`${keyPath}.new`, keyPath)
    await syncFolder(dirname(keyPath))
    return key
  }

  function key(make: boolean): Promise<Buffer> {
    known ??= inStore(`reading ${keyPath}`, async () => {
      const found = await readKey()
      if (found !== null) return found
      if (make) return makeKey()
      throw new AppError('store_failed', `${keyPath} is gone. ${ADVICE}`)
    })
    known.catch(() => {
      known = null
    })
    return known
  }

  return {
    async seal(secret, owner) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv('aes-256-gcm', await key(true), nonce).setAAD(Buffer.from(owner))
      const sealed = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()])
      return VERSION + Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64url')
    },
    async open(sealed, owner) {
      const bytes = Buffer.from(sealed.slice(VERSION.length), 'base64url')
      const opener = await key(false)
      try {
        const decipher = createDecipheriv('aes-256-gcm', opener, bytes.subarray(0, NONCE_BYTES))
          .setAAD(Buffer.from(owner))
          .setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES))
        const text = decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES))
        return Buffer.concat([text, decipher.final()]).toString('utf8')
      } catch (error) {
        throw new AppError('store_failed', `A sealed secret does not open with ${keyPath}. ${ADVICE}`, {}, error)
      }
    },
  }
}

const ADVICE = 'Restore that file from the backup that the catalogue came from.'
