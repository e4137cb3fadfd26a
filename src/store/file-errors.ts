// Failures of the file system and of SQLite as AppErrors: a full disk is `disk_full`, everything else `store_failed`. What
// was being done and the system's own code are always named; a damaged catalogue comes with the way back.

import { AppError } from '../errors.ts'

/** SQLITE_FULL, primary result code (https://sqlite.org/rescode.html). */
const SQLITE_FULL = 13
/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const SQLITE_DAMAGED: readonly unknown[] = [11, 26]

/** The error as an AppError; AppErrors pass unchanged. `doing` reads as "while <doing>". */
export function storeError(error: unknown, doing: string): AppError {
  if (error instanceof AppError) return error
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  const systemCode = typeof code === 'string' ? code : 'unknown'
  const message = error instanceof Error ? error.message : String(error)
  const full = systemCode === 'ENOSPC' || systemCode === 'EDQUOT' || errcode === SQLITE_FULL
  if (full) {
    const detail = `No space was left while ${doing}. Free some space and try again.`
    return new AppError('disk_full', detail, { systemCode }, error)
  }
  // The extended result code carries the primary one in its low byte.
  const damaged = typeof errcode === 'number' && SQLITE_DAMAGED.includes(errcode & 0xff)
  const wayBack = damaged ? `. ${RESTORE}` : ''
  return new AppError('store_failed', `The store failed while ${doing}: ${message}${wayBack}`, { systemCode }, error)
}

/** What an operator can do about a catalogue that SQLite calls damaged. */
export const RESTORE =
  'The catalogue is damaged. Stop the server, keep a copy of the data folder, and restore catalog.sqlite from a backup ' +
  'without its -wal and -shm files; or salvage what is readable: sqlite3 catalog.sqlite .recover | sqlite3 new.sqlite'

/** Runs `work`; whatever it throws becomes an AppError. */
export async function inStore<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw storeError(error, doing)
  }
}

export function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === 'ENOENT'
}
