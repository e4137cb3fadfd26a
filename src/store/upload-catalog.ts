// The part of the catalogue that knows resumable uploads: one row each, from the creation to the expiry. A row says how many
// bytes are acknowledged, so that what a crash left behind them does not count. Types only; sqlite-uploads.ts implements it.

import type { ErrorObject } from '../errors.ts'

/**
 * receiving: bytes are missing, or their hash was not checked yet. stored: all there and checked; a file of a set waits for
 * the others. finished: a model or dataset was made of it. refused: it cannot become one, and its bytes are gone.
 */
export type UploadState = 'receiving' | 'stored' | 'finished' | 'refused'
export type UploadKind = 'model' | 'dataset'

export interface UploadRecord {
  id: string
  kind: UploadKind
  fileName: string
  /** Name that the files of one model share; null: the file is a whole model or dataset. */
  setName: string | null
  sizeBytes: number
  /** Acknowledged and durable. */
  storedBytes: number
  /** What the client says that the content hashes to. */
  expectedSha256: string | null
  /** Counted here, once every byte is there. */
  sha256: string | null
  state: UploadState
  /** Id of the model or dataset that was made of it. */
  resultId: string | null
  error: ErrorObject | null
  /** Upload-Metadata as the client sent it, to be shown again. */
  metadata: Record<string, string | null>
  /** Name of the API key that began it; null: the server has no keys. */
  submittedBy: string | null
  createdAt: string
  expiresAt: string
}

export interface UploadRules {
  /** Rows in state receiving or stored. */
  maxOpen: number
  /** Those of one API key; without keys there is nobody to tell apart. */
  maxOpenPerKey: number
  /** Of the files of one set together. */
  maxSetBytes: number
  maxSetFiles: number
}

export type AddUploadResult =
  | { kind: 'added' }
  | { kind: 'too_many'; open: number }
  | { kind: 'too_many_of_key'; open: number }
  | { kind: 'set_too_large'; sizeBytes: number }
  | { kind: 'set_too_long'; files: number }
  | { kind: 'name_taken'; uploadId: string }
  /** A file of the set has a name that is a folder of this one, or the other way round. */
  | { kind: 'names_clash'; fileName: string }

export type UploadChange = Partial<
  Pick<UploadRecord, 'storedBytes' | 'sha256' | 'state' | 'resultId' | 'error' | 'expiresAt'>
>

export interface UploadCatalog {
  /** One transaction: the rules are judged against the rows that are there. */
  addUpload(upload: UploadRecord, rules: UploadRules): Promise<AddUploadResult>
  getUpload(id: string): Promise<UploadRecord | null>
  /** null: no such row. */
  changeUpload(id: string, change: UploadChange): Promise<UploadRecord | null>
  /** All of them became this model or dataset; ids without a row are passed over. */
  finishUploads(ids: readonly string[], resultId: string): Promise<void>
  deleteUpload(id: string): Promise<boolean>
  /** Of one state, or of all; oldest first. */
  listUploads(state: UploadState | null): Promise<UploadRecord[]>
  /** Rows whose time is over at `now`. */
  expiredUploads(now: string): Promise<UploadRecord[]>
  /** Bytes that open uploads have on disk, and bytes that they still announce. */
  openUploadBytes(): Promise<{ storedBytes: number; missingBytes: number }>
}
