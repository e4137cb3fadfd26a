// Failures of the file system and of SQLite as AppErrors: a full disk is `disk_full`, everything else `store_failed`. What
// was being done and the system's own code are always named.

import { AppError } from '../errors.ts'

/** SQLITE_FULL, primary result code (https://sqlite.org/rescode.html). */
const SQLITE_FULL = 13

/** The error as an AppError; AppErrors pass unchanged. `doing` reads as "while <doing>". */
export function storeError(error: unknown, doing: string): AppError {
  if (error instanceof AppError) return error
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  const systemCode = typeof code === 'string' ? code : 'unknown'
  const message = error instanceof Error ? error.message : String(error)
  const full = systemCode === 'ENOSPC' || systemCode === 'EDQUOT' || errcode === SQLITE_FULL
  return full
    ? new AppError(
        'disk_full',
        `No space was left while ${doing}. Free some space and try again.`,
        { systemCode },
        error,
      )
    : new AppError('store_failed', `The store failed while ${doing}: ${message}`, { systemCode }, error)
}

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
