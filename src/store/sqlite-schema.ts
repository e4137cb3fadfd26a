// The catalogue's tables, as forward-only migrations: an entry is never changed once released, a new one is added below.
// Documents (files, summary, payload, error) are JSON text; what is searched or joined has a column of its own.

export const MIGRATIONS: readonly string[] = [
  // 1
  `
  CREATE TABLE models (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    files TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    summary TEXT NOT NULL,
    tensor_count INTEGER NOT NULL,
    parameter_count INTEGER NOT NULL,
    created_at TEXT NOT NULL
  ) STRICT;
  CREATE TABLE datasets (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    file TEXT NOT NULL,
    arrays TEXT NOT NULL,
    created_at TEXT NOT NULL
  ) STRICT;
  CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    attempt INTEGER NOT NULL,
    model_id TEXT NOT NULL,
    dataset_id TEXT,
    payload TEXT NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    artifact_key TEXT,
    artifact_reused INTEGER NOT NULL DEFAULT 0,
    requirement_met INTEGER,
    report_sha256 TEXT,
    error TEXT,
    created_at TEXT NOT NULL,
    started_at TEXT,
    finished_at TEXT
  ) STRICT;
  CREATE INDEX jobs_waiting ON jobs (seq) WHERE state = 'queued';
  CREATE INDEX jobs_live ON jobs (model_id) WHERE state IN ('queued', 'running');
  CREATE INDEX jobs_by_model ON jobs (model_id, seq);
  CREATE INDEX jobs_by_artifact ON jobs (artifact_key) WHERE artifact_key IS NOT NULL;
  CREATE TABLE idempotency_keys (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    job_id TEXT NOT NULL,
    created_at TEXT NOT NULL
  ) STRICT;
  CREATE TABLE artifacts (
    key TEXT PRIMARY KEY,
    files TEXT NOT NULL,
    result_sha256 TEXT NOT NULL,
    measured INTEGER NOT NULL,
    created_at TEXT NOT NULL
  ) STRICT;
  CREATE TABLE validations (
    key TEXT PRIMARY KEY,
    artifact_key TEXT NOT NULL,
    result_sha256 TEXT NOT NULL,
    created_at TEXT NOT NULL
  ) STRICT;
  CREATE INDEX validations_by_artifact ON validations (artifact_key);
  `,
  // 2: who a job belongs to. Idempotency keys belong to the API key that sent them; '' stands for none.
  `
  ALTER TABLE jobs ADD COLUMN submitted_by TEXT;
  CREATE INDEX jobs_live_of_submitter ON jobs (submitted_by) WHERE state IN ('queued', 'running');
  CREATE TABLE owned_idempotency_keys (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    job_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (owner, key)
  ) STRICT;
  INSERT INTO owned_idempotency_keys SELECT '', key, fingerprint, job_id, created_at FROM idempotency_keys;
  DROP TABLE idempotency_keys;
  ALTER TABLE owned_idempotency_keys RENAME TO idempotency_keys;
  `,
  // 3: resumable uploads; submitted_by is the name of the API key that began one.
  `
  CREATE TABLE uploads (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('model', 'dataset')),
    file_name TEXT NOT NULL,
    set_name TEXT,
    size_bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    expected_sha256 TEXT,
    sha256 TEXT,
    state TEXT NOT NULL CHECK (state IN ('receiving', 'stored', 'finished', 'refused')),
    result_id TEXT,
    error TEXT,
    metadata TEXT NOT NULL,
    submitted_by TEXT,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
  ) STRICT;
  CREATE INDEX uploads_open ON uploads (set_name) WHERE state IN ('receiving', 'stored');
  CREATE INDEX uploads_by_expiry ON uploads (expires_at);
  `,
]
