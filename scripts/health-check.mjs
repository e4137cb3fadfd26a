// The container's health check: asks /healthz of the server in the same container; exit status 0 when it answers 200, else 1
// with one line saying why. Node alone, as the image has no curl. Liveness only: /readyz (no device, disk full) is for the
// load balancer, since a restart would not help there.

/** Below the time-out of the HEALTHCHECK line in Dockerfile, so that the line below is seen. */
const TIMEOUT_MS = 4000

const host = process.env['TENSORPRESS_HOST'] || '127.0.0.1'
const port = process.env['TENSORPRESS_PORT'] || '8080'
/** An address that means "all interfaces" cannot be asked. */
const target = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
const url = `http://${target.includes(':') ? `[${target}]` : target}:${port}/healthz`

try {
  const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) })
  await response.arrayBuffer()
  if (response.status !== 200) throw new Error(`status ${response.status}`)
} catch (error) {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  console.error(`${url}: ${cause instanceof Error ? cause.message || String(cause) : String(cause)}`)
  process.exitCode = 1
}
