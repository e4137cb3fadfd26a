// The server: configuration, metrics and service are made here and handed down; then it listens, says where and on what, and
// ends cleanly on a signal. Entry: serve, called by `tensorpress serve`.

import { openKeyRing, takeInlineKeys } from './access/key-ring.ts'
import { exposureOf, loadConfig, refuseOpenBind, type ServeOptions } from './config.ts'
import { createApp } from './http/app.ts'
import { fitToOpenFiles, openFileLimit } from './http/capacity.ts'
import { jobBody } from './http/jobs.ts'
import { closeServer, listen } from './http/server.ts'
import { UploadGate } from './http/upload-gate.ts'
import { createService } from './jobs/create-service.ts'
import { onStopSignal, type StopSignal } from './stop-signal.ts'
import { policyOf } from './store/retention.ts'
import { auditLog, createLog } from './telemetry/log.ts'
import { createMetrics } from './telemetry/metrics.ts'
import { serviceHooks } from './telemetry/service-hooks.ts'
import { announce } from './telemetry/start-banner.ts'
import { VERSION } from './version.ts'
import { takeSecret } from './webhooks/signature.ts'

/** A drain that hangs must not keep the process: what is left after this is cut off. */
const EXIT_GRACE_MS = 2000
/** As the reason of limit webhookAttempts says. */
const WEBHOOK_PAUSES = { firstPauseMs: 5000, longestPauseMs: 3_600_000 }

/** Resolves with the exit code once the server has drained after SIGTERM or SIGINT. Throws `usage`, store errors. */
export async function serve(options: ServeOptions = {}): Promise<number> {
  const asked = loadConfig(process.env, options)
  const limits = fitToOpenFiles(asked.limits, openFileLimit())
  const config = { ...asked, limits }
  const metrics = createMetrics(VERSION)
  const log = createLog(config.logLevel, undefined, () => metrics.logFailuresTotal.inc())
  const keys = await openKeyRing({ inline: takeInlineKeys(process.env), file: config.apiKeysFile }, auditLog(log))
  refuseOpenBind(config, keys.required)
  const insecure = exposureOf(config, keys.required) === 'insecure'
  if (insecure) {
    log.warn(
      { host: config.host },
      'INSECURE: no API keys; anybody who reaches this address can use and delete everything',
    )
  }
  const { connections, parallelRequests } = limits
  if (connections < asked.limits.connections) {
    log.warn(
      { connections, parallel_requests: parallelRequests, open_files: openFileLimit() },
      'fewer connections and requests than asked for: the limit of open files is too low (ulimit -n, LimitNOFILE)',
    )
  }
  const webhookSecret = takeSecret(process.env)
  const stop = stopSignal()
  const service = await createService({
    dataDir: config.dataDir,
    device: config.device,
    limits: {
      maxUploadBytes: limits.uploadBytes,
      maxDatasetBytes: limits.datasetBytes,
      maxStageMs: limits.stageSeconds * 1000,
      maxModelFiles: limits.uploadParts,
      maxTensors: limits.tensors,
      maxOpenUploads: limits.openUploads,
      maxOpenUploadsPerKey: limits.openUploadsPerKey,
      uploadExpiryMs: limits.uploadExpirySeconds * 1000,
      maxQueuedJobs: limits.queueLength,
      maxJobsPerKey: limits.jobsPerKey,
      minFreeBytes: limits.diskFloorBytes,
      drainGraceMs: config.drainSeconds * 1000,
    },
    retention: {
      policy: policyOf(config.retention),
      sweepEveryMs: config.retention.expirySweepSeconds * 1000,
    },
    webhooks: {
      secret: webhookSecret,
      allow: config.webhookAllow,
      settings: {
        attempts: config.webhooks.webhookAttempts,
        timeoutMs: config.webhooks.webhookSeconds * 1000,
        parallel: config.webhooks.parallelWebhooks,
        ...WEBHOOK_PAUSES,
      },
      render: jobBody,
    },
    log,
    hooks: serviceHooks(metrics),
  })
  const app = createApp({ config, keys, service, metrics, log, gate: new UploadGate(limits, metrics) })
  const { server, url } = await listen(app, config, metrics).catch(async (error: unknown) => {
    await service.close()
    throw error
  })
  log.info({ url, data_dir: config.dataDir, version: VERSION }, 'listening')
  await announce(service, { url, keysRequired: keys.required, insecure }, log, stop.promise)
  const signal = await stop.promise
  log.info({ signal, drain_seconds: config.drainSeconds }, 'draining')
  // Until the job in work has ended, clients may still ask for it; only then the door closes.
  await service.close()
  await closeServer(server)
  keys.close()
  log.info({}, 'stopped')
  stop.release()
  setTimeout(() => process.exit(0), EXIT_GRACE_MS).unref()
  return 0
}

/** The first SIGINT or SIGTERM; a second one ends the process at once. */
function stopSignal(): { promise: Promise<StopSignal>; release: () => void } {
  const { promise, resolve } = Promise.withResolvers<StopSignal>()
  return { promise, release: onStopSignal(resolve) }
}
