// Resident memory of another process, read from Linux' procfs. Loads no native code, so the server may import it.

import { readFileSync } from 'node:fs'

/** Resident bytes of a process; null where there is no procfs, or no such process any more. */
export function residentBytes(pid: number | undefined): number | null {
  if (process.platform !== 'linux' || pid === undefined) return null
  try {
    const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
    return line === null ? null : Number(line[1]) * 1024
  } catch {
    return null
  }
}
