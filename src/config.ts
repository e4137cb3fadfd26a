// Configuration of the server: where it listens and stores, and every limit with its default and its reason.
// `loadConfig(environment, options)` is the entry: options of the command line win over TENSORPRESS_* variables, which win
// over defaults. Read by main.ts alone and handed down as values.

import { z } from 'zod'
import { AppError } from './errors.ts'

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB

interface LimitRow {
  default: number
  /** Smallest and largest value that makes sense. */
  min: number
  max: number
  unit: 'bytes' | 'count' | 'seconds' | 'hours' | 'bytes per second'
  reason: string
}

/**
 * Every limit that a client can meet. `name` here is the name in problem documents; the environment variable is
 * TENSORPRESS_ and the name in upper snake case (uploadBytes: TENSORPRESS_UPLOAD_BYTES).
 */
export const LIMITS = {
  uploadBytes: {
    default: 32 * GIB,
    min: 1,
    max: 4096 * GIB,
    unit: 'bytes',
    reason: 'All parts of one upload together. 32 GiB holds a 16-billion-parameter model in 16 bits.',
  },
  datasetBytes: {
    default: 8 * GIB,
    min: 1,
    max: 4096 * GIB,
    unit: 'bytes',
    reason: 'A dataset of POST /v1/datasets. 13,000 images of 224 x 224 in f32 are 8 GB; figures settle with fewer.',
  },
  uploadParts: {
    default: 512,
    min: 1,
    max: 10_000,
    unit: 'count',
    reason: 'Files of one multipart upload. The largest published checkpoints have under 200 shards.',
  },
  parallelUploads: {
    default: 8,
    min: 1,
    max: 1000,
    unit: 'count',
    reason: 'Uploads in progress at once: each holds a disk stream and hashes on the server thread.',
  },
  parallelUploadsPerKey: {
    default: 4,
    min: 1,
    max: 1000,
    unit: 'count',
    reason: 'Of those, uploads of one API key: half, so that one client cannot keep the others from sending.',
  },
  openUploads: {
    default: 1024,
    min: 1,
    max: 100_000,
    unit: 'count',
    reason: 'Resumable uploads that are not finished, over all clients: too few to fill a folder.',
  },
  openUploadsPerKey: {
    default: 256,
    min: 1,
    max: 100_000,
    unit: 'count',
    reason:
      'Of those, uploads of one API key: more than the shards of one model, and a quarter, so that what one client leaves unfinished does not keep out the others.',
  },
  uploadExpirySeconds: {
    default: 86_400,
    min: 60,
    max: 30 * 86_400,
    unit: 'seconds',
    reason: 'A resumable upload that got no byte for a day is given up: long enough for a night offline.',
  },
  uploadBytesPerSecond: {
    default: KIB,
    min: 0,
    max: GIB,
    unit: 'bytes per second',
    reason: 'A request body slower than this over half a minute is given up, so that idle clients hold no upload slot.',
  },
  jsonBytes: {
    default: MIB,
    min: KIB,
    max: 64 * MIB,
    unit: 'bytes',
    reason: 'A JSON body, or a text field of a multipart body. A recipe of thousands of name globs fits in 1 MiB.',
  },
  headerBytes: {
    default: 16 * KIB,
    min: 4 * KIB,
    max: 128 * KIB,
    unit: 'bytes',
    reason: 'All header lines of a request; the default of Node and of most proxies.',
  },
  headerSeconds: {
    default: 15,
    min: 1,
    max: 600,
    unit: 'seconds',
    reason: 'Time to send the header lines, so that slow clients cannot hold connections open.',
  },
  downloadBytesPerSecond: {
    default: KIB,
    min: 0,
    max: GIB,
    unit: 'bytes per second',
    reason: 'A client that takes its answer slower than this over two minutes is cut, so that it holds no file open.',
  },
  connections: {
    default: 4096,
    min: 16,
    max: 65_536,
    unit: 'count',
    reason:
      'Open connections, some 20 KB each. At the limit the longest idle one makes way, so that probes always get in. Lowered by itself where the system allows fewer open files.',
  },
  parallelRequests: {
    default: 2048,
    min: 8,
    max: 65_536,
    unit: 'count',
    reason:
      'Requests in work, event streams and waiting calls included, probes and /metrics not. At most three quarters of the connections.',
  },
  requestsPerKey: {
    default: 1024,
    min: 1,
    max: 65_536,
    unit: 'count',
    reason:
      'Requests in work of one API key, and of all callers without one together: half, so that none can shut out the others.',
  },
  queueLength: {
    default: 256,
    min: 1,
    max: 1_000_000,
    unit: 'count',
    reason: 'Jobs that wait. One device works on one job at a time: a longer queue means a wait of hours.',
  },
  jobsPerKey: {
    default: 64,
    min: 1,
    max: 1_000_000,
    unit: 'count',
    reason:
      'Jobs of one API key that wait or run: a quarter of the queue, so that one pipeline gone wrong leaves room for the others.',
  },
  stageSeconds: {
    default: 21_600,
    min: 1,
    max: 604_800,
    unit: 'seconds',
    reason:
      'Time that a job may spend in one stage (opening, calibrating, encoding, measuring, validating): 32 GiB at 2 MB/s take under five hours, and a job that needs longer keeps all others waiting.',
  },
  tensors: {
    default: 250_000,
    min: 1,
    max: 10_000_000,
    unit: 'count',
    reason: 'Tensors of one model. 384 experts in 60 layers, three weights each with its scale, are 138,240.',
  },
  waitSeconds: {
    default: 3600,
    min: 0,
    max: 86_400,
    unit: 'seconds',
    reason: 'Longest `Prefer: wait=N` of POST /v1/compress. Proxies rarely hold a request for longer than an hour.',
  },
  diskFloorBytes: {
    default: GIB,
    min: 0,
    max: 4096 * GIB,
    unit: 'bytes',
    reason: 'Free space that uploads and artifacts leave untouched, so that the catalogue can always be written.',
  },
} as const satisfies Record<string, LimitRow>

/** How long things are kept. Named and set like limits; 0 stands for "never" and "no cap". */
export const RETENTION = {
  storeBytes: {
    default: 0,
    min: 0,
    max: 1024 * 1024 * GIB,
    unit: 'bytes',
    reason:
      'Cap on models, datasets, artifacts and reports together. 0: none, and nothing is ever deleted to make room, because only the operator knows how large the volume is and what may go.',
  },
  modelMaxAgeHours: {
    default: 0,
    min: 0,
    max: 876_000,
    unit: 'hours',
    reason: 'A model that no job used for this long expires. 0: never, since only its owner can upload it again.',
  },
  datasetMaxAgeHours: {
    default: 0,
    min: 0,
    max: 876_000,
    unit: 'hours',
    reason: 'The same for datasets.',
  },
  artifactMaxAgeHours: {
    default: 0,
    min: 0,
    max: 876_000,
    unit: 'hours',
    reason:
      'An artifact that was neither downloaded nor used by a job for this long expires. 0: never; the same job makes the same bytes again.',
  },
  jobMaxAgeHours: {
    default: 0,
    min: 0,
    max: 876_000,
    unit: 'hours',
    reason: 'An ended job and its report are removed this long after its end. 0: never by age.',
  },
  endedJobs: {
    default: 10_000,
    min: 0,
    max: 10_000_000,
    unit: 'count',
    reason:
      'Ended jobs that are kept with their reports, the newest; 0: any number. Reports have a row per tensor: 10,000 of a model of 250 tensors take 1.3 GB.',
  },
  evictionGraceSeconds: {
    default: 600,
    min: 60,
    max: 86_400,
    unit: 'seconds',
    reason: 'What was used this recently is not evicted for space: a client may be between its upload and its job.',
  },
  expirySweepSeconds: {
    default: 600,
    min: 10,
    max: 86_400,
    unit: 'seconds',
    reason: 'How often expiry is looked at, give or take a fifth, so that servers of one volume do not do it in step.',
  },
} as const satisfies Record<string, LimitRow>

/** Webhooks; named and set like limits. */
export const WEBHOOKS = {
  webhookAttempts: {
    default: 12,
    min: 1,
    max: 100,
    unit: 'count',
    reason:
      'Attempts to deliver a webhook before it is given up. The pause before the next one is random up to 5 s, 10 s, 20 s … one hour: 12 attempts span over two hours on average, as long as a receiver may take to be deployed again.',
  },
  webhookSeconds: {
    default: 10,
    min: 1,
    max: 120,
    unit: 'seconds',
    reason:
      'Time for one attempt, name resolution and the answer included. A receiver should note the event and answer.',
  },
  parallelWebhooks: {
    default: 4,
    min: 1,
    max: 64,
    unit: 'count',
    reason:
      'Attempts at once, two of them to one receiver at most, so that one that hangs does not hold up the others.',
  },
} as const satisfies Record<string, LimitRow>

export type WebhookSettings = Record<keyof typeof WEBHOOKS, number>

export type RetentionSettings = Record<keyof typeof RETENTION, number>

export type LimitName = keyof typeof LIMITS
export type Limits = Record<LimitName, number>

/** Seconds that POST /v1/compress waits when the client names none: most models that fit a pipeline step are done. */
export const DEFAULT_WAIT_SECONDS = 300
/** Items of a page when the client names none, and the most it may ask for. */
export const PAGE_SIZE = { default: 50, max: 1000 } as const
/** Seconds between comment lines on an idle event stream: below the 60 s after which common proxies drop a connection. */
export const SSE_HEARTBEAT_SECONDS = 15
/** Seconds that a running job gets at SIGTERM before it is put back into the queue: within Kubernetes' default of 30. */
export const DRAIN_SECONDS = 20

/** Where it listens and stores, and who may come in: texts, each with its default and its reason. '': not set. */
export const SETTINGS = {
  host: {
    default: '127.0.0.1',
    reason:
      'Address to listen on (--host). This machine only, since without API keys whoever reaches it may do everything.',
  },
  port: { default: '8080', reason: 'Port to listen on (--port); 0: any free one.' },
  dataDir: {
    default: './data',
    reason: 'Data folder (--data-dir): catalogue, models, artifacts. One server at a time has it.',
  },
  device: {
    default: 'auto',
    reason:
      'Where kernels run (--device): auto, reference, or a part of an adapter name. A name that is not there stops the start.',
  },
  logLevel: { default: 'info', reason: 'fatal, error, warn, info, debug or silent. JSON lines on standard output.' },
  drainSeconds: {
    default: String(DRAIN_SECONDS),
    reason:
      "What a running job gets at SIGTERM before it goes back into the queue: within Kubernetes' default of 30 s.",
  },
  allowedHosts: {
    default: '',
    reason:
      'Host names, separated by commas, that a proxy in front forwards; others are refused, against DNS rebinding.',
  },
  apiKeysFile: {
    default: '',
    reason:
      'File of API keys, NAME:SCOPES:SECRET a line, read again every 5 s (docs/security.md). Without keys only loopback is served.',
  },
  apiKeys: {
    default: '',
    reason: 'The keys themselves, where there is no file for them. Taken out of the environment of children.',
  },
  insecure: {
    default: '0',
    reason:
      '1 (--insecure): listen beyond loopback without keys. Anybody who reaches it can use and delete everything.',
  },
  webhookAllow: {
    default: '',
    reason:
      'Hosts, addresses and ranges, separated by commas, that webhooks may go to beside public addresses over HTTPS.',
  },
  webhookSecret: {
    default: '',
    reason: 'Signs webhooks whose job brings no secret of its own. Taken out of the environment of children.',
  },
} as const satisfies Record<string, { default: string; reason: string }>

export interface Config {
  host: string
  port: number
  dataDir: string
  /** auto, reference, or a part of an adapter name. */
  device: string
  logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'silent'
  drainSeconds: number
  /** Host names, besides this machine's own, that a proxy in front forwards. */
  allowedHosts: string[]
  /** File of API keys; undefined: none, or they stand in TENSORPRESS_API_KEYS, which main.ts takes out of the environment. */
  apiKeysFile?: string | undefined
  /** Listening beyond loopback without keys was asked for. */
  insecure: boolean
  limits: Limits
  retention: RetentionSettings
  webhooks: WebhookSettings
  /** Hosts, addresses and ranges that webhooks may go to beside public ones. */
  webhookAllow: string[]
}

export interface ServeOptions {
  host?: string | undefined
  port?: number | string | undefined
  dataDir?: string | undefined
  device?: string | undefined
  insecure?: boolean | undefined
}

/** One whole number per row, within its bounds. */
function shapeOf<Name extends string>(rows: Record<Name, LimitRow>): Record<Name, z.ZodDefault<z.ZodCoercedNumber>> {
  const shape = Object.entries<LimitRow>(rows).map(([name, row]) => [
    name,
    z.coerce.number().int().min(row.min).max(row.max).default(row.default),
  ])
  return Object.fromEntries(shape) as Record<Name, z.ZodDefault<z.ZodCoercedNumber>>
}

const commaList = z
  .string()
  .default('')
  .transform((text) =>
    text
      .split(',')
      .map((name) => name.trim().toLowerCase())
      .filter((name) => name !== ''),
  )

const configSchema = z.strictObject({
  host: z.string().min(1).default(SETTINGS.host.default),
  port: z.coerce.number().int().min(0).max(65_535).default(Number(SETTINGS.port.default)),
  dataDir: z.string().min(1).default(SETTINGS.dataDir.default),
  device: z.string().min(1).default(SETTINGS.device.default),
  logLevel: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'silent']).default(SETTINGS.logLevel.default),
  drainSeconds: z.coerce.number().min(0).max(3600).default(DRAIN_SECONDS),
  allowedHosts: commaList,
  apiKeysFile: z.string().min(1).optional(),
  insecure: z
    .union([z.boolean(), z.enum(['0', '1', 'false', 'true'])])
    .default(false)
    .transform((value) => value === true || value === '1' || value === 'true'),
  limits: z.strictObject(shapeOf(LIMITS)),
  retention: z.strictObject(shapeOf(RETENTION)),
  webhooks: z.strictObject(shapeOf(WEBHOOKS)),
  webhookAllow: commaList,
})

/** uploadBytes -> TENSORPRESS_UPLOAD_BYTES */
export function environmentName(name: string): string {
  return `TENSORPRESS_${name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`
}

/** Throws `usage` naming the option or variable that has a bad value. */
export function loadConfig(environment: NodeJS.ProcessEnv, options: ServeOptions = {}): Config {
  const fromEnvironment = (name: string) => environment[environmentName(name)] || undefined
  const given = (name: keyof ServeOptions) => options[name] ?? fromEnvironment(name)
  const result = configSchema.safeParse({
    host: given('host'),
    port: given('port'),
    dataDir: given('dataDir'),
    device: given('device'),
    logLevel: fromEnvironment('logLevel'),
    drainSeconds: fromEnvironment('drainSeconds'),
    allowedHosts: fromEnvironment('allowedHosts'),
    // Set and empty is a mistake (a mount that was not there), not a wish for no keys.
    apiKeysFile: environment[environmentName('apiKeysFile')],
    insecure: given('insecure'),
    limits: Object.fromEntries(Object.keys(LIMITS).map((name) => [name, fromEnvironment(name)])),
    webhookAllow: fromEnvironment('webhookAllow'),
    webhooks: Object.fromEntries(Object.keys(WEBHOOKS).map((name) => [name, fromEnvironment(name)])),
    retention: Object.fromEntries(Object.keys(RETENTION).map((name) => [name, fromEnvironment(name)])),
  })
  if (result.success) return result.data as Config
  const issue = result.error.issues[0]!
  const name = String(issue.path.at(-1))
  const fromOption = name in options && options[name as keyof ServeOptions] !== undefined
  const source = fromOption
    ? `option --${name.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`
    : environmentName(name)
  const found = fromOption ? options[name as keyof ServeOptions] : fromEnvironment(name)
  throw new AppError('usage', `${source} is ${JSON.stringify(found)}: ${issue.message}`, { path: source })
}

/** What stands between a stranger and the API: keys, that only this machine reaches it, or nothing. */
export type Exposure = 'keys' | 'loopback' | 'insecure'

export function exposureOf({ host }: Pick<Config, 'host'>, keysRequired: boolean): Exposure {
  if (keysRequired) return 'keys'
  return isLoopback(host) ? 'loopback' : 'insecure'
}

/** Throws `usage` where anybody on the network could use the server, unless that was asked for. */
export function refuseOpenBind({ host, insecure }: Pick<Config, 'host' | 'insecure'>, keysRequired: boolean): void {
  if (insecure || exposureOf({ host }, keysRequired) !== 'insecure') return
  throw new AppError(
    'usage',
    `Without API keys Tensorpress listens on this machine only, and ${host} can be reached by others. Make a key with "tensorpress keys new --name NAME --scopes SCOPES" and put the line that it prints into TENSORPRESS_API_KEYS or into the file that TENSORPRESS_API_KEYS_FILE names. Or say --insecure: then anybody who reaches ${host} can use and delete everything here.`,
    { host },
  )
}

/** True when only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}
