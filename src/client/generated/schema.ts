// Generated from docs/openapi.json by scripts/generate-client-schema.ts (npm run generate); do not edit.

/** Stable codes of errors; docs/errors.md says what each means. */
export type ErrorCode =
  | "request_invalid"
  | "recipe_invalid"
  | "dataset_invalid"
  | "content_type_unsupported"
  | "method_not_allowed"
  | "origin_forbidden"
  | "range_not_satisfiable"
  | "precondition_failed"
  | "request_timeout"
  | "usage"
  | "idempotency_key_reused"
  | "unauthorized"
  | "forbidden"
  | "webhook_target_forbidden"
  | "not_found"
  | "artifact_expired"
  | "conflict"
  | "format_unrecognised"
  | "format_truncated"
  | "format_invalid"
  | "external_data_invalid"
  | "checksum_mismatch"
  | "dtype_unsupported"
  | "opset_unsupported"
  | "feature_unsupported"
  | "limit_exceeded"
  | "body_too_large"
  | "headers_too_large"
  | "too_many_requests"
  | "too_many_uploads"
  | "queue_full"
  | "too_many_jobs"
  | "stage_timeout"
  | "disk_full"
  | "store_quota_exceeded"
  | "gpu_memory_exceeded"
  | "device_unavailable"
  | "device_lost"
  | "worker_crashed"
  | "worker_timeout"
  | "store_failed"
  | "validation_failed"
  | "requirement_not_met"
  | "cancelled"
  | "overloaded"
  | "server_unreachable"
  | "shutting_down"
  | "internal"

export type Alive = {
  status: "ok"
  version: string
}

export type ArtifactList = {
  items: ({
    name: string
    sizeBytes: number
    /** SHA-256 in hexadecimal. */
    sha256: string
    url: string
  })[]
}

export type Dataset = {
  /** SHA-256 in hexadecimal. */
  id: string
  file: StoredFile
  arrays: ({
    name: string
    dtype: string
    shape: number[]
  })[]
  /** ISO 8601, UTC. */
  createdAt: string
  links: {
    self: string
  }
}

export type DatasetPage = {
  items: Dataset[]
  /** Cursor of the next page; null: this is the last. */
  next: string | null
}

export type Device = {
  kind: "webgpu" | "reference"
  adapter: string
  vendor: string
  architecture: string
  driver: string
  software: boolean
}

export type JobError = {
  code: ErrorCode
  detail: string
  context: Record<string, unknown>
}

export type GraphValue = {
  name: string
  dtype: string
  shape: (number | string)[]
}

export type Histogram = {
  tensor: string
  bins: ({
    from: number
    to: number
    count: number
  })[]
  elements: number
  zeros: number
  nonFinite: number
  min: number
  max: number
  device: Device
}

export type Job = {
  id: string
  state: "queued" | "running" | "succeeded" | "failed" | "cancelled"
  stage: "opening" | "calibrating" | "encoding" | "measuring" | "validating" | "publishing" | null
  progress: {
    doneBytes: number
    totalBytes: number
    tensor: string | null
  } | null
  /** 1 for the first; grows only when a child process died under the job. */
  attempt: number
  /** SHA-256 in hexadecimal. */
  model: string
  dataset: string | null
  /** Name of the API key that asked for it; null: no keys. */
  submittedBy: string | null
  recipe: ResolvedRecipe
  output: Record<string, unknown>
  require: unknown
  validate: boolean
  artifact: {
    files: StoredFile[]
    /** null: none was set. */
    requirementMet: boolean | null
    /** true: the artifact was in the store already. */
    reused: boolean
  } | null
  /** null: none was asked for. */
  webhook: Webhook | null
  /** true: there was an artifact, and retention has removed it. */
  artifactExpired: boolean
  reportSha256: string | null
  error: JobError | null
  /** ISO 8601, UTC. */
  createdAt: string
  startedAt: string | null
  finishedAt: string | null
  links: {
    self: string
    events: string
    report: string | null
    artifact: string | null
    artifacts: string | null
  }
}

export type JobPage = {
  items: Job[]
  /** Cursor of the next page; null: this is the last. */
  next: string | null
}

export type JobRequest = {
  /** Model id. */
  model: string
  /** A preset (`int8`), an expression of presets (`prune-50+int8`), a recipe as YAML or JSON text, or a recipe object. docs/recipes.md lists presets, methods and keys. */
  recipe: string | Record<string, unknown>
  /** Dataset id; absent: synthetic inputs. */
  dataset?: string | null | undefined
  /** One requirement, several, or text such as `metric=top1,maxDrop=0.01`. */
  require?: string | Requirement | Requirement[] | undefined
  output?: OutputOptions | undefined
  /** false: the artifact is neither measured nor validated. Default: true. */
  validate?: boolean | undefined
  /** Told when the job has ended, by a signed POST that is tried again until it is answered 2xx. */
  webhook?: {
    /** https, to a public address unless the operator allows others. */
    url: string
    /** Signs the delivery; never shown again. Absent: the secret of the server. */
    secret?: string | undefined
  } | undefined
}

export type Model = {
  /** SHA-256 in hexadecimal. */
  id: string
  /** Recognised by content. */
  format: "onnx" | "safetensors"
  files: StoredFile[]
  sizeBytes: number
  tensorCount: number
  /** Elements of all tensors. */
  parameterCount: number
  irVersion: number | null
  opset: number | null
  producer: string | null
  inputs: GraphValue[]
  outputs: GraphValue[]
  metadata: Record<string, string>
  /** Compressed forms found; empty: plain float. */
  alreadyCompressed: string[]
  notes: string[]
  /** ISO 8601, UTC. */
  createdAt: string
  links: {
    self: string
    tensors: string
  }
}

export type ModelPage = {
  items: Model[]
  /** Cursor of the next page; null: this is the last. */
  next: string | null
}

export type OutputOptions = {
  /** ONNX: `auto` (the default) uses external data from 2 GB on, or when the model did. */
  externalData?: "auto" | boolean | undefined
  /** safetensors: begin a new shard beyond this many bytes; null: one file. */
  shardBytes?: number | null | undefined
  /** Name of the main file, without folder; at most 200 bytes in UTF-8. Absent: the name of the model with the recipe in it. */
  fileName?: string | undefined
}

export type Plan = {
  recipe: ResolvedRecipe
  format: "onnx" | "safetensors"
  tensors: PlanRow[]
  bytesBefore: number
  bytesAfter: number
  outputFiles: ({
    name: string
    sizeBytes: number
  })[]
  peakMemoryBytes: number
  notes: ({
    tensor: string | null
    note: string
  })[]
}

export type PlanRequest = {
  /** Model id. */
  model: string
  /** A preset (`int8`), an expression of presets (`prune-50+int8`), a recipe as YAML or JSON text, or a recipe object. docs/recipes.md lists presets, methods and keys. */
  recipe: string | Record<string, unknown>
  output?: OutputOptions | undefined
}

export type PlanRow = {
  name: string
  dtype: "f64" | "f32" | "f16" | "bf16" | "f8_e4m3" | "f8_e4m3fnuz" | "f8_e5m2" | "f8_e5m2fnuz" | "f8_e8m0" | "i64" | "u64" | "i32" | "u32" | "i16" | "u16" | "i8" | "u8" | "bool" | "i4" | "u4" | "f6_e2m3" | "f6_e3m2" | "f4_e2m1" | "i2" | "u2" | "c64" | "c128" | "string"
  shape: number[]
  roles: string[]
  action: "keep" | "compress"
  /** Why it is kept; null when it is compressed. */
  reason: "not_selected" | "not_a_weight" | "bias" | "norm" | "scalar" | "too_small" | "not_float" | "already_compressed" | "dtype_unsupported" | "non_finite" | "fp16_overflow" | "opset_too_old" | "encoding_unsupported" | "shared_with_other_op" | "inside_function" | "inside_scan" | "block_size_mismatch" | "sparse" | "no_gain" | "too_large_for_device" | null
  detail: string
  steps: string[]
  prune: Record<string, unknown> | null
  encode: Record<string, unknown>
  outputs: ({
    part: string
    dtype: string
    shape: number[]
    lengthBytes: number
  })[]
  bytesBefore: number
  bytesAfter: number
}

export type Problem = {
  /** `urn:tensorpress:error:` and the code. */
  type: string
  title: string
  status: number
  /** What was found, what is allowed, what to do. */
  detail: string
  /** Path and query of the request. */
  instance: string
  code: ErrorCode
  /** Figures behind the detail, by code. */
  context: Record<string, unknown>
  /** Also in the X-Request-Id header and in every log line. */
  requestId: string
}

export type Readiness = {
  status: "ready" | "not_ready"
  checks: {
    worker: {
      ok: boolean
      detail: string
    }
    store: {
      ok: boolean
      detail: string
    }
    disk: {
      ok: boolean
      detail: string
    }
    accepting: {
      ok: boolean
      detail: string
    }
  }
  device: Device | null
  /** true: kernels run on the scalar reference device, exact and slow. */
  referenceDevice: boolean
  queue: {
    queued: number
    running: number
    limit: number
  }
  store: {
    freeBytes: number
    minFreeBytes: number
  }
  workerRestarts: number
  /** `keys`: calls need an API key. `loopback`: none, only this machine reaches the server. `insecure`: none, and others can reach it. */
  access: "keys" | "loopback" | "insecure"
  version: string
}

export type ReadinessBrief = {
  status: "ready" | "not_ready"
}

export type Report = {
  reportVersion: 1
  jobId: string
  attempt: number
  createdAt: string
  verdict: {
    outcome: "requirement_met" | "requirement_not_met" | "validated" | "attention" | "not_validated"
    sentence: string
  }
  recipe: ResolvedRecipe
  sizes: {
    original: {
      rawBytes: number
      zstdBytes: number | null
      /** true: zstd ran on a sample and the figure is scaled up. */
      zstdSampled: boolean
    }
    artifact: {
      rawBytes: number
      zstdBytes: number | null
      /** true: zstd ran on a sample and the figure is scaled up. */
      zstdSampled: boolean
    }
    /** artifact / original; smaller is better. */
    rawRatio: number
    zstdRatio: number | null
    [key: string]: unknown
  }
  artifact: {
    files: ({
      name: string
      sizeBytes: number
      [key: string]: unknown
    })[]
    [key: string]: unknown
  }
  tensors: ({
    name: string
    action: "keep" | "compress"
    [key: string]: unknown
  })[]
  validation: {
    kind: "run" | "read-back"
    [key: string]: unknown
  } | null
  metrics: Record<string, unknown>
  requirement: {
    met: boolean
    checks: unknown[]
    [key: string]: unknown
  } | null
  device: {
    kind: string
    adapter: string
    driver: string
    [key: string]: unknown
  }
  versions: {
    tensorpress: string
    node: string
    [key: string]: unknown
  }
  seeds: Record<string, unknown>
  performance: Record<string, unknown>
  reproduce: {
    command: string
    [key: string]: unknown
  }
  warnings: string[]
  [key: string]: unknown
}

export type Requirement = {
  metric?: "top1" | "top5" | "f1" | "f1_macro" | "agreement" | "cosine" | "sqnr_db" | "mse" | undefined
  /** Largest loss, absolute: 0.01 is one point. */
  maxDrop?: number | undefined
  /** Smallest value of the metric. */
  min?: number | undefined
  /** Largest artifact bytes / model bytes. */
  maxSizeRatio?: number | undefined
  /** Largest median latency, artifact / model. */
  maxLatencyRatio?: number | undefined
  [key: string]: unknown
}

export type ResolvedRecipe = {
  version: 1
  name: string
  steps: ({
    method: string
    params: Record<string, unknown>
    select: {
      names: string[]
      exclude: string[]
      roles: string[]
      minElements: number
    }
  })[]
}

export type StoredFile = {
  name: string
  sizeBytes: number
  /** SHA-256 in hexadecimal. */
  sha256: string
}

export type Tensor = {
  name: string
  dtype: "f64" | "f32" | "f16" | "bf16" | "f8_e4m3" | "f8_e4m3fnuz" | "f8_e5m2" | "f8_e5m2fnuz" | "f8_e8m0" | "i64" | "u64" | "i32" | "u32" | "i16" | "u16" | "i8" | "u8" | "bool" | "i4" | "u4" | "f6_e2m3" | "f6_e3m2" | "f4_e2m1" | "i2" | "u2" | "c64" | "c128" | "string"
  shape: number[]
  elements: number
  bytes: number
  roles: string[]
  uses: ({
    op: string
    node: string
    inputIndex: number
  })[]
  /** Why no recipe can touch it; null: one can. */
  locked: {
    reason: "not_selected" | "not_a_weight" | "bias" | "norm" | "scalar" | "too_small" | "not_float" | "already_compressed" | "dtype_unsupported" | "non_finite" | "fp16_overflow" | "opset_too_old" | "encoding_unsupported" | "shared_with_other_op" | "inside_function" | "inside_scan" | "block_size_mismatch" | "sparse" | "no_gain" | "too_large_for_device"
    detail: string
  } | null
}

export type TensorPage = {
  items: Tensor[]
  total: number
  offset: number
  limit: number
}

export type Upload = {
  id: string
  kind: "model" | "dataset"
  fileName: string
  /** Name that the files of one model share; null: one file. */
  set: string | null
  sizeBytes: number
  /** Bytes that are stored; the next PATCH begins here. */
  offset: number
  /** `stored`: complete, and waiting for the other files of its set. `refused`: `error` says why; the bytes are gone. */
  state: "receiving" | "stored" | "finished" | "refused"
  sha256: string | null
  model: string | null
  dataset: string | null
  error: JobError | null
  /** ISO 8601, UTC. */
  createdAt: string
  /** Moves on with every byte that arrives. */
  expiresAt: string
  links: {
    self: string
    result: string | null
  }
}

export type UploadSet = {
  /** Ids of uploads with the same `set`, the main file first. */
  uploads: string[]
}

export type Webhook = {
  /** The receiver sees every attempt under this id. */
  eventId: string
  /** Scheme, host and port; the rest of the URL is not shown. */
  origin: string
  /** waiting: the job has not ended; pending: due, or to be tried again; dead: given up. */
  state: "waiting" | "pending" | "delivered" | "dead"
  attempts: number
  /** Status of the last answer; null: none came. */
  lastStatus: number | null
  lastError: string | null
  lastAttemptAt: string | null
  /** Of a pending one null: at once. */
  nextAttemptAt: string | null
  deliveredAt: string | null
}
