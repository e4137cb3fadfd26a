// Retention on SQLite: the statements behind RetentionRows, and useBlobs/releaseBlobs, with which the other rows say which
// blobs they need. Entry: createRetentionRows.

import type { RemovalResult, RetentionRows, StoredKind, UnusedItem } from './retention-catalog.ts'
import { type Row, type Statements, textOrNull } from './sqlite-statements.ts'

const TABLES = {
  model: { table: 'models', key: 'id' },
  dataset: { table: 'datasets', key: 'id' },
  artifact: { table: 'artifacts', key: 'key' },
} as const satisfies Record<StoredKind, { table: string; key: string }>

/** A download of a thousand ranges is one use: every write costs a sync of the disk. */
const TOUCH_EVERY_MS = 60_000

/** Whether a queued or running job needs the row. */
const LIVE = {
  model: `EXISTS (SELECT 1 FROM jobs WHERE model_id = models.id AND state IN ('queued', 'running'))`,
  dataset: `EXISTS (SELECT 1 FROM jobs WHERE dataset_id = datasets.id AND state IN ('queued', 'running'))`,
  artifact: `EXISTS (SELECT 1 FROM jobs WHERE work_key = artifacts.key AND state IN ('queued', 'running'))`,
} as const satisfies Record<StoredKind, string>

/** Whether the webhook of an ended job is still to be delivered. */
const UNDELIVERED = `EXISTS (SELECT 1 FROM webhook_deliveries WHERE job_id = jobs.id AND state = 'pending')`

export const artifactUser = (key: string) => `artifact ${key}`
export const jobUser = (id: string) => `job ${id}`

/** Inside the transaction that adds the row which names them. */
export function useBlobs({ run }: Statements, user: string, hashes: readonly string[]): void {
  for (const sha256 of hashes) {
    run('INSERT OR IGNORE INTO blob_uses VALUES (?, ?)', sha256, user)
    run('UPDATE blobs SET unused_since = NULL WHERE sha256 = ?', sha256)
  }
}

/** Inside the transaction that removes the row. Returns the blobs that nobody uses any more. */
export function releaseBlobs({ all }: Statements, user: string, now: string): { sha256: string; bytes: number }[] {
  const held = all('DELETE FROM blob_uses WHERE user = ? RETURNING sha256', user)
  return held.flatMap((row) => {
    const sha256 = String(row['sha256'])
    const freed = all(
      `UPDATE blobs SET unused_since = ?2 WHERE sha256 = ?1 AND NOT EXISTS (SELECT 1 FROM blob_uses WHERE sha256 = ?1)
       RETURNING size_bytes`,
      sha256,
      now,
    )
    return freed.map((blob) => ({ sha256, bytes: Number(blob['size_bytes']) }))
  })
}

export function createRetentionRows(statements: Statements): RetentionRows {
  const { get, all, run, call, transaction } = statements
  const sum = (sql: string) => Number(get(sql)?.['n'] ?? 0)

  function removed(blobs: { sha256: string; bytes: number }[], ownBytes: number, now: string): RemovalResult {
    return {
      kind: 'removed',
      freedBytes: blobs.reduce((total, { bytes }) => total + bytes, ownBytes),
      blobs: blobs.map(({ sha256 }) => sha256),
      unusedSince: now,
    }
  }

  function blobsOf(key: string): UnusedItem['blobs'] {
    const sql = `SELECT blobs.sha256, size_bytes, (SELECT count(*) FROM blob_uses AS other WHERE other.sha256 = blobs.sha256)
                   AS users FROM blob_uses JOIN blobs USING (sha256) WHERE user = ?`
    return all(sql, artifactUser(key)).map((row) => ({
      sha256: String(row['sha256']),
      sizeBytes: Number(row['size_bytes']),
      users: Number(row['users']),
    }))
  }

  return {
    usage: () =>
      call('adding up what is stored', () => ({
        modelBytes: sum('SELECT sum(size_bytes) AS n FROM models'),
        datasetBytes: sum('SELECT sum(size_bytes) AS n FROM datasets'),
        uploadBytes: sum(`SELECT sum(size_bytes) AS n FROM uploads WHERE state IN ('receiving', 'stored')`),
        artifactBytes: sum(`SELECT sum(size_bytes) AS n FROM blobs WHERE kind = 'artifact'`),
        documentBytes: sum(`SELECT sum(size_bytes) AS n FROM blobs WHERE kind = 'document'`),
      })),
    touch: (kind, id, now) =>
      call(`marking a use of a ${kind}`, () => {
        const { table, key } = TABLES[kind]
        const before = new Date(Date.parse(now) - TOUCH_EVERY_MS).toISOString()
        run(`UPDATE ${table} SET last_used_at = ? WHERE ${key} = ? AND last_used_at < ?`, now, id, before)
      }),
    claimArtifact: (jobId, key, now) =>
      call('claiming an artifact', () =>
        transaction(() => {
          run('UPDATE jobs SET work_key = ? WHERE id = ?', key, jobId)
          run('UPDATE artifacts SET last_used_at = ? WHERE key = ?', now, key)
        }),
      ),

    listUnused: ({ usedBefore, after, limit }) =>
      call('looking for what is unused', () => {
        const part = (kind: StoredKind, bytes: string) => {
          const { table, key } = TABLES[kind]
          return `SELECT '${kind}' AS kind, ${key} AS id, last_used_at, ${bytes} AS own_bytes FROM ${table}
                  WHERE last_used_at <= ?1 AND (last_used_at, '${kind}', ${key}) > (?2, ?3, ?4) AND NOT ${LIVE[kind]}`
        }
        const sql = `${part('artifact', '0')} UNION ALL ${part('dataset', 'size_bytes')} UNION ALL
                     ${part('model', 'size_bytes')} ORDER BY last_used_at, kind, id LIMIT ?5`
        const from = [after?.lastUsedAt ?? '', after?.kind ?? '', after?.id ?? '']
        return all(sql, usedBefore, ...from, limit).map((row) => {
          const kind = String(row['kind']) as StoredKind
          const id = String(row['id'])
          return {
            kind,
            id,
            lastUsedAt: String(row['last_used_at']),
            ownBytes: Number(row['own_bytes']),
            blobs: kind === 'artifact' ? blobsOf(id) : [],
          }
        })
      }),
    removeUnused: (kind, id, usedBefore, now) =>
      call(`removing an unused ${kind}`, () =>
        transaction(() => {
          const { table, key } = TABLES[kind]
          const bytes = kind === 'artifact' ? '0' : 'size_bytes'
          const sql = `DELETE FROM ${table} WHERE ${key} = ? AND last_used_at <= ? AND NOT ${LIVE[kind]}
                       RETURNING ${bytes} AS own_bytes`
          const row = get(sql, id, usedBefore)
          if (row === undefined) return { kind: 'kept' }
          if (kind === 'artifact') run('DELETE FROM validations WHERE artifact_key = ?', id)
          const blobs = kind === 'artifact' ? releaseBlobs(statements, artifactUser(id), now) : []
          return removed(blobs, Number(row['own_bytes']), now)
        }),
      ),

    listEndedJobs: ({ endedBefore, limit, offset }) =>
      call('looking for old jobs', () => {
        const sql = `SELECT id, finished_at, coalesce((SELECT size_bytes FROM blobs WHERE sha256 = report_sha256), 0) AS bytes
                     FROM jobs WHERE finished_at IS NOT NULL AND finished_at < ? AND NOT ${UNDELIVERED} ORDER BY finished_at LIMIT ? OFFSET ?`
        return all(sql, endedBefore, limit, offset).map((row) => ({
          id: String(row['id']),
          finishedAt: String(row['finished_at']),
          reportBytes: Number(row['bytes']),
        }))
      }),
    countEndedJobs: () =>
      call('counting jobs', () =>
        sum(`SELECT count(*) AS n FROM jobs WHERE finished_at IS NOT NULL AND NOT ${UNDELIVERED}`),
      ),
    removeJob: (id, now) =>
      call('removing an old job', () =>
        transaction(() => {
          const sql = `DELETE FROM jobs WHERE id = ? AND finished_at IS NOT NULL AND NOT ${UNDELIVERED}`
          if (run(sql, id) === 0) return { kind: 'kept' }
          run('DELETE FROM webhook_deliveries WHERE job_id = ?', id)
          run('DELETE FROM idempotency_keys WHERE job_id = ?', id)
          return removed(releaseBlobs(statements, jobUser(id), now), 0, now)
        }),
      ),

    addBlob: ({ sha256, kind, sizeBytes }, now) =>
      call('adding a blob', () => {
        const used = get('SELECT 1 FROM blob_uses WHERE sha256 = ?', sha256) !== undefined
        // One that is put again starts its time as an unused one anew.
        const sql = `INSERT INTO blobs VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (sha256) DO UPDATE SET size_bytes = ?3, unused_since = ?5`
        run(sql, sha256, kind, sizeBytes, now, used ? null : now)
      }),
    listUnusedBlobs: (unusedBefore) =>
      call('looking for unused blobs', () =>
        all('SELECT * FROM blobs WHERE unused_since <= ? ORDER BY unused_since', unusedBefore).map((row) => ({
          ...readBlob(row),
          unusedSince: String(row['unused_since']),
        })),
      ),
    isUnusedSince: (sha256, unusedSince) =>
      call('looking at a blob', () => {
        const row = get('SELECT unused_since FROM blobs WHERE sha256 = ?', sha256)
        return textOrNull(row?.['unused_since']) === unusedSince
      }),
    forgetBlob: (sha256) =>
      call('forgetting a blob', () => {
        run('DELETE FROM blobs WHERE sha256 = ? AND unused_since IS NOT NULL', sha256)
      }),
    forgetUnusedBlobs: () =>
      call('forgetting unused blobs', () => {
        run('DELETE FROM blobs WHERE unused_since IS NOT NULL')
      }),
    unsizedBlobs: () =>
      call('looking for blobs without a size', () => {
        const sql = 'SELECT DISTINCT sha256 FROM blob_uses WHERE sha256 NOT IN (SELECT sha256 FROM blobs)'
        return all(sql).map((row) => String(row['sha256']))
      }),
  }
}

function readBlob(row: Row) {
  return {
    sha256: String(row['sha256']),
    kind: String(row['kind']) as 'artifact' | 'document',
    sizeBytes: Number(row['size_bytes']),
  }
}
