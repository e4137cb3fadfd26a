// Generated from docs/openapi.json by scripts/generate-client-schema.ts (npm run generate); do not edit.

import type {
  Alive,
  ArtifactList,
  Dataset,
  DatasetPage,
  Histogram,
  Job,
  JobPage,
  JobRequest,
  Model,
  ModelPage,
  Plan,
  PlanRequest,
  Report,
  TensorPage,
  Upload,
  UploadSet,
} from './schema.ts'

export interface Operations {
  /** List models */
  listModels: {
    path: undefined
    query: { limit?: number | undefined; cursor?: string | undefined } | undefined
    body: undefined
    result: ModelPage
  }
  /** Describe a model */
  getModel: {
    path: { id: string }
    query: undefined
    body: undefined
    result: Model
  }
  /** Delete a model */
  deleteModel: {
    path: { id: string }
    query: undefined
    body: undefined
    result: undefined
  }
  /** Tensor table of a model */
  listTensors: {
    path: { id: string }
    query: { offset?: number | undefined; limit?: number | undefined } | undefined
    body: undefined
    result: TensorPage
  }
  /** Histogram of the values of one tensor */
  getHistogram: {
    path: { id: string }
    query: { tensor: string; bins?: number | undefined }
    body: undefined
    result: Histogram
  }
  /** List datasets */
  listDatasets: {
    path: undefined
    query: { limit?: number | undefined; cursor?: string | undefined } | undefined
    body: undefined
    result: DatasetPage
  }
  /** Describe a dataset */
  getDataset: {
    path: { id: string }
    query: undefined
    body: undefined
    result: Dataset
  }
  /** Delete a dataset */
  deleteDataset: {
    path: { id: string }
    query: undefined
    body: undefined
    result: undefined
  }
  /** State of an upload, and what became of it */
  getUpload: {
    path: { id: string }
    query: undefined
    body: undefined
    result: Upload
  }
  /** Give an upload up (tus 1.0) */
  deleteUpload: {
    path: { id: string }
    query: undefined
    body: undefined
    result: undefined
  }
  /** Make one model of several uploads */
  joinUploads: {
    path: undefined
    query: undefined
    body: UploadSet
    result: Model
  }
  /** Plan without executing */
  createPlan: {
    path: undefined
    query: undefined
    body: PlanRequest
    result: Plan
  }
  /** Compress a stored model */
  createJob: {
    path: undefined
    query: undefined
    body: JobRequest
    result: Job
  }
  /** List jobs */
  listJobs: {
    path: undefined
    query: { limit?: number | undefined; cursor?: string | undefined; state?: "queued" | "running" | "succeeded" | "failed" | "cancelled" | undefined; model?: string | undefined } | undefined
    body: undefined
    result: JobPage
  }
  /** State of a job */
  getJob: {
    path: { id: string }
    query: undefined
    body: undefined
    result: Job
  }
  /** Cancel a job */
  cancelJob: {
    path: { id: string }
    query: undefined
    body: undefined
    result: Job
  }
  /** Deliver the webhook of an ended job again */
  redeliverWebhook: {
    path: { id: string }
    query: undefined
    body: undefined
    result: Job
  }
  /** Report of a job */
  getReport: {
    path: { id: string }
    query: undefined
    body: undefined
    result: Report
  }
  /** List the files of the artifact */
  listArtifacts: {
    path: { id: string }
    query: { evenIfUnmet?: "true" | "false" | undefined } | undefined
    body: undefined
    result: ArtifactList
  }
  /** Is the process alive */
  health: {
    path: undefined
    query: undefined
    body: undefined
    result: Alive
  }
  /** Can work be done, and on which device */
  readiness: {
    path: undefined
    query: undefined
    body: undefined
    result: {
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
      device: {
        kind: "webgpu" | "reference"
        adapter: string
        vendor: string
        architecture: string
        driver: string
        software: boolean
      } | null
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
    } | {
      status: "ready" | "not_ready"
    }
  }
  /** This document */
  openApi: {
    path: undefined
    query: undefined
    body: undefined
    result: {
      openapi: string
      paths: Record<string, unknown>
      [key: string]: unknown
    }
  }
}

export const OPERATIONS = {
  listModels: { method: 'GET', path: '/v1/models' },
  getModel: { method: 'GET', path: '/v1/models/{id}' },
  deleteModel: { method: 'DELETE', path: '/v1/models/{id}' },
  listTensors: { method: 'GET', path: '/v1/models/{id}/tensors' },
  getHistogram: { method: 'GET', path: '/v1/models/{id}/histogram' },
  listDatasets: { method: 'GET', path: '/v1/datasets' },
  getDataset: { method: 'GET', path: '/v1/datasets/{id}' },
  deleteDataset: { method: 'DELETE', path: '/v1/datasets/{id}' },
  getUpload: { method: 'GET', path: '/v1/uploads/{id}' },
  deleteUpload: { method: 'DELETE', path: '/v1/uploads/{id}' },
  joinUploads: { method: 'POST', path: '/v1/upload-sets' },
  createPlan: { method: 'POST', path: '/v1/plans' },
  createJob: { method: 'POST', path: '/v1/jobs' },
  listJobs: { method: 'GET', path: '/v1/jobs' },
  getJob: { method: 'GET', path: '/v1/jobs/{id}' },
  cancelJob: { method: 'DELETE', path: '/v1/jobs/{id}' },
  redeliverWebhook: { method: 'POST', path: '/v1/jobs/{id}/webhook/redeliver' },
  getReport: { method: 'GET', path: '/v1/jobs/{id}/report' },
  listArtifacts: { method: 'GET', path: '/v1/jobs/{id}/artifacts' },
  health: { method: 'GET', path: '/healthz' },
  readiness: { method: 'GET', path: '/readyz' },
  openApi: { method: 'GET', path: '/openapi.json' },
} as const satisfies Record<keyof Operations, { method: string; path: string }>
