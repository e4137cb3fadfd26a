// The commands with --server against a real server process: the same output, bytes and exit codes as without, over a server that is
// killed and started again.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseApiKeys } from '../../src/access/api-key.ts'
import { fixedRing } from '../../src/access/key-ring.ts'
import type { Report } from '../../src/validate/report.ts'
import { externalTensor, floatTensor, node, onnxBytes, onnxModel, value, weightValues } from '../support/build-onnx.ts'
import { buildSafetensors } from '../support/build-safetensors.ts'
import { cuttingProxy } from '../support/cutting-proxy.ts'
import { listening } from '../support/http-app.ts'
import { type CliResult, runCli, startCli } from '../support/run-cli.ts'
import { seededBytes, seededRandom } from '../support/seeded-random.ts'
import { startServer } from '../support/server-process.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { uploadApp } from '../support/upload-app.ts'
import { f4, writeNpz } from '../support/write-npz.ts'

const K = 64
const N = 4
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const fileSha256 = (...path: string[]) => sha256(readFileSync(join(...path)))

const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer)

function linearModel(weight = floatTensor('w', [K, N], 7), n = N): Uint8Array {
  return onnxBytes(
    onnxModel({
      nodes: [node('MatMul', ['x', 'w'], ['y'])],
      inputs: [value('x', ['batch', K])],
      outputs: [value('y', ['batch', n])],
      initializers: [weight],
    }),
  )
}

/** Waits until `holds`; fails the test after a minute. */
async function until(holds: () => boolean, what: string): Promise<void> {
  for (let waited = 0; !holds(); waited += 20) {
    if (waited > 60_000) throw new Error(`not seen in a minute: ${what}`)
    await sleep(20)
  }
}

async function prepared(t: TestContext) {
  const folder = tempFolder(t)
  const dataDir = join(tempFolder(t), 'data')
  const server = await startServer(t, dataDir, ['--device', 'reference'])
  return { folder, dataDir, server }
}

/** Lines that name times and paths differ between two runs of anything. */
function comparable({ stdout }: CliResult): string[] {
  return stdout.split('\n').filter((line) => !/^(time|latency|written|device)/.test(line))
}

test('compress on a server prints, writes and ends as it does here', async (t) => {
  const { folder, server } = await prepared(t)
  writeFileSync(join(folder, 'm.onnx'), linearModel())
  writeNpz(join(folder, 'd.npz'), { x: f4([40, K], [...weightValues(40 * K, 3)]) })
  mkdirSync(join(folder, 'here'))
  mkdirSync(join(folder, 'there'))
  const run = (where: string, ...rest: string[]) =>
    runCli(folder, 'compress', 'm.onnx', '-r', 'int8', '--dataset', 'd.npz', '-o', `${where}/out.onnx`, ...rest)
  const remote = ['--server', server.url]

  const here = await run('here', '--device', 'reference', '--report', 'here/r.json')
  const there = await run('there', ...remote, '--report', 'there/r.json')
  assert.deepEqual([here.status, there.status], [0, 0], there.stderr)
  assert.deepEqual(comparable(there), comparable(here))
  assert.equal(fileSha256(folder, 'there/out.onnx'), fileSha256(folder, 'here/out.onnx'))
  assert.match(there.stderr, /uploading/)
  const reports = ['here', 'there'].map(
    (name) => JSON.parse(readFileSync(join(folder, name, 'r.json'), 'utf8')) as Report,
  )
  assert.deepEqual(reports[1]!.artifact.files, reports[0]!.artifact.files)

  const again = await run('there', ...remote)
  assert.equal(again.status, 2)
  assert.match(again.stderr, /out\.onnx" exists already.* \[conflict\]/)
  const forced = await run('there', ...remote, '--force', '--json')
  assert.equal(forced.status, 0)
  assert.equal(forced.stderr, '')
  const document = JSON.parse(forced.stdout) as { written: string[]; report: Report }
  assert.deepEqual(document.written, [join(folder, 'there', 'out.onnx')])

  const unmet = await run('unmet', ...remote, '--require', 'metric=cosine,min=1.5', '--report', 'unmet.json')
  assert.equal(unmet.status, 4)
  assert.match(unmet.stderr, /Nothing was written\. \[requirement_not_met\]/)
  assert.ok(!existsSync(join(folder, 'unmet')))
  assert.equal((JSON.parse(readFileSync(join(folder, 'unmet.json'), 'utf8')) as Report).requirement?.met, false)
})

test('a model of several files goes there and comes back as several files', async (t) => {
  const { folder, server } = await prepared(t)
  mkdirSync(join(folder, 'e'))
  const n = 256
  const weight = externalTensor('w', [K, n], { location: 'w.bin', offset: '0', length: String(4 * K * n) })
  writeFileSync(join(folder, 'e', 'm.onnx'), linearModel(weight, n))
  writeFileSync(join(folder, 'e', 'w.bin'), weightValues(K * n, 5))
  writeFileSync(join(folder, 'recipe.yaml'), 'name: small\nsteps:\n  - preset: int8\noutput:\n  externalData: true\n')
  const args = ['compress', 'e', '-r', 'recipe.yaml', '--no-validate']
  const here = await runCli(folder, ...args, '-o', 'here', '--device', 'reference')
  const there = await runCli(folder, ...args, '-o', 'there', '--server', server.url)
  assert.deepEqual([here.status, there.status], [0, 0], `${here.stderr}${there.stderr}`)
  assert.deepEqual(readdirSync(join(folder, 'there')), ['m.onnx', 'm.onnx.data'])
  for (const name of readdirSync(join(folder, 'here'))) {
    assert.equal(fileSha256(folder, 'there', name), fileSha256(folder, 'here', name), name)
  }
})

test('inspect and plan print the same document, and what the server has is not sent again', async (t) => {
  const { folder, server, dataDir } = await prepared(t)
  writeFileSync(join(folder, 'm.onnx'), linearModel())
  for (const args of [
    ['inspect', 'm.onnx'],
    ['inspect', 'm.onnx', '--json'],
    ['plan', 'm.onnx', '-r', 'int4'],
    ['plan', 'm.onnx', '-r', 'int4', '--json'],
  ]) {
    const here = await runCli(folder, ...args)
    const there = await runCli(folder, ...args, '--server', server.url)
    assert.equal(there.status, 0, there.stderr)
    assert.equal(there.stdout, here.stdout, args.join(' '))
    assert.equal(/uploading/.test(there.stderr), args.length === 2, 'sent once')
  }
  assert.deepEqual(readdirSync(join(dataDir, 'models')), [fileSha256(folder, 'm.onnx')])
})

test('what makes no sense on a server is refused by name; what is bad is told with the exit code it has here', async (t) => {
  const { folder, server } = await prepared(t)
  writeFileSync(join(folder, 'm.onnx'), linearModel())
  writeFileSync(join(folder, 'bad.npz'), 'no dataset')
  const cases: [string[], number, RegExp][] = [
    [['validate', 'm.onnx', 'm.onnx', '--server', server.url], 2, /validate works on this machine only.*\[usage\]/],
    [['bench', '--server', server.url], 2, /bench works on this machine only.*\[usage\]/],
    [
      ['compress', 'm.onnx', '-r', 'int8', '--device', 'auto', '--server', server.url],
      2,
      /--device has no use.*\[usage\]/,
    ],
    [['inspect', 'm.onnx', '--server', 'gpu:8080'], 2, /--server must be an address.*\[usage\]/],
    [['inspect', 'm.onnx', '--server', 'http://a:b@127.0.0.1:8080'], 2, /holds a password.*\[usage\]/],
    [['inspect', 'm.onnx', '--api-key-file', 'k'], 2, /--api-key-file has no use without --server/],
    [['inspect', 'm.onnx', '--api-key-file', 'k', '--server', server.url], 3, /the key file "k" cannot be read/],
    [['inspect', 'gone.onnx', '--server', server.url], 3, /\[not_found\]/],
    [
      ['compress', 'm.onnx', '-r', 'int8', '--dataset', 'bad.npz', '-o', 'o.onnx', '--server', server.url],
      3,
      /\[dataset_invalid\]/,
    ],
  ]
  for (const [args, status, message] of cases) {
    const result = await runCli(folder, ...args)
    assert.equal(result.status, status, `${args.join(' ')}: ${result.stderr}`)
    assert.match(result.stderr, message)
  }
  assert.deepEqual(readdirSync(folder).sort(), ['bad.npz', 'm.onnx'])
  const doctor = await runCli(folder, 'doctor', '--server', server.url)
  assert.equal(doctor.status, 0)
  assert.match(doctor.stdout, /^status +ready$/m)
  assert.match(doctor.stdout, /^advice +Jobs run on the reference device/m)
  server.process.kill('SIGKILL')
  await server.ended
  const gone = await runCli(folder, 'doctor', '--server', server.url)
  assert.equal(gone.status, 1)
  assert.match(gone.stderr, /cannot be reached.*\[server_unreachable\]/)
})

test('the API key comes from a file or from the environment, and is asked for when it is missing', async (t) => {
  const secret = 'k'.repeat(43)
  const { app } = await uploadApp(t, { keys: fixedRing(parseApiKeys(`ci:read,submit:${secret}`, 'test')) })
  const server = `http://127.0.0.1:${await listening(t, app)}`
  const folder = tempFolder(t)
  writeFileSync(join(folder, 'm.onnx'), linearModel())
  writeFileSync(join(folder, 'key'), `${secret}\n`)
  writeFileSync(join(folder, 'two'), 'one\ntwo\n')
  const args = ['inspect', 'm.onnx', '--server', server]
  const without = await runCli(folder, ...args)
  assert.equal(without.status, 2)
  assert.match(without.stderr, /TENSORPRESS_API_KEY, or in a file by --api-key-file\. \[unauthorized\]/)
  assert.equal((await runCli(folder, ...args, '--api-key-file', 'two')).status, 2)
  const right = await runCli(folder, ...args, '--api-key-file', 'key')
  assert.equal(right.status, 0, right.stderr)
  assert.doesNotMatch(right.stdout + right.stderr, new RegExp(secret))
})

test('a server that is killed twice while a model is sent, and started again, has the whole model in the end', async (t) => {
  const { folder, dataDir, server } = await prepared(t)
  const data = seededBytes(48 << 20, 11)
  const bytes = buildSafetensors([{ name: 'w', dtype: 'U8', shape: [data.length], data }])
  writeFileSync(join(folder, 'm.safetensors'), bytes)
  const proxy = await cuttingProxy(t, server.url, [], 12 << 20)
  const run = startCli(folder, 'inspect', 'm.safetensors', '--json', '--server', proxy.url)
  const random = seededRandom(Number(process.env['TENSORPRESS_TEST_SEED'] ?? 12))
  const uploads = join(dataDir, 'uploads')
  const arrived = () => Math.max(0, ...readdirSync(uploads).map((name) => statSync(join(uploads, name)).size))
  let current = server
  for (const least of [2 << 20, 20 << 20]) {
    await until(() => arrived() > least, `${least} bytes in ${uploads}`)
    await sleep(random() * 300)
    current.process.kill('SIGKILL')
    await current.ended
    current = await startServer(t, dataDir, ['--device', 'reference'])
    proxy.setTarget(current.url)
  }
  const result = await run.result
  assert.equal(result.status, 0, result.stderr)
  assert.equal((JSON.parse(result.stdout) as { tensorCount: number }).tensorCount, 1)
  const id = sha256(bytes)
  assert.deepEqual(readdirSync(join(dataDir, 'models')), [id])
  assert.equal(fileSha256(dataDir, 'models', id, 'files', 'm.safetensors'), id)
  assert.deepEqual(readdirSync(uploads), [])
})

test('a server that is killed while the job runs goes on with it, and so does the command', async (t) => {
  const { folder, dataDir, server } = await prepared(t)
  const side = 1500
  const weight = { name: 'w', dtype: 'F32', shape: [side, side], data: bytesOf(weightValues(side * side, 2)) }
  writeFileSync(join(folder, 'm.safetensors'), buildSafetensors([weight]))
  const args = ['compress', 'm.safetensors', '-r', 'int8']
  const proxy = await cuttingProxy(t, server.url)
  const run = startCli(folder, ...args, '-o', 'there.safetensors', '--server', proxy.url)
  await until(() => /encoding|measuring|validating/.test(run.stderrSoFar()), 'a running job')
  server.process.kill('SIGKILL')
  await server.ended
  const next = await startServer(t, dataDir, ['--device', 'reference'])
  proxy.setTarget(next.url)
  const result = await run.result
  assert.equal(result.status, 0, result.stderr)
  const here = await runCli(folder, ...args, '-o', 'here.safetensors', '--device', 'reference')
  assert.equal(here.status, 0, here.stderr)
  assert.equal(fileSha256(folder, 'there.safetensors'), fileSha256(folder, 'here.safetensors'))
})

test('Ctrl-C cancels the job on the server and writes nothing', async (t) => {
  const { folder, server } = await prepared(t)
  const side = 2000
  const weight = { name: 'w', dtype: 'F32', shape: [side, side], data: bytesOf(weightValues(side * side, 2)) }
  writeFileSync(join(folder, 'm.safetensors'), buildSafetensors([weight]))
  const run = startCli(folder, 'compress', 'm.safetensors', '-r', 'int8', '--server', server.url)
  await until(() => /encoding|measuring|validating/.test(run.stderrSoFar()), 'a running job')
  run.child.kill('SIGINT')
  const result = await run.result
  assert.equal(result.status, 130, result.stderr)
  assert.deepEqual(readdirSync(folder), ['m.safetensors'])
  const jobs = (await (await fetch(`${server.url}/v1/jobs`)).json()) as { items: { state: string }[] }
  assert.deepEqual(
    jobs.items.map(({ state }) => state),
    ['cancelled'],
  )
})
