// The catalogue on SQLite (node:sqlite). Entry: openSqliteCatalog. WAL with synchronous=FULL: what a call acknowledged is on
// disk. node:sqlite blocks the thread, so every statement is prepared, indexed and touches few rows; progress of running
// jobs never comes here.

import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { AppError } from '../errors.ts'
import type {
  ArtifactRecord,
  Catalog,
  DatasetRecord,
  JobRecord,
  JobState,
  ModelRecord,
  Page,
  PageRequest,
  ValidationRecord,
} from './catalog.ts'
import { RESTORE, storeError } from './file-errors.ts'
import { migrate } from './sqlite-migrate.ts'
import { artifactUser, createRetentionRows, jobUser, releaseBlobs, useBlobs } from './sqlite-retention.ts'
import { createStatements, parse, type Row, textOrNull } from './sqlite-statements.ts'
import { finishUploads, sqliteUploads } from './sqlite-uploads.ts'
import { addWebhook, createWebhookRows, releaseWebhooks } from './sqlite-webhooks.ts'

/**
 * Opens or creates the catalogue file, checks it and migrates it forward. Throws store_failed when it is damaged or was written
 * by a newer version.
 */
export function openSqliteCatalog(path: string, { keepsSpace = true } = {}): Catalog {
  try {
    const db = new DatabaseSync(path)
    try {
      db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
      refuseDamaged(db, path)
      migrate(db, path)
      if (keepsSpace) keepSpace(db)
      return createCatalog(db, path)
    } catch (error) {
      db.close()
      throw error
    }
  } catch (error) {
    throw storeError(error, `opening the catalogue ${path}`)
  }
}

/** Reads every page (100 MB take about a second): what is damaged is met now, not by a client in some weeks. */
function refuseDamaged(db: DatabaseSync, path: string): void {
  const found = db.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
  if (found === 'ok') return
  throw new AppError('store_failed', `${path} is damaged: ${String(found)}. ${RESTORE}`, {
    systemCode: 'SQLITE_CORRUPT',
  })
}

/** Pages of the write-ahead log that are on disk before they are needed, and after how many it is written back. */
const KEPT_PAGES = 128
const PAGE_BYTES = 4096

/**
 * A commit on a full disk must not need more space, or the end of a job could not be recorded. So the log is grown once,
 * and starts over before it would have to grow again; the pages that come free in the catalogue itself serve new rows.
 */
function keepSpace(db: DatabaseSync): void {
  db.exec(`PRAGMA wal_autocheckpoint = ${KEPT_PAGES}`)
  try {
    db.exec('DROP TABLE IF EXISTS kept_space; CREATE TABLE kept_space (bytes BLOB) STRICT')
    db.prepare('INSERT INTO kept_space VALUES (zeroblob(?))').run(2 * KEPT_PAGES * PAGE_BYTES)
  } catch (error) {
    // A disk that is full already is no reason not to start: what lies there can still be downloaded and deleted.
    if (storeError(error, '').code !== 'disk_full') throw error
  }
  db.exec('DROP TABLE IF EXISTS kept_space; PRAGMA wal_checkpoint(RESTART)')
}

function createCatalog(db: DatabaseSync, path: string): Catalog {
  const statements = createStatements(db, path)
  const { get, all, run, call, transaction } = statements

  function page<T>(table: string, where: string, values: SQLInputValue[], request: PageRequest, read: (row: Row) => T) {
    const before = request.cursor === null ? Number.MAX_SAFE_INTEGER : cursorToSeq(request.cursor)
    const rows = all(
      `SELECT * FROM ${table} WHERE seq < ? ${where} ORDER BY seq DESC LIMIT ?`,
      before,
      ...values,
      request.limit + 1,
    )
    const items = rows.slice(0, request.limit)
    const next = rows.length > request.limit ? String(items.at(-1)?.['seq']) : null
    return { items: items.map(read), next } satisfies Page<T>
  }

  const job = (id: string) => {
    const row = get('SELECT * FROM jobs WHERE id = ?', id)
    return row === undefined ? null : readJob(row)
  }

  /** A job that was accepted or has ended used its model and dataset. */
  function markUsed(modelId: string, datasetId: string | null, now: string): void {
    run('UPDATE models SET last_used_at = ? WHERE id = ?', now, modelId)
    if (datasetId !== null) run('UPDATE datasets SET last_used_at = ? WHERE id = ?', now, datasetId)
  }

  function replay(submittedBy: string | null, key: string): { job: JobRecord; fingerprint: string } | null {
    const seen = get('SELECT * FROM idempotency_keys WHERE owner = ? AND key = ?', submittedBy ?? '', key)
    const known = seen === undefined ? null : job(String(seen['job_id']))
    return seen === undefined || known === null ? null : { job: known, fingerprint: String(seen['fingerprint']) }
  }

  function remove(table: 'models' | 'datasets', column: 'model_id' | 'dataset_id', id: string) {
    return transaction(() => {
      const user = get(`SELECT id FROM jobs WHERE ${column} = ? AND state IN ('queued', 'running') LIMIT 1`, id)
      if (user !== undefined) return { kind: 'in_use', jobId: String(user['id']) } as const
      return { kind: run(`DELETE FROM ${table} WHERE id = ?`, id) === 1 ? 'deleted' : 'missing' } as const
    })
  }

  return {
    addModel: (model, uploadIds = []) =>
      call('adding a model', () => {
        const { id, files, sizeBytes, summary, tensorCount, parameterCount, createdAt } = model
        const sql = `INSERT INTO models (id, files, size_bytes, summary, tensor_count, parameter_count, created_at, last_used_at)
                     VALUES (?, ?, ?, ?, ?, ?, ?7, ?7) ON CONFLICT (id) DO NOTHING`
        const values = [
          JSON.stringify(files),
          sizeBytes,
          JSON.stringify(summary),
          tensorCount,
          parameterCount,
          createdAt,
        ]
        return transaction(() => {
          finishUploads(statements, uploadIds, id)
          return run(sql, id, ...values) === 1
        })
      }),
    getModel: (id) =>
      call('reading a model', () => {
        const row = get('SELECT * FROM models WHERE id = ?', id)
        return row === undefined ? null : readModel(row)
      }),
    listModels: (request) => call('listing models', () => page('models', '', [], request, readModel)),
    deleteModel: (id) => call('deleting a model', () => remove('models', 'model_id', id)),

    addDataset: (dataset, uploadIds = []) =>
      call('adding a dataset', () => {
        const sql = `INSERT INTO datasets (id, file, arrays, size_bytes, created_at, last_used_at)
                     VALUES (?, ?, ?, ?, ?5, ?5) ON CONFLICT (id) DO NOTHING`
        const { id, file, arrays, createdAt } = dataset
        return transaction(() => {
          finishUploads(statements, uploadIds, id)
          return run(sql, id, JSON.stringify(file), JSON.stringify(arrays), file.sizeBytes, createdAt) === 1
        })
      }),
    getDataset: (id) =>
      call('reading a dataset', () => {
        const row = get('SELECT * FROM datasets WHERE id = ?', id)
        return row === undefined ? null : readDataset(row)
      }),
    listDatasets: (request) => call('listing datasets', () => page('datasets', '', [], request, readDataset)),
    deleteDataset: (id) => call('deleting a dataset', () => remove('datasets', 'dataset_id', id)),

    enqueueJob: (added, idempotency, { maxQueued, maxPerSubmitter }) =>
      call('adding a job', () =>
        transaction(() => {
          if (idempotency !== null) {
            const seen = replay(added.submittedBy, idempotency.key)
            if (seen !== null) {
              const same = seen.fingerprint === idempotency.fingerprint
              return same ? { kind: 'replayed', job: seen.job } : { kind: 'key_reused', jobId: seen.job.id }
            }
          }
          if (added.submittedBy !== null) {
            const sql = `SELECT count(*) AS n FROM jobs WHERE submitted_by = ? AND state IN ('queued', 'running')`
            const live = Number(get(sql, added.submittedBy)?.['n'])
            if (live >= maxPerSubmitter) return { kind: 'submitter_full', live }
          }
          const queued = Number(get(`SELECT count(*) AS n FROM jobs WHERE state = 'queued'`)?.['n'])
          if (queued >= maxQueued) return { kind: 'queue_full', queued }
          if (get('SELECT 1 FROM models WHERE id = ?', added.modelId) === undefined) return { kind: 'model_missing' }
          if (added.datasetId !== null && get('SELECT 1 FROM datasets WHERE id = ?', added.datasetId) === undefined) {
            return { kind: 'dataset_missing' }
          }
          run(
            `INSERT INTO jobs (id, state, attempt, model_id, dataset_id, submitted_by, payload, created_at)
             VALUES (?, 'queued', 1, ?, ?, ?, ?, ?)`,
            added.id,
            added.modelId,
            added.datasetId,
            added.submittedBy,
            JSON.stringify(added.payload),
            added.createdAt,
          )
          markUsed(added.modelId, added.datasetId, added.createdAt)
          if (added.webhook) addWebhook(statements, added.id, added.webhook)
          if (idempotency !== null) {
            const { key, fingerprint } = idempotency
            run(
              'INSERT OR REPLACE INTO idempotency_keys VALUES (?, ?, ?, ?, ?)',
              added.submittedBy ?? '',
              key,
              fingerprint,
              added.id,
              added.createdAt,
            )
          }
          return { kind: 'created', job: job(added.id)! }
        }),
      ),
    findReplay: (submittedBy, key) => call('looking for a job asked for before', () => replay(submittedBy, key)),
    getJob: (id) => call('reading a job', () => job(id)),
    listJobs: (request) =>
      call('listing jobs', () => {
        const filters = [
          ...(request.state ? [['AND state = ?', request.state] as const] : []),
          ...(request.modelId ? [['AND model_id = ?', request.modelId] as const] : []),
        ]
        const where = filters.map(([sql]) => sql).join(' ')
        const values = filters.map(([, value]) => value)
        return page('jobs', where, values, request, readJob)
      }),
    countJobs: () =>
      call('counting jobs', () => {
        const rows = all(`SELECT state, count(*) AS n FROM jobs WHERE state IN ('queued', 'running') GROUP BY state`)
        const count = (state: JobState) => Number(rows.find((row) => row['state'] === state)?.['n'] ?? 0)
        const head = get(`SELECT created_at FROM jobs WHERE state = 'queued' ORDER BY seq LIMIT 1`)
        const oldestQueuedAt = head === undefined ? null : String(head['created_at'])
        return { queued: count('queued'), running: count('running'), oldestQueuedAt }
      }),
    claimJob: (now) =>
      call('taking a job', () => {
        const row = get(
          `UPDATE jobs SET state = 'running', started_at = coalesce(started_at, max(created_at, ?))
           WHERE seq = (SELECT seq FROM jobs WHERE state = 'queued' ORDER BY seq LIMIT 1) RETURNING *`,
          now,
        )
        return row === undefined ? null : readJob(row)
      }),
    requeueJob: (id, attempt) =>
      call('putting a job back', () => {
        const sql = `UPDATE jobs SET state = 'queued', attempt = ? WHERE id = ? AND state = 'running' RETURNING *`
        const row = get(sql, attempt, id)
        return row === undefined ? null : readJob(row)
      }),
    finishJob: (id, outcome, now) =>
      call('finishing a job', () =>
        transaction(() => {
          const row = get(
            `UPDATE jobs SET state = ?, artifact_key = ?, artifact_reused = ?, requirement_met = ?, report_sha256 = ?,
               error = ?, finished_at = max(coalesce(started_at, created_at), ?)
             WHERE id = ? AND state = 'running' RETURNING *`,
            outcome.state,
            outcome.artifactKey,
            outcome.artifactReused ? 1 : 0,
            outcome.requirementMet === null ? null : Number(outcome.requirementMet),
            outcome.reportSha256,
            outcome.error === null ? null : JSON.stringify(outcome.error),
            now,
            id,
          )
          if (row === undefined) return null
          const finished = readJob(row)
          markUsed(finished.modelId, finished.datasetId, now)
          if (outcome.artifactKey !== null) {
            run('UPDATE artifacts SET last_used_at = ? WHERE key = ?', now, outcome.artifactKey)
          }
          if (outcome.reportSha256 !== null) useBlobs(statements, jobUser(id), [outcome.reportSha256])
          releaseWebhooks(statements)
          return finished
        }),
      ),
    requestCancel: (id, now) =>
      call('cancelling a job', () =>
        transaction(() => {
          run(
            `UPDATE jobs SET state = 'cancelled', finished_at = max(created_at, ?), error = ? WHERE id = ? AND state = 'queued'`,
            now,
            CANCELLED,
            id,
          )
          run(`UPDATE jobs SET cancel_requested = 1 WHERE id = ? AND state = 'running'`, id)
          releaseWebhooks(statements)
          return job(id)
        }),
      ),
    recoverJobs: (now) =>
      call('recovering jobs', () =>
        transaction(() => {
          const cancelled = run(
            `UPDATE jobs SET state = 'cancelled', finished_at = max(coalesce(started_at, created_at), ?), error = ?
             WHERE state = 'running' AND cancel_requested = 1`,
            now,
            CANCELLED,
          )
          releaseWebhooks(statements)
          return { cancelled, requeued: run(`UPDATE jobs SET state = 'queued' WHERE state = 'running'`) }
        }),
      ),

    getArtifact: (key) =>
      call('reading an artifact', () => {
        const row = get('SELECT * FROM artifacts WHERE key = ?', key)
        return row === undefined ? null : readArtifact(row)
      }),
    putArtifact: ({ key, files, resultSha256, measured, createdAt }) =>
      call('adding an artifact', () =>
        transaction(() => {
          run(
            `INSERT OR REPLACE INTO artifacts (key, files, result_sha256, measured, created_at, last_used_at)
             VALUES (?, ?, ?, ?, ?5, ?5)`,
            key,
            JSON.stringify(files),
            resultSha256,
            measured ? 1 : 0,
            createdAt,
          )
          useBlobs(statements, artifactUser(key), [...files.map(({ sha256 }) => sha256), resultSha256])
        }),
      ),
    dropArtifact: (key, now) =>
      call('dropping an artifact', () =>
        transaction(() => {
          const sql = 'DELETE FROM artifacts WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE artifact_key = ?1)'
          if (run(sql, key) === 0) return
          run('DELETE FROM validations WHERE artifact_key = ?', key)
          releaseBlobs(statements, artifactUser(key), now)
        }),
      ),
    getValidation: (key) =>
      call('reading a validation', () => {
        const row = get('SELECT * FROM validations WHERE key = ?', key)
        return row === undefined ? null : readValidation(row)
      }),
    putValidation: ({ key, artifactKey, resultSha256, createdAt }) =>
      call('adding a validation', () =>
        transaction(() => {
          run('INSERT OR REPLACE INTO validations VALUES (?, ?, ?, ?)', key, artifactKey, resultSha256, createdAt)
          useBlobs(statements, artifactUser(artifactKey), [resultSha256])
        }),
      ),

    ...sqliteUploads(statements),

    modelIds: () =>
      call('listing model ids', () => new Set(all('SELECT id FROM models').map((row) => String(row['id'])))),
    datasetIds: () =>
      call('listing dataset ids', () => new Set(all('SELECT id FROM datasets').map((row) => String(row['id'])))),
    referencedBlobs: () =>
      call('listing blobs in use', () => {
        const rows = all('SELECT DISTINCT sha256 FROM blob_uses')
        return new Set(rows.map((row) => String(row['sha256'])))
      }),
    ...createRetentionRows(statements),
    ...createWebhookRows(statements),
    async close() {
      db.close()
    },
  }
}

const CANCELLED = JSON.stringify(new AppError('cancelled', 'The job was cancelled.').toObject())

function cursorToSeq(cursor: string): number {
  if (/^\d{1,15}$/.test(cursor)) return Number(cursor)
  throw new AppError('request_invalid', `cursor: "${cursor}" was not given out by this server.`, { path: 'cursor' })
}

function readModel(row: Row): ModelRecord {
  return {
    id: String(row['id']),
    files: parse(row['files']),
    sizeBytes: Number(row['size_bytes']),
    summary: parse(row['summary']),
    tensorCount: Number(row['tensor_count']),
    parameterCount: Number(row['parameter_count']),
    createdAt: String(row['created_at']),
  }
}

function readDataset(row: Row): DatasetRecord {
  return {
    id: String(row['id']),
    file: parse(row['file']),
    arrays: parse(row['arrays']),
    createdAt: String(row['created_at']),
  }
}

function readJob(row: Row): JobRecord {
  const met = row['requirement_met']
  return {
    id: String(row['id']),
    state: String(row['state']) as JobState,
    attempt: Number(row['attempt']),
    modelId: String(row['model_id']),
    datasetId: textOrNull(row['dataset_id']),
    submittedBy: textOrNull(row['submitted_by']),
    payload: parse(row['payload']),
    cancelRequested: row['cancel_requested'] === 1,
    artifactKey: textOrNull(row['artifact_key']),
    artifactReused: row['artifact_reused'] === 1,
    requirementMet: met === null ? null : met === 1,
    reportSha256: textOrNull(row['report_sha256']),
    error: row['error'] === null ? null : parse(row['error']),
    createdAt: String(row['created_at']),
    startedAt: textOrNull(row['started_at']),
    finishedAt: textOrNull(row['finished_at']),
  }
}

function readArtifact(row: Row): ArtifactRecord {
  return {
    key: String(row['key']),
    files: parse(row['files']),
    resultSha256: String(row['result_sha256']),
    measured: row['measured'] === 1,
    createdAt: String(row['created_at']),
  }
}

function readValidation(row: Row): ValidationRecord {
  return {
    key: String(row['key']),
    artifactKey: String(row['artifact_key']),
    resultSha256: String(row['result_sha256']),
    createdAt: String(row['created_at']),
  }
}
