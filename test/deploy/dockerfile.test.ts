// The Dockerfile without an engine: linted, read by our own parser, its build context, its health check. That its lines work is
// shown by scripts/check-image.ts, which CI runs.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { contextFiles, isSent, parseIgnoreFile } from '../../scripts/image/build-context.ts'
import { parseDockerfile } from '../../scripts/image/dockerfile.ts'
import { VERSION } from '../../src/version.ts'
import { pythonProgram, skipWithoutPython } from '../support/python-environment.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const TEXT = readFileSync(join(ROOT, 'Dockerfile'), 'utf8')
const STAGES = parseDockerfile(TEXT)
const IMAGE = STAGES.at(-1)!

function hadolint(text: string): { status: number | null; stdout: string } {
  return spawnSync(pythonProgram('hadolint'), ['--no-color', '-'], { input: text, encoding: 'utf8' })
}

test('hadolint finds nothing in the Dockerfile, and would find something', {
  skip: skipWithoutPython('requirements-deploy.txt'),
}, () => {
  assert.deepEqual([hadolint(TEXT).status, hadolint(TEXT).stdout], [0, ''])
  const worse = hadolint(`${TEXT}\nRUN cd /tmp && sudo apt-get install curl\n`)
  assert.equal(worse.status, 1)
  assert.match(worse.stdout, /DL3004/)
})

test('the image runs bin/tensorpress by path as a numeric user that is not root, with both volumes', () => {
  const { config } = IMAGE
  assert.equal(config.user, '10001:10001')
  assert.deepEqual([...config.entrypoint, ...config.command], ['/app/bin/tensorpress', 'serve'])
  assert.deepEqual(config.volumes, ['/data', '/var/cache/tensorpress'])
  assert.deepEqual(config.ports, [config.env['TENSORPRESS_PORT']])
  assert.equal(config.stopSignal, 'SIGTERM')
  assert.equal(config.env['NVIDIA_VISIBLE_DEVICES'], 'all')
  assert.equal(config.env['NVIDIA_DRIVER_CAPABILITIES'], 'compute,utility,graphics')
  // Would switch off the drivers that a GPU runtime puts in.
  assert.equal(config.env['VK_DRIVER_FILES'], undefined)
  assert.equal(config.labels['org.opencontainers.image.version'], VERSION)
})

test('the build stage is the Node that the set-up fetches, on the Debian of the image', () => {
  const node = /const NODE_VERSION = '([\d.]+)'/.exec(readFileSync(join(ROOT, 'scripts', 'setup.mjs'), 'utf8'))?.[1]
  assert.equal(STAGES[0]!.from, `node:${node}-trixie-slim`)
  assert.equal(IMAGE.from, 'debian:trixie-slim')
})

test('the build context has the sources and what `npm run build` reads, and no data, keys, tests or installed packages', () => {
  const files = contextFiles(ROOT)
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: { build: string } }
  const program = scripts.build.split(' ')[1]!
  const configs = [...readFileSync(join(ROOT, program), 'utf8').matchAll(/'(tsconfig\.\w+\.json)'/g)]
  assert.ok(configs.length > 0)
  const read = ['package-lock.json', 'src/main.ts', 'shaders/statistics.wgsl', 'LICENSE', program, 'tsconfig.json']
  for (const path of [...read, ...configs.map((match) => match[1]!)]) {
    assert.ok(files.includes(path), path)
  }
  assert.deepEqual(
    [...new Set(files.map((path) => path.split('/')[0]!))].filter((name) => !/^tsconfig[\w.]*\.json$/.test(name)),
    ['LICENSE', 'bin', 'package-lock.json', 'package.json', 'scripts', 'shaders', 'src'],
  )
})

test('what a COPY line names is in the context or comes from the stage before', () => {
  const files = contextFiles(ROOT)
  for (const step of STAGES.flatMap(({ steps }) => steps)) {
    if (step.kind !== 'copy') continue
    for (const source of step.sources) {
      if (step.from !== null) assert.equal(step.from, STAGES[0]!.name)
      else if (source !== '.') assert.ok(files.includes(source), source)
      const ours = /^\/src\/((?:scripts|bin|shaders|package|LICENSE).*)$/.exec(source)?.[1]
      if (ours !== undefined) assert.ok(existsSync(join(ROOT, ours)), source)
    }
  }
})

test('the last rule of .dockerignore that matches decides, for folders with all below them', () => {
  const rules = parseIgnoreFile('# all\n*\n!src\n!keys\nkeys\nsrc/**/*.log\n')
  assert.equal(isSent(rules, 'src/deep/main.ts'), true)
  assert.equal(isSent(rules, 'src/deep/main.log'), false)
  assert.equal(isSent(rules, 'keys'), false)
  assert.equal(isSent(rules, '.git/config'), false)
  assert.throws(() => parseIgnoreFile('!src/keep'), /is not an entry of the top level/)
})

test('the parser knows what it does not know', () => {
  const refused: [string, RegExp][] = [
    ['FROM a\nADD x y', /line 2: this instruction is not supported/],
    ['RUN true', /only ARG may stand before FROM/],
    ['FROM a\nCOPY --chown=1 x y', /flag --chown=1 is not supported/],
    ['FROM a\nENTRYPOINT server', /only the exec form/],
    ['FROM $A', /\$A is not set/],
    ['FROM a\nENV A', /expected NAME=value/],
    ['FROM a\nRUN x \\', /the last line is continued/],
    ['# nothing', /no FROM/],
  ]
  for (const [text, message] of refused) assert.throws(() => parseDockerfile(text), message)
  const [stage] = parseDockerfile(
    'ARG A=b\nFROM $A:1 AS c\nENV X=1 \\\n  # why\n  Y="two words"\nRUN one \\\n && two\n',
  )
  assert.equal(stage!.from, 'b:1')
  assert.deepEqual(stage!.config.env, { X: '1', Y: 'two words' })
  const [step] = stage!.steps
  assert.deepEqual([step?.kind, step?.kind === 'run' && step.command], ['run', 'one  && two'])
})

test('the health check tells a server that answers from one that does not, or answers wrongly', async (t) => {
  let status = 200
  const server = createServer((_request, response) => response.writeHead(status).end('{}'))
  t.after(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const check = async (TENSORPRESS_PORT: string) => {
    const env = { TENSORPRESS_HOST: '0.0.0.0', TENSORPRESS_PORT }
    const child = spawn(process.execPath, [join(ROOT, 'scripts', 'health-check.mjs')], { env })
    let text = ''
    child.stderr.on('data', (chunk) => {
      text += chunk
    })
    const [code] = (await once(child, 'close')) as [number]
    return { code, text }
  }
  assert.deepEqual(await check(String(port)), { code: 0, text: '' })
  status = 503
  assert.deepEqual(await check(String(port)), { code: 1, text: `http://127.0.0.1:${port}/healthz: status 503\n` })
  server.close()
  const refused = await check(String(port))
  assert.equal(refused.code, 1)
  assert.match(refused.text, /ECONNREFUSED/)
})
