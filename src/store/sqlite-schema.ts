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
  // 4: when things were last used, what blobs weigh and who uses them, so that retention can find what may go
  `
  ALTER TABLE models ADD COLUMN last_used_at TEXT NOT NULL DEFAULT '';
  UPDATE models SET last_used_at = max(created_at, coalesce(
    (SELECT max(coalesce(finished_at, created_at)) FROM jobs WHERE model_id = models.id), ''));
  CREATE INDEX models_by_use ON models (last_used_at);
  ALTER TABLE datasets ADD COLUMN last_used_at TEXT NOT NULL DEFAULT '';
  ALTER TABLE datasets ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;
  UPDATE datasets SET size_bytes = json_extract(file, '$.sizeBytes'), last_used_at = max(created_at, coalesce(
    (SELECT max(coalesce(finished_at, created_at)) FROM jobs WHERE dataset_id = datasets.id), ''));
  CREATE INDEX datasets_by_use ON datasets (last_used_at);
  ALTER TABLE artifacts ADD COLUMN last_used_at TEXT NOT NULL DEFAULT '';
  UPDATE artifacts SET last_used_at = max(created_at, coalesce(
    (SELECT max(finished_at) FROM jobs WHERE artifact_key = artifacts.key), ''));
  CREATE INDEX artifacts_by_use ON artifacts (last_used_at);

  -- The artifact that a job makes or uses while it is queued or running.
  ALTER TABLE jobs ADD COLUMN work_key TEXT;
  CREATE INDEX jobs_at_work ON jobs (work_key) WHERE state IN ('queued', 'running');
  CREATE INDEX jobs_live_by_dataset ON jobs (dataset_id) WHERE state IN ('queued', 'running');
  CREATE INDEX jobs_ended ON jobs (finished_at) WHERE finished_at IS NOT NULL;
  CREATE INDEX idempotency_keys_by_job ON idempotency_keys (job_id);

  CREATE TABLE blobs (
    sha256 TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('artifact', 'document')),
    size_bytes INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    -- null: a row names it
    unused_since TEXT
  ) STRICT;
  CREATE INDEX blobs_unused ON blobs (unused_since) WHERE unused_since IS NOT NULL;
  -- user: 'artifact <key>' (its files, its result and its validations) or 'job <id>' (its report)
  CREATE TABLE blob_uses (
    sha256 TEXT NOT NULL,
    user TEXT NOT NULL,
    PRIMARY KEY (sha256, user)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX blob_uses_by_user ON blob_uses (user);
  DELETE FROM validations WHERE artifact_key NOT IN (SELECT key FROM artifacts);
  INSERT OR IGNORE INTO blobs SELECT json_extract(file.value, '$.sha256'), 'artifact',
    json_extract(file.value, '$.sizeBytes'), artifacts.created_at, NULL FROM artifacts, json_each(artifacts.files) AS file;
  INSERT OR IGNORE INTO blob_uses SELECT json_extract(file.value, '$.sha256'), 'artifact ' || artifacts.key
    FROM artifacts, json_each(artifacts.files) AS file;
  INSERT OR IGNORE INTO blob_uses SELECT result_sha256, 'artifact ' || key FROM artifacts;
  INSERT OR IGNORE INTO blob_uses SELECT result_sha256, 'artifact ' || artifact_key FROM validations;
  INSERT OR IGNORE INTO blob_uses SELECT report_sha256, 'job ' || id FROM jobs WHERE report_sha256 IS NOT NULL;
  `,
  // 5: webhooks, one per job at most; url and secret are sealed (secret-box.ts), and gone once it was delivered. A pending one
  // without next_attempt_at is due at once.
  `
  CREATE TABLE webhook_deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    event_id TEXT NOT NULL,
    url TEXT NOT NULL,
    origin TEXT NOT NULL,
    secret TEXT,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'pending', 'delivered', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    last_status INTEGER,
    last_error TEXT,
    last_attempt_at TEXT,
    next_attempt_at TEXT,
    delivered_at TEXT
  ) STRICT;
  CREATE INDEX webhook_deliveries_due ON webhook_deliveries (state, next_attempt_at);
  `,
]
