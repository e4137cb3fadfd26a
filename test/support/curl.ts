// The real curl, as a deployment pipeline would call it.

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface CurlAnswer {
  status: number
  /** Lower-case names. */
  headers: Record<string, string>
  body: Buffer
  text: string
  json: <T>() => T
}

/** `folder` takes the temporary files. Never throws for an HTTP status; throws when curl itself fails. */
export async function curl(folder: string, ...args: string[]): Promise<CurlAnswer> {
  const head = join(folder, `head-${Math.random()}`)
  const body = join(folder, `body-${Math.random()}`)
  const { stdout } = await run('curl', ['-sS', '-D', head, '-o', body, '-w', '%{http_code}', ...args])
  // A 100 Continue has a block of its own before the answer.
  const block = readFileSync(head, 'latin1').trimEnd().split('\r\n\r\n').at(-1)!
  const headers = Object.fromEntries(
    block
      .split('\r\n')
      .slice(1)
      .map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  )
  const bytes = Number(stdout) === 204 || Number(stdout) === 304 ? Buffer.alloc(0) : readFileSync(body)
  const text = bytes.toString('utf8')
  return { status: Number(stdout), headers, body: bytes, text, json: <T>() => JSON.parse(text) as T }
}

/** A shell line exactly as it was printed. Resolves with curl's exit code. */
export async function shell(line: string, cwd: string): Promise<{ code: number; stderr: string }> {
  try {
    const { stderr } = await run('bash', ['-c', line], { cwd })
    return { code: 0, stderr }
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string }
    return { code, stderr }
  }
}
