// The version of a catalogue and the way forward from it. Entries: migrate (at the start of a server) and checkSchema (before
// anything in the folder is touched). There is no way back: an older Tensorpress refuses a newer catalogue by its number.

import { existsSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { AppError } from '../errors.ts'
import { storeError } from './file-errors.ts'
import { MIGRATIONS } from './sqlite-schema.ts'
import { transaction } from './sqlite-statements.ts'

export function migrate(db: DatabaseSync, path: string): void {
  db.exec('CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL) STRICT')
  const found = schemaVersion(db)
  refuseNewer(found, path)
  for (const [index, sql] of MIGRATIONS.entries()) {
    if (index < found) continue
    transaction(db, () => {
      db.exec(sql)
      db.prepare('INSERT INTO schema_versions VALUES (?, ?)').run(index + 1, new Date().toISOString())
    })
  }
}

/**
 * Throws store_failed when the catalogue is of a newer version or is damaged, and conflict when it is of an older one and
 * `allowOlder` is false. A catalogue that is not there yet passes.
 */
export function checkSchema(path: string, allowOlder: boolean): void {
  if (!existsSync(path)) return
  let db: DatabaseSync | null = null
  try {
    db = new DatabaseSync(path, { readOnly: true })
    const found = schemaVersion(db)
    refuseNewer(found, path)
    if (!allowOlder && found < MIGRATIONS.length) {
      throw new AppError(
        'conflict',
        `The data folder was written by an older Tensorpress: ${path} has schema version ${found}, this version has ` +
          `${MIGRATIONS.length}. Start the server once to upgrade it (docs/operations.md), then try again.`,
        { found, allowed: MIGRATIONS.length },
      )
    }
  } catch (error) {
    throw storeError(error, `opening the catalogue ${path}`)
  } finally {
    db?.close()
  }
}

/** 0: nothing was applied yet. */
function schemaVersion(db: DatabaseSync): number {
  const known = db.prepare(`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_versions'`).get()
  if (known === undefined) return 0
  return Number(db.prepare('SELECT coalesce(max(version), 0) AS version FROM schema_versions').get()?.['version'])
}

function refuseNewer(found: number, path: string): void {
  if (found <= MIGRATIONS.length) return
  throw new AppError(
    'store_failed',
    `The data folder was written by a newer Tensorpress: ${path} has schema version ${found}, this version knows up to ` +
      `${MIGRATIONS.length}. Start the newer version, or give --data-dir another folder.`,
    { found, allowed: MIGRATIONS.length },
  )
}
