// Prepared statements on one database, kept between calls, and the two wrappers every call of the catalogue goes through.
// Entry: createStatements. node:sqlite is synchronous: a transaction cannot be interleaved with another call.

import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import { storeError } from './file-errors.ts'

export type Row = Record<string, SQLInputValue>

export interface Statements {
  get(sql: string, ...values: SQLInputValue[]): Row | undefined
  all(sql: string, ...values: SQLInputValue[]): Row[]
  /** Returns how many rows changed. */
  run(sql: string, ...values: SQLInputValue[]): number
  /** Every public call: synchronous inside, a promise outside, failures as AppErrors. */
  call<T>(doing: string, work: () => T): Promise<T>
  /** All or nothing. Not to be nested. */
  transaction<T>(work: () => T): T
}

/** @param path of the database, for errors. */
export function createStatements(db: DatabaseSync, path: string): Statements {
  const prepared = new Map<string, StatementSync>()
  function statement(sql: string): StatementSync {
    const known = prepared.get(sql)
    if (known !== undefined) return known
    const made = db.prepare(sql)
    prepared.set(sql, made)
    return made
  }
  return {
    get: (sql, ...values) => statement(sql).get(...values) as Row | undefined,
    all: (sql, ...values) => statement(sql).all(...values) as Row[],
    run: (sql, ...values) => Number(statement(sql).run(...values).changes),
    async call(doing, work) {
      try {
        return work()
      } catch (error) {
        throw storeError(error, `${doing} (${path})`)
      }
    },
    transaction: (work) => transaction(db, work),
  }
}

export function transaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    db.exec('COMMIT')
    return result
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

export const parse = <T>(value: SQLInputValue | undefined): T => JSON.parse(String(value)) as T
export const textOrNull = (value: SQLInputValue | undefined) =>
  value === null || value === undefined ? null : String(value)
