// The clients of examples/pipeline, run as they are written against a real server: once passing, once refused, and through a
// proxy on a bad day.

import assert from 'node:assert/strict'
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Report } from '../../src/validate/report.ts'
import { startAwkwardProxy } from '../support/awkward-proxy.ts'
import { type PipelineModel, pipelineModel } from '../support/pipeline-model.ts'
import { ROOT, type RunningServer, startServer } from '../support/start-server.ts'
import { tempFolder } from '../support/temp-folder.ts'

const EXAMPLES = join(ROOT, 'examples/pipeline')

interface PipelineClient {
  name: string
  /** null: it comes with this Node. */
  needs: 'bash' | 'python3' | null
  /** Whether it uploads in pieces. */
  pieces: boolean
  /** The command as it stands in the example; `folder` is for what has to be installed first. */
  command(folder: string): string[]
  env?(model: PipelineModel): Record<string, string>
}

/** All clients take the same options and end with the same statuses. */
const CLIENTS: PipelineClient[] = [
  { name: 'bash', needs: 'bash', pieces: false, command: () => ['bash', join(EXAMPLES, 'compress-model.sh')] },
  {
    name: 'bash, for large models',
    needs: 'bash',
    pieces: true,
    command: () => ['bash', join(EXAMPLES, 'compress-model.sh')],
    env: ({ path }) => ({ TENSORPRESS_LARGE_BYTES: String(Math.ceil(statSync(path).size / 3)) }),
  },
  { name: 'Python', needs: 'python3', pieces: true, command: () => ['python3', join(EXAMPLES, 'compress_model.py')] },
  {
    name: 'TypeScript',
    needs: null,
    pieces: true,
    command: (folder) => [process.execPath, installed(folder, 'compress-model.ts')],
  },
]

/** A copy of the example in a project that has the package `tensorpress`. */
function installed(folder: string, name: string): string {
  const project = join(folder, 'project')
  const target = join(project, 'node_modules', 'tensorpress')
  mkdirSync(target, { recursive: true })
  copyFileSync(join(ROOT, 'package.json'), join(target, 'package.json'))
  const build = [join(ROOT, 'scripts/build.ts'), '--output', join(target, 'dist')]
  execFileSync(process.execPath, build, { stdio: 'inherit' })
  writeFileSync(join(project, 'package.json'), '{ "type": "module", "private": true }\n')
  copyFileSync(join(EXAMPLES, name), join(project, name))
  return join(project, name)
}

interface Ended {
  status: number
  stdout: string
  stderr: string
}

function run(command: string[], options: Record<string, string>, env: Record<string, string>): Promise<Ended> {
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value])
  const { TENSORPRESS_URL: _, TENSORPRESS_API_KEY: __, ...inherited } = process.env
  return new Promise((resolve, reject) => {
    execFile(
      command[0]!,
      [...command.slice(1), ...args],
      { env: { ...inherited, ...env } },
      (error, stdout, stderr) => {
        const status = error === null ? 0 : error.code
        if (typeof status === 'number') resolve({ status, stdout, stderr })
        else reject(error)
      },
    )
  })
}

const missing = (program: string) => spawnSync(program, ['--version']).error !== undefined

test('the clients of a deployment pipeline', { timeout: 900_000 }, async (t) => {
  const folder = tempFolder(t)
  const model = await pipelineModel(folder)
  // One server for all: what a client asks again is in its store.
  const server = await startServer(t)
  for (const [index, client] of CLIENTS.entries()) {
    await t.test(
      client.name,
      {
        skip: client.needs !== null && missing(client.needs) ? `${client.needs} is not installed` : false,
      },
      (t) =>
        checkClient(t, client, {
          model,
          server,
          folder: join(folder, String(index)),
          ownRecipe: `prune-${index + 10}`,
          seed: index + 1,
        }),
    )
  }
})

interface Setting {
  model: PipelineModel
  server: RunningServer
  /** For this client alone. */
  folder: string
  /** A recipe that no other client asks for. */
  ownRecipe: string
  /** 1 to 127, another one for each client. */
  seed: number
}

async function checkClient(t: TestContext, client: PipelineClient, setting: Setting): Promise<void> {
  const { model, server, folder, ownRecipe } = setting
  mkdirSync(folder)
  const command = client.command(folder)
  const runClient = (options: Record<string, string>, env: Record<string, string>) =>
    run(command, options, { ...client.env?.(model), ...env })
  // A name that shells and multipart bodies have to quote.
  const awkwardName = join(folder, 'my "best" model;type=a, v1.onnx')
  copyFileSync(model.path, awkwardName)
  const gate = { model: awkwardName, require: model.require, dataset: model.dataset }
  /** A folder of its own for what a run writes. */
  const place = (of: string) => {
    mkdirSync(join(folder, of))
    return { output: join(folder, of, 'small.onnx'), files: () => readdirSync(join(folder, of)).sort() }
  }

  await t.test('passes the gate: status 0, an artifact that runs, and a report', async () => {
    const { output, files } = place('passing')
    const ended = await runClient({ ...gate, recipe: model.good, output }, { TENSORPRESS_URL: server.url })
    assert.equal(ended.status, 0, ended.stderr)
    assert.deepEqual(files(), ['small.onnx', 'small.onnx.report.json'])
    assert.ok(statSync(output).size < statSync(model.path).size)
    const report = JSON.parse(readFileSync(`${output}.report.json`, 'utf8')) as Report
    assert.equal(report.verdict.outcome, 'requirement_met')
    assert.equal(report.model.fileName, 'my "best" model;type=a, v1.onnx')
    const [before, after] = [await model.run(model.path), await model.run(output)]
    assert.equal(after.length, before.length)
    assert.equal(after.indexOf(Math.max(...after)), before.indexOf(Math.max(...before)))
  })

  await t.test('is refused by the gate: status 4, the reason, the report and no artifact', async () => {
    const { output, files } = place('refused')
    const report = join(folder, 'refused', 'report.html')
    const ended = await runClient({ ...gate, recipe: model.bad, output, report }, { TENSORPRESS_URL: server.url })
    assert.equal(ended.status, 4, ended.stderr)
    assert.match(ended.stderr, /refused: \w+ drops by 0\.\d+.*\[requirement_not_met\]/)
    assert.deepEqual(files(), ['report.html'])
    const page = readFileSync(report, 'utf8')
    assert.match(page, /^<!doctype html>/)
    assert.match(page, /drops by 0\.\d+/)
  })

  await t.test('waits as told when the server is busy, and sends its key where only the server sees it', async () => {
    const proxy = await startAwkwardProxy(t, server.url, { refusals: [429, 503] })
    const { output } = place('busy')
    const start = performance.now()
    const env = { TENSORPRESS_URL: proxy.url, TENSORPRESS_API_KEY: 'tp_secret' }
    const ended = await runClient({ ...gate, recipe: model.good, output }, env)
    assert.equal(ended.status, 0, ended.stderr)
    assert.ok(performance.now() - start > 2000)
    const statuses = proxy.seen.map((line) => line.replace(/.* -> /, ''))
    assert.deepEqual(statuses.slice(0, 2), ['429', '503'])
    assert.ok(!statuses.slice(2).some((status) => status === '429' || status === '503'), proxy.seen.join())
    for (const { authorization } of proxy.headers) assert.equal(authorization, 'Bearer tp_secret')
  })

  await t.test('a lost answer makes no second job', async () => {
    const proxy = await startAwkwardProxy(t, server.url, { losesAnswer: true })
    const { output } = place('lost')
    const jobs = async () => ((await (await fetch(`${server.url}/v1/jobs`)).json()) as { items: [] }).items.length
    const before = await jobs()
    const ended = await runClient({ ...gate, recipe: model.good, output }, { TENSORPRESS_URL: proxy.url })
    assert.equal(ended.status, 0, ended.stderr)
    assert.equal(proxy.seen.filter((line) => /^POST \S+\/(compress|jobs) /.test(line)).length, 2, proxy.seen.join())
    assert.equal((await jobs()) - before, 1)
  })

  await t.test('a job that takes long is asked about, and its download goes on where it broke off', async () => {
    const proxy = await startAwkwardProxy(t, server.url, { hurries: true, cutsDownloadAfterBytes: 1000 })
    const { output } = place('late')
    const ended = await runClient({ model: gate.model, recipe: ownRecipe, output }, { TENSORPRESS_URL: proxy.url })
    assert.equal(ended.status, 0, ended.stderr)
    const downloads = proxy.seen.filter((line) => /\/artifact(s\/\S+)? -> /.test(line))
    assert.deepEqual(
      downloads.map((line) => line.replace(/.* -> /, '')),
      ['cut', '206'],
      proxy.seen.join(),
    )
    assert.equal((await model.run(output)).length, (await model.run(model.path)).length)
  })

  await t.test(
    'an upload that breaks off goes on where the server has it',
    {
      skip: client.pieces ? false : 'uploads in one request',
    },
    async () => {
      const proxy = await startAwkwardProxy(t, server.url, { cutsUploadAfterBytes: 5000 })
      const { output } = place('broken-upload')
      // Other bytes than the server has already: an ONNX file with an unknown field at its end is still one.
      const fresh = join(folder, 'fresh.onnx')
      writeFileSync(fresh, Buffer.concat([readFileSync(model.path), Buffer.from([0xf8, 0x7f, setting.seed])]))
      const ended = await runClient(
        { ...gate, model: fresh, recipe: model.good, output },
        { TENSORPRESS_URL: proxy.url },
      )
      assert.equal(ended.status, 0, `${ended.stderr}\n${proxy.seen.join('\n')}`)
      const pieces = proxy.seen.filter((line) => line.startsWith('PATCH'))
      assert.match(pieces[0]!, /-> cut$/)
      assert.match(pieces.at(-1)!, /-> 204$/)
      assert.ok(proxy.offsets.includes(5000), `goes on at ${proxy.offsets}`)
    },
  )

  await t.test('a job that misses the gate after a wait is refused as well', async () => {
    const proxy = await startAwkwardProxy(t, server.url, { hurries: true })
    const { output, files } = place('refused-late')
    const ended = await runClient({ ...gate, recipe: model.bad, output }, { TENSORPRESS_URL: proxy.url })
    assert.equal(ended.status, 4, ended.stderr)
    assert.match(ended.stderr, /\[requirement_not_met\]/)
    assert.deepEqual(files(), ['small.onnx.report.json'])
  })

  await t.test(
    'tells a bad model (3), a bad recipe (2), a missing argument (2) and a server that is not there (1)',
    async () => {
      const { output, files } = place('wrong')
      const noModel = join(folder, 'text.onnx')
      writeFileSync(noModel, 'not a model')
      const env = { TENSORPRESS_URL: server.url }
      const bad = await runClient({ model: noModel, recipe: 'int8', output }, env)
      assert.equal(bad.status, 3, bad.stderr)
      assert.match(bad.stderr, /\[format_unrecognised\]/)
      const recipe = await runClient({ ...gate, recipe: 'int9', output }, env)
      assert.equal(recipe.status, 2, recipe.stderr)
      assert.match(recipe.stderr, /int9.*\[recipe_invalid\]/)
      assert.equal((await runClient({ ...gate, output }, env)).status, 2)
      const absent = await runClient(
        { ...gate, recipe: 'int8', output },
        { TENSORPRESS_URL: 'http://127.0.0.1:9', TENSORPRESS_TIMEOUT_SECONDS: '3' },
      )
      assert.equal(absent.status, 1, absent.stderr)
      assert.deepEqual(files(), [])
      assert.equal(existsSync(output), false)
    },
  )
}
