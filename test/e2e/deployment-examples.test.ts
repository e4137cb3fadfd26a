// The examples around the clients: CI snippets, the Kubernetes Job, and a model server whose init container fetches the artifact.
// Their commands are taken out of the files and run against a real server; only paths and addresses of the cluster are replaced.

import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { parse as parseYaml } from 'yaml'
import { VERSION } from '../../src/version.ts'
import { buildKustomization, type Manifest, readManifests } from '../support/kustomize.ts'
import { type PipelineModel, pipelineModel } from '../support/pipeline-model.ts'
import { runPython, skipWithoutPython } from '../support/python-environment.ts'
import { ROOT, type RunningServer, startServer } from '../support/start-server.ts'
import { tempFolder } from '../support/temp-folder.ts'

const EXAMPLES = join(ROOT, 'examples')
const KUBERNETES = ['1.33', '1.35', '1.37']

interface Container {
  name: string
  image: string
  command: string[]
  env: { name: string; value?: string; valueFrom?: { secretKeyRef: { name: string; key: string } } }[]
}

interface Pod {
  metadata: { labels: Record<string, string> }
  spec: { initContainers?: Container[]; containers: Container[]; enableServiceLinks: boolean }
}

interface Ended {
  status: number
  output: string
}

function run(command: string, args: string[], cwd: string, env: Record<string, string>): Promise<Ended> {
  const { TENSORPRESS_URL: _, TENSORPRESS_SERVER: __, NODE_TEST_CONTEXT: ___, ...inherited } = process.env
  return new Promise((resolve, reject) => {
    execFile(command, args, { cwd, env: { ...inherited, ...env } }, (error, stdout, stderr) => {
      const status = error === null ? 0 : error.code
      if (typeof status === 'number') resolve({ status, output: stdout + stderr })
      else reject(error)
    })
  })
}

/** A repository as the CI snippets expect it. */
function repository(folder: string, model: PipelineModel): string {
  for (const name of ['ci', 'models']) mkdirSync(join(folder, name), { recursive: true })
  copyFileSync(join(EXAMPLES, 'pipeline/compress-model.sh'), join(folder, 'ci/compress-model.sh'))
  copyFileSync(model.path, join(folder, 'models/classifier.onnx'))
  copyFileSync(model.dataset, join(folder, 'models/test.npz'))
  return folder
}

/** What a runner would execute, with the options of its shell. */
function githubStep(): string {
  const workflow = parseYaml(readFileSync(join(EXAMPLES, 'ci/github-actions.yml'), 'utf8')) as {
    jobs: { compress: { env: Record<string, string>; steps: { run?: string }[] } }
  }
  const { env, steps } = workflow.jobs.compress
  assert.deepEqual(Object.keys(env), ['TENSORPRESS_URL', 'TENSORPRESS_API_KEY'])
  const scripts = steps.flatMap(({ run: script }) => (script === undefined ? [] : [script]))
  assert.equal(scripts.length, 1)
  return scripts[0]!
}

function gitlabScript(): string {
  const pipeline = parseYaml(readFileSync(join(EXAMPLES, 'ci/gitlab-ci.yml'), 'utf8')) as {
    'compress-model': { script: string[] }
  }
  return pipeline['compress-model'].script.join('\n')
}

function podOf(file: string, kind: string): Pod {
  const found = readManifests(join(EXAMPLES, 'kubernetes', file)).find((manifest) => manifest.kind === kind)
  assert.ok(found, `${file} has no ${kind}`)
  return (found['spec'] as unknown as { template: Pod }).template
}

/** The container's own command and environment, with the places of this machine. */
function runContainer(
  container: Container,
  folder: string,
  server: RunningServer,
  change: [string, string],
): Promise<Ended> {
  const places: [string, string][] = [
    ['/models/', `${folder}/models/`],
    ['/artifact/', `${folder}/artifact/`],
    ['/scripts/', `${EXAMPLES}/pipeline/`],
    ['/app/bin/', `${ROOT}/bin/`],
  ]
  const local = container.command.map((word) => {
    const changed = word.replace(...change)
    return places.reduce((text, [from, to]) => text.replace(new RegExp(`(^|=)${from}`), `$1${to}`), changed)
  })
  const env = Object.fromEntries(
    container.env.flatMap(({ name, value }) =>
      value === undefined ? [] : [[name, value === 'http://tensorpress' ? server.url : value]],
    ),
  )
  const [program, ...args] = local[0]!.endsWith('/bin/tensorpress') ? [process.execPath, ...local] : local
  return run(program!, args, folder, env as Record<string, string>)
}

test('the deployment examples against a real server', { timeout: 600_000 }, async (t) => {
  const folder = tempFolder(t)
  const model = await pipelineModel(folder)
  const server = await startServer(t)
  const env = { TENSORPRESS_URL: server.url, TENSORPRESS_API_KEY: '' }

  for (const [name, script] of [
    ['GitHub Actions', githubStep()],
    ['GitLab CI', gitlabScript()],
  ] as const) {
    await t.test(`${name}: the step passes with its artifact, and fails with its report alone`, async () => {
      assert.ok(script.includes(`--recipe ${model.good} `) && script.includes(`--require ${model.require} `), script)
      const passing = repository(join(folder, name, 'passing'), model)
      const passed = await run('bash', ['-e', '-c', script], passing, env)
      assert.equal(passed.status, 0, passed.output)
      const artifact = join(passing, 'build/classifier.int8.onnx')
      assert.equal((await model.run(artifact)).length, (await model.run(model.path)).length)
      assert.ok(existsSync(join(passing, 'build/report.html')))
      const refused = repository(join(folder, name, 'refused'), model)
      const failed = await run(
        'bash',
        ['-e', '-c', script.replace(`--recipe ${model.good} `, `--recipe ${model.bad} `)],
        refused,
        env,
      )
      assert.equal(failed.status, 4, failed.output)
      assert.ok(existsSync(join(refused, 'build/report.html')))
      assert.equal(existsSync(join(refused, 'build/classifier.int8.onnx')), false)
    })
  }

  await t.test(
    'Kubernetes Job: ends with 0 and its artifact, or with a status that fails the Job at once',
    async () => {
      const [container] = podOf('compress-job.yaml', 'Job').spec.containers
      const passing = repository(join(folder, 'job'), model)
      const passed = await runContainer(container!, passing, server, ['', ''])
      assert.equal(passed.status, 0, passed.output)
      assert.ok(statSync(join(passing, 'models/classifier.int8.onnx')).size < statSync(model.path).size)
      const refused = repository(join(folder, 'job-refused'), model)
      const failed = await runContainer(container!, refused, server, [model.good, model.bad])
      const [manifest] = readManifests(join(EXAMPLES, 'kubernetes/compress-job.yaml'))
      const { podFailurePolicy } = manifest!['spec'] as unknown as {
        podFailurePolicy: { rules: { action: string; onExitCodes: { values: number[] } }[] }
      }
      assert.equal(failed.status, 4, failed.output)
      assert.deepEqual(podFailurePolicy.rules, [
        { action: 'FailJob', onExitCodes: { containerName: 'compress', operator: 'In', values: [2, 3, 4] } },
      ])
    },
  )

  await t.test('init container: fetches the artifact for the model server, or keeps it from starting', async () => {
    const { initContainers } = podOf('serve-model.yaml', 'Deployment').spec
    const passing = repository(join(folder, 'pod'), model)
    mkdirSync(join(passing, 'artifact'))
    const passed = await runContainer(initContainers![0]!, passing, server, ['', ''])
    assert.equal(passed.status, 0, passed.output)
    await checkServing(t, join(passing, 'artifact/model.onnx'), model)
    const refused = repository(join(folder, 'pod-refused'), model)
    mkdirSync(join(refused, 'artifact'))
    const failed = await runContainer(initContainers![0]!, refused, server, [model.good, model.bad])
    assert.equal(failed.status, 4, failed.output)
    assert.equal(existsSync(join(refused, 'artifact/model.onnx')), false)
    assert.ok(existsSync(join(refused, 'artifact/report.html')))
  })
})

/** The serving container's command on the artifact: its answers are those of onnxruntime, and what it cannot take is told. */
async function checkServing(t: TestContext, artifact: string, model: PipelineModel): Promise<void> {
  const [container] = podOf('serve-model.yaml', 'Deployment').spec.containers
  assert.deepEqual(container!.command, ['node', '/app/serve/serve-model.mjs'])
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
  const child: ChildProcess = spawn(process.execPath, [join(EXAMPLES, 'serving/serve-model.mjs')], {
    env: { ...inherited, MODEL: artifact, PORT: '0', THREADS: '1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit')
  const [line] = (await once(child.stdout!.setEncoding('utf8'), 'data')) as [string]
  const url = /on (http:\S+)/.exec(line)?.[1]
  assert.ok(url, line)
  const { name, dims, values } = model.input
  const predict = (body: unknown) =>
    fetch(`${url}/predict`, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) })

  assert.equal((await fetch(`${url}/healthz`)).status, 200)
  const about = (await (await fetch(url)).json()) as { inputs: { name: string }[] }
  assert.deepEqual(
    about.inputs.map((input) => input.name),
    [name],
  )
  const right = await predict({ inputs: { [name]: { dims, data: [...values] } } })
  assert.equal(right.status, 200)
  const { outputs } = (await right.json()) as { outputs: Record<string, { dims: number[]; data: number[] }> }
  const [output] = Object.values(outputs)
  assert.deepEqual(output!.data, await model.run(artifact))

  for (const [body, reason] of [
    ['not JSON', /JSON/],
    [{}, /"inputs" is missing/],
    [{ inputs: { stranger: {} } }, /no input is called stranger/],
    [{ inputs: { [name]: { dims: [1], data: 'x' } } }, /needs "dims" and "data"/],
    [{ inputs: { [name]: { dims: [1, 2], data: [1] } } }, new RegExp(`input "${name}"`)],
    [{ inputs: { [name]: { dims: [1], data: [1] } } }, /./],
  ] as const) {
    const answer = await predict(body)
    assert.equal(answer.status, 400, JSON.stringify(body))
    assert.match(((await answer.json()) as { error: string }).error, reason)
  }
  assert.equal((await fetch(`${url}/elsewhere`)).status, 404)
  assert.equal((await predict({ inputs: { [name]: { dims, data: [...values] } } })).status, 200)
  child.kill('SIGTERM')
  assert.deepEqual(await ended, [0, null])
}

const EXAMPLE_MANIFESTS = ['compress-job.yaml', 'serve-model.yaml'].map((name) => join(EXAMPLES, 'kubernetes', name))

test('the example manifests hold to the schemas of three Kubernetes versions, strictly', {
  skip: skipWithoutPython('requirements-deploy.txt'),
}, (t) => {
  const path = join(tempFolder(t), 'manifests.json')
  const manifests = EXAMPLE_MANIFESTS.flatMap(readManifests)
  writeFileSync(path, JSON.stringify(manifests))
  const { checked, findings } = runPython('deploy/validate_manifests.py', path, ...KUBERNETES) as {
    checked: number
    findings: unknown[]
  }
  assert.deepEqual(findings, [])
  assert.equal(checked, 3 * KUBERNETES.length)
})

test('the example manifests use the names of k8s/: service, client label, image', () => {
  const base = buildKustomization(join(ROOT, 'k8s/overlays/software'))
  const named = (kind: string) =>
    base.find((manifest) => manifest.kind === kind && manifest.metadata.name === 'tensorpress')
  assert.ok(named('Service'))
  const policy = JSON.stringify(named('NetworkPolicy')!['spec'])
  const image = (
    (named('Deployment')!['spec'] as unknown as { template: Pod }).template.spec.containers[0] as Container
  ).image
  assert.ok(image.endsWith(`/tensorpress:${VERSION}`), image)
  const pods = [podOf('compress-job.yaml', 'Job'), podOf('serve-model.yaml', 'Deployment')]
  for (const { metadata, spec } of pods) {
    assert.equal(metadata.labels['tensorpress.example/client'], 'true')
    assert.ok(policy.includes('"tensorpress.example/client":"true"'))
    assert.equal(spec.enableServiceLinks, false)
    for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
      if (container.image.includes('/tensorpress:')) assert.equal(container.image, image)
      for (const { name, valueFrom } of container.env) {
        assert.equal(valueFrom !== undefined, name === 'TENSORPRESS_API_KEY', `${name} comes from a Secret or is none`)
      }
    }
  }
})

test('the example service leads to the pods of its deployment', () => {
  const manifests: Manifest[] = readManifests(EXAMPLE_MANIFESTS[1]!)
  const { selector } = manifests.find(({ kind }) => kind === 'Service')!['spec'] as { selector: Record<string, string> }
  const { labels } = podOf('serve-model.yaml', 'Deployment').metadata
  for (const [name, value] of Object.entries(selector)) assert.equal(labels[name], value)
})
