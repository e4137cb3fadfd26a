// A disk that fills up at a chosen moment: counts the calls of node:fs/promises that need space, in this process, and from the
// given one on lets them fail with ENOSPC. Entry: failingFiles. What SQLite and the children write is not touched.

import fs, { type FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

/** Calls that may need a block or an inode. */
const CALLS = ['mkdir', 'rename', 'link', 'copyFile', 'writeFile'] as const
const HANDLE_CALLS = ['write', 'writev', 'sync'] as const

export interface FailingFiles {
  /** From the `count`-th call on the disk is full: for one call, or until `free`. */
  fill(count: number, until: 'one call' | 'freed'): void
  /** Space again. Returns what failed first; null: nothing did. */
  free(): string | null
}

type Call = (...given: unknown[]) => Promise<unknown>

export async function failingFiles(test: TestContext, folder: string): Promise<FailingFiles> {
  let left = Number.POSITIVE_INFINITY
  let sticky = false
  let first: string | null = null

  const failing = (name: string, real: Call): Call =>
    async function (this: unknown, ...given: unknown[]) {
      left--
      if (left === 0 || (left < 0 && sticky)) {
        first ??= name
        throw Object.assign(new Error(`ENOSPC: no space left on device, ${name}`), { code: 'ENOSPC', syscall: name })
      }
      return real.apply(this, given)
    }

  const replaced: (() => void)[] = []
  function replace(owner: object, name: string): void {
    const members = owner as Record<string, Call>
    const real = members[name]!
    members[name] = failing(name, real)
    replaced.push(() => {
      members[name] = real
    })
  }

  const handle = await fs.open(join(folder, 'probe'), 'w')
  const handles = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  const open = failing('open', fs.open as Call)
  const realOpen = fs.open
  // Only an open that creates needs space.
  const members = fs as unknown as Record<string, Call>
  members['open'] = (...given) => (/[wa]/.test(String(given[1])) ? open(...given) : (realOpen as Call)(...given))
  replaced.push(() => {
    members['open'] = realOpen as Call
  })
  for (const name of CALLS) replace(fs, name)
  for (const name of HANDLE_CALLS) replace(handles, name)
  syncBuiltinESMExports()
  test.after(() => {
    for (const undo of replaced) undo()
    syncBuiltinESMExports()
  })

  return {
    fill(count, until) {
      left = count
      sticky = until === 'freed'
      first = null
    },
    free() {
      left = Number.POSITIVE_INFINITY
      sticky = false
      return first
    },
  }
}
