// Resumable uploads in the SQLite catalogue. Entries: sqliteUploads, whose calls become part of the Catalog; finishUploads for
// the transactions that add what was made of them.

import { type Row, type Statements, textOrNull } from './sqlite-statements.ts'
import { clashingName } from './upload.ts'
import type { UploadCatalog, UploadChange, UploadKind, UploadRecord, UploadState } from './upload-catalog.ts'

const OPEN = `state IN ('receiving', 'stored')`

const COLUMNS: Record<keyof UploadChange, string> = {
  storedBytes: 'stored_bytes',
  sha256: 'sha256',
  state: 'state',
  resultId: 'result_id',
  error: 'error',
  expiresAt: 'expires_at',
}

/** In one statement; with others inside a transaction. */
export function finishUploads({ run }: Statements, ids: readonly string[], resultId: string): void {
  if (ids.length === 0) return
  const sql = `UPDATE uploads SET state = 'finished', result_id = ? WHERE id IN (SELECT value FROM json_each(?))`
  run(sql, resultId, JSON.stringify(ids))
}

export function sqliteUploads(statements: Statements): UploadCatalog {
  const { get, all, run, call, transaction } = statements
  return {
    addUpload: (upload, rules) =>
      call('adding an upload', () =>
        transaction(() => {
          if (upload.submittedBy !== null) {
            const sql = `SELECT count(*) AS n FROM uploads WHERE submitted_by = ? AND ${OPEN}`
            const own = Number(get(sql, upload.submittedBy)?.['n'])
            if (own >= rules.maxOpenPerKey) return { kind: 'too_many_of_key', open: own }
          }
          const open = Number(get(`SELECT count(*) AS n FROM uploads WHERE ${OPEN}`)?.['n'])
          if (open >= rules.maxOpen) return { kind: 'too_many', open }
          if (upload.setName !== null) {
            const set = `FROM uploads WHERE set_name = ? AND ${OPEN}`
            const twin = get(`SELECT id ${set} AND file_name = ?`, upload.setName, upload.fileName)
            if (twin !== undefined) return { kind: 'name_taken', uploadId: String(twin['id']) }
            const names = all(`SELECT file_name ${set}`, upload.setName).map((row) => String(row['file_name']))
            const clash = clashingName(upload.fileName, names)
            if (clash !== null) return { kind: 'names_clash', fileName: clash }
            const sum = get(`SELECT count(*) AS n, coalesce(sum(size_bytes), 0) AS bytes ${set}`, upload.setName)
            const files = Number(sum?.['n']) + 1
            const sizeBytes = Number(sum?.['bytes']) + upload.sizeBytes
            if (files > rules.maxSetFiles) return { kind: 'set_too_long', files }
            if (sizeBytes > rules.maxSetBytes) return { kind: 'set_too_large', sizeBytes }
          }
          run(
            `INSERT INTO uploads (id, kind, file_name, set_name, size_bytes, stored_bytes, expected_sha256, sha256, state,
               result_id, error, metadata, submitted_by, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
            upload.id,
            upload.kind,
            upload.fileName,
            upload.setName,
            upload.sizeBytes,
            upload.storedBytes,
            upload.expectedSha256,
            upload.sha256,
            upload.state,
            upload.resultId,
            upload.error === null ? null : JSON.stringify(upload.error),
            JSON.stringify(upload.metadata),
            upload.submittedBy,
            upload.createdAt,
            upload.expiresAt,
          )
          return { kind: 'added' }
        }),
      ),
    getUpload: (id) =>
      call('reading an upload', () => {
        const row = get('SELECT * FROM uploads WHERE id = ?', id)
        return row === undefined ? null : readUpload(row)
      }),
    changeUpload: (id, change) =>
      call('changing an upload', () => {
        const entries = (Object.keys(COLUMNS) as (keyof UploadChange)[]).flatMap((key) => {
          const value = change[key]
          if (value === undefined) return []
          const stored = value !== null && typeof value === 'object' ? JSON.stringify(value) : value
          return [[COLUMNS[key], stored] as const]
        })
        const assignments = entries.map(([column]) => `${column} = ?`).join(', ')
        const values = entries.map(([, value]) => value)
        const row = get(`UPDATE uploads SET ${assignments} WHERE id = ? RETURNING *`, ...values, id)
        return row === undefined ? null : readUpload(row)
      }),
    finishUploads: (ids, resultId) => call('finishing uploads', () => finishUploads(statements, ids, resultId)),
    deleteUpload: (id) => call('deleting an upload', () => run('DELETE FROM uploads WHERE id = ?', id) === 1),
    listUploads: (state) =>
      call('listing uploads', () => {
        const rows =
          state === null
            ? all('SELECT * FROM uploads ORDER BY seq')
            : all('SELECT * FROM uploads WHERE state = ? ORDER BY seq', state)
        return rows.map(readUpload)
      }),
    expiredUploads: (now) =>
      call('listing expired uploads', () =>
        all('SELECT * FROM uploads WHERE expires_at <= ? ORDER BY seq', now).map(readUpload),
      ),
    openUploadBytes: () =>
      call('adding up uploads', () => {
        const row = get(
          `SELECT coalesce(sum(stored_bytes), 0) AS stored, coalesce(sum(size_bytes - stored_bytes), 0) AS missing
           FROM uploads WHERE ${OPEN}`,
        )
        return { storedBytes: Number(row?.['stored']), missingBytes: Number(row?.['missing']) }
      }),
  }
}

function readUpload(row: Row): UploadRecord {
  return {
    id: String(row['id']),
    kind: String(row['kind']) as UploadKind,
    fileName: String(row['file_name']),
    setName: textOrNull(row['set_name']),
    sizeBytes: Number(row['size_bytes']),
    storedBytes: Number(row['stored_bytes']),
    expectedSha256: textOrNull(row['expected_sha256']),
    sha256: textOrNull(row['sha256']),
    state: String(row['state']) as UploadState,
    resultId: textOrNull(row['result_id']),
    error: row['error'] === null ? null : (JSON.parse(String(row['error'])) as UploadRecord['error']),
    metadata: JSON.parse(String(row['metadata'])) as UploadRecord['metadata'],
    submittedBy: textOrNull(row['submitted_by']),
    createdAt: String(row['created_at']),
    expiresAt: String(row['expires_at']),
  }
}
