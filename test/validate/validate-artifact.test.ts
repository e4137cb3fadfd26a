import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import type { ValidateSpec } from '../../src/jobs/protocol.ts'
import { summarizeLatency } from '../../src/validate/measure-latency.ts'
import { type ValidateOptions, validateArtifact } from '../../src/validate/validate-artifact.ts'
import type { RunValidation } from '../../src/validate/validation.ts'
import { node, onnxBytes, onnxModel, value } from '../support/build-onnx.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import {
  endlessModel,
  hungryModel,
  identityWeights,
  int4OutputModel,
  linearModel,
  nanModel,
  pickyModel,
} from '../support/troublesome-models.ts'
import { validateSpec } from '../support/validate-spec.ts'
import { f4, i8, writeNpz } from '../support/write-npz.ts'

/** Memory of a child is watched through procfs. */
const PROCFS = { skip: existsSync('/proc/self/status') ? false : 'no /proc on this system' }

async function validateRun(spec: ValidateSpec, options?: ValidateOptions): Promise<RunValidation> {
  const result = await validateArtifact(spec, options)
  assert.equal(result.kind, 'run')
  return result as RunValidation
}

async function failure(spec: ValidateSpec, code: ErrorCode, options?: ValidateOptions): Promise<AppError> {
  try {
    await validateArtifact(spec, options)
  } catch (error) {
    assert.ok(error instanceof AppError, String(error))
    assert.equal(error.code, code, error.message)
    return error
  }
  return assert.fail(`no ${code}`)
}

const SCORES = [
  [5, 1, 0, 0],
  [0, 7, 1, 0],
  [1, 2, 4, 0],
  [3, 1, 2, 0],
]

test('scores original and artifact on a labelled dataset', async (t) => {
  const folder = tempFolder(t)
  const [original, artifact] = writeFiles(folder, {
    'a.onnx': linearModel(identityWeights()),
    'b.onnx': linearModel(identityWeights(true)),
  })
  const datasetPath = join(folder, 'd.npz')
  writeNpz(datasetPath, { x: f4([4, 4], SCORES.flat()), labels: i8([4], [0, 1, 2, 0]) })
  const progress: number[] = []
  const result = await validateRun(validateSpec(original!.path, artifact!.path, { datasetPath }), {
    onProgress: ({ doneBytes, totalBytes }) => progress.push(doneBytes / totalBytes),
    tempDir: folder,
  })
  const { classification } = result
  assert.equal(result.inputs.source, 'dataset')
  assert.equal(classification?.n, 4)
  assert.equal(classification?.top1.before.value, 1)
  assert.equal(classification?.top1.after.value, 0.5)
  assert.equal(classification?.top1.difference.value, -0.5)
  assert.deepEqual(classification?.confusionAfter, [
    [2, 0, 0],
    [0, 0, 1],
    [0, 1, 0],
  ])
  assert.equal(result.outputs[0]?.agreement?.value, 0.5)
  assert.equal(progress.at(-1), 1)
  assert.deepEqual(readdirSync(folder).sort(), ['a.onnx', 'b.onnx', 'd.npz'], 'no temporary file is left')
})

test('reports size, load time, latency, memory, settings and environment of both models', async (t) => {
  const [model] = writeFiles(tempFolder(t), { 'a.onnx': linearModel(identityWeights()) })
  const result = await validateRun(validateSpec(model!.path, model!.path, { x64QuantPrecision: '1' }))
  for (const run of [result.original, result.artifact]) {
    assert.equal(run.fileBytes, model!.sizeBytes)
    assert.ok(run.loadSeconds > 0 && run.latency.medianMs > 0 && run.latency.p95Ms >= run.latency.medianMs)
    assert.ok(run.latency.runs > 5 && run.latency.runs <= 1000, 'a fast model is run more often than asked')
    assert.ok(run.peakRssBytes >= run.baselineRssBytes && run.baselineRssBytes > 2e7)
  }
  assert.equal(result.latencyInterleaved, true)
  assert.equal(result.settings.x64QuantPrecision, '1')
  assert.match(result.environment.onnxruntime ?? '', /^\d+\.\d+/)
  assert.equal(result.outputs[0]?.identical, true)
})

test('measures a large original alone, before the artifact is loaded, with the same outputs', async (t) => {
  const [model] = writeFiles(tempFolder(t), { 'a.onnx': linearModel(identityWeights()) })
  const result = await validateRun(validateSpec(model!.path, model!.path), { keepBothBytes: 0 })
  assert.equal(result.latencyInterleaved, false)
  assert.ok(result.original.latency.runs > 5 && result.original.peakRssBytes > 0)
  assert.equal(result.outputs[0]?.identical, true)
})

test('uses six seeded synthetic inputs without a dataset, says so, and repeats them', async (t) => {
  const [original, artifact] = writeFiles(tempFolder(t), {
    'a.onnx': linearModel(identityWeights()),
    'b.onnx': linearModel(identityWeights().map((w) => w * 1.01)),
  })
  const spec = validateSpec(original!.path, artifact!.path, { seed: 42 })
  const first = await validateRun(spec)
  const second = await validateRun(spec)
  assert.deepEqual(first.inputs, { ...first.inputs, source: 'synthetic', samples: 6, seed: 42 })
  assert.ok(first.inputs.kinds.includes('structured'))
  assert.match(first.warnings[0]!, /synthetic inputs \(seed 42\)/)
  assert.deepEqual(first.outputs, second.outputs)
  // y = 1.01 x: error 1 % everywhere, so SQNR = 20 log10(100) = 40 dB, and the same direction.
  assert.ok(Math.abs(first.outputs[0]!.sqnrDb! - 40) < 0.01)
  assert.ok(first.outputs[0]!.cosine! > 0.999999)
})

test('carries every element type that a graph input or output may have', async (t) => {
  const types = { f16: 10, f64: 11, i8: 3, u8: 2, i16: 5, u16: 4, i32: 6, u32: 12, i64: 7, u64: 13, bool: 9 }
  const entries = Object.entries(types)
  const [model] = writeFiles(tempFolder(t), {
    'a.onnx': onnxBytes(
      onnxModel({
        nodes: entries.map(([name]) => node('Identity', [`x_${name}`], [`y_${name}`])),
        inputs: entries.map(([name, type]) => value(`x_${name}`, [1, 64], type)),
        outputs: entries.map(([name, type]) => value(`y_${name}`, [1, 64], type)),
      }),
    ),
  })
  const { outputs } = await validateRun(validateSpec(model!.path, model!.path))
  assert.deepEqual(
    outputs.map(({ dtype }) => dtype),
    Object.keys(types),
  )
  for (const output of outputs) assert.ok(output.identical && output.maxAbsOriginal > 0, output.name)
})

test('counts NaN that only the artifact gives, and warns', async (t) => {
  const [original, artifact] = writeFiles(tempFolder(t), { 'a.onnx': nanModel(false), 'b.onnx': nanModel(true) })
  const result = await validateRun(validateSpec(original!.path, artifact!.path))
  assert.ok(result.outputs[0]!.nonFiniteIntroduced > 0)
  assert.equal(result.outputs[0]!.nonFiniteBefore, 0)
  assert.ok(result.warnings.some((warning) => /NaN or infinite in the artifact/.test(warning)))
})

test('NaN inputs and outputs that are NaN on both sides are warned of and agree on nothing', async (t) => {
  const folder = tempFolder(t)
  const [model] = writeFiles(folder, { 'a.onnx': linearModel(identityWeights()) })
  const datasetPath = join(folder, 'd.npz')
  writeNpz(datasetPath, { x: f4([2, 4], Array(8).fill(Number.NaN)) })
  const result = await validateRun(validateSpec(model!.path, model!.path, { datasetPath }))
  assert.equal(result.outputs[0]!.agreement, null)
  assert.deepEqual(result.warnings, [
    "'x' holds NaN in the dataset",
    "Output 'y' of the original is NaN or infinite everywhere, so nothing was compared: check the inputs and the model.",
  ])
})

test('refuses an artifact that does not load, or that lost an output, naming the model', async (t) => {
  const folder = tempFolder(t)
  const [original, broken, renamed] = writeFiles(folder, {
    'a.onnx': linearModel(identityWeights()),
    'b.onnx': onnxBytes(
      onnxModel({
        nodes: [node('NoSuchOp', ['x'], ['y'])],
        inputs: [value('x', ['N', 4])],
        outputs: [value('y', ['N', 3])],
      }),
    ),
    'c.onnx': linearModel(identityWeights(), 'z'),
  })
  const error = await failure(validateSpec(original!.path, broken!.path), 'validation_failed')
  assert.match(error.detail, /^the artifact: onnxruntime could not load the model: .*NoSuchOp/)
  assert.ok(!error.detail.includes(folder), 'the message does not tell where files lie')
  assert.equal(error.context['model'], 'artifact')
  assert.match(
    (await failure(validateSpec(broken!.path, original!.path), 'validation_failed')).detail,
    /^the original:/,
  )
  assert.match((await failure(validateSpec(original!.path, renamed!.path), 'validation_failed')).detail, /'y'.*'z'/)
})

test('refuses datasets that do not match, naming what is expected', async (t) => {
  const folder = tempFolder(t)
  const [model] = writeFiles(folder, { 'a.onnx': linearModel(identityWeights()) })
  const datasetPath = join(folder, 'd.npz')
  const spec = validateSpec(model!.path, model!.path, { datasetPath })
  writeNpz(datasetPath, { image: f4([4, 4], SCORES.flat()) })
  assert.match((await failure(spec, 'dataset_invalid')).detail, /'x' f32/)
  writeNpz(datasetPath, { x: f4([4, 4], SCORES.flat()), labels: i8([4], [0, 1, 2, 3]) })
  assert.match((await failure(spec, 'dataset_invalid')).detail, /label 3 at position 3.*3 classes/)
  writeFiles(folder, { 'd.npz': 'PK but no zip' })
  await failure(spec, 'dataset_invalid')
})

test('asks for a dataset when no synthetic input fits', async (t) => {
  const [model] = writeFiles(tempFolder(t), { 'a.onnx': pickyModel() })
  const { detail } = await failure(validateSpec(model!.path, model!.path), 'validation_failed')
  assert.match(detail, /no synthetic input fits.*'x' f32 \[N, T\].*Give a dataset/)
})

test('refuses a 4-bit graph output by name before onnxruntime can abort on it', async (t) => {
  const [model] = writeFiles(tempFolder(t), { 'a.onnx': int4OutputModel(true) })
  assert.match((await failure(validateSpec(model!.path, model!.path), 'dtype_unsupported')).detail, /output 'y' is i4/)
})

test('never fetches a 4-bit output that the model leaves undeclared', async (t) => {
  const [model] = writeFiles(tempFolder(t), { 'a.onnx': int4OutputModel(false) })
  await failure(validateSpec(model!.path, model!.path), 'feature_unsupported')
})

test('survives a native crash of the child in the middle of a run', PROCFS, async (t) => {
  const folder = tempFolder(t)
  const [model] = writeFiles(folder, { 'a.onnx': endlessModel() })
  const onChild = (pid: number, rssBytes: number) => {
    if (rssBytes > 60e6) process.kill(pid, 'SIGABRT')
  }
  const spec = validateSpec(model!.path, model!.path)
  const error = await failure(spec, 'worker_crashed', { tempDir: folder, onChild })
  assert.match(error.detail, /died \(signal SIGABRT\) while it ran the original/)
  assert.equal(error.context['signal'], 'SIGABRT')
  assert.deepEqual(readdirSync(folder), ['a.onnx'])
})

test('says what a child wrote to stderr before it died', async (t) => {
  const [model, child] = writeFiles(tempFolder(t), {
    'a.onnx': linearModel(identityWeights()),
    'child.mjs': "process.on('message', () => { console.error('out of luck'); process.exit(7) })",
  })
  const error = await failure(validateSpec(model!.path, model!.path), 'worker_crashed', { childEntryPath: child!.path })
  assert.match(error.detail, /exit code 7.*out of luck/)
})

test('kills a model that never ends when its time is up', PROCFS, async (t) => {
  const folder = tempFolder(t)
  const [model] = writeFiles(folder, { 'a.onnx': endlessModel() })
  const start = performance.now()
  let child = 0
  const onChild = (pid: number) => {
    child = pid
  }
  const options = { timeoutMs: 1500, tempDir: folder, onChild }
  await failure(validateSpec(model!.path, model!.path), 'worker_timeout', options)
  assert.ok(performance.now() - start < 6000)
  assert.throws(() => process.kill(child, 0), { code: 'ESRCH' })
  assert.deepEqual(readdirSync(folder), ['a.onnx'])
})

test('cancels within a second, also in the middle of a run', async (t) => {
  const [model] = writeFiles(tempFolder(t), { 'a.onnx': endlessModel() })
  const controller = new AbortController()
  const cancelled = failure(validateSpec(model!.path, model!.path), 'cancelled', { signal: controller.signal })
  await sleep(1200)
  const start = performance.now()
  controller.abort()
  await cancelled
  assert.ok(performance.now() - start < 1000)
  await failure(validateSpec(model!.path, model!.path), 'cancelled', { signal: AbortSignal.abort() })
})

test('kills a model that takes more memory than allowed', PROCFS, async (t) => {
  const [model] = writeFiles(tempFolder(t), { 'a.onnx': hungryModel(2) })
  const memoryLimitBytes = 400 * 2 ** 20
  const error = await failure(validateSpec(model!.path, model!.path, { memoryLimitBytes }), 'limit_exceeded')
  assert.equal(error.context['limit'], 'validation_memory_bytes')
  assert.equal(error.context['allowed'], memoryLimitBytes)
})

test('leaves no inference child behind when its parent is killed in the middle of a run', PROCFS, async (t) => {
  const folder = tempFolder(t)
  const [model] = writeFiles(folder, { 'a.onnx': endlessModel() })
  const parent = spawn(process.execPath, [join(import.meta.dirname, '../support/orphan-validation.ts'), model!.path], {
    stdio: ['ignore', 'pipe', 'inherit'],
    // A killed process cannot remove its temporary folder: the test's own folder takes it along.
    env: { ...process.env, TMPDIR: folder },
  })
  t.after(() => parent.kill('SIGKILL'))
  const [line] = await once(parent.stdout, 'data')
  const child = Number(String(line).trim())
  assert.ok(child > 0)
  await sleep(500)
  parent.kill('SIGKILL')
  for (let waited = 0; isAlive(child) && waited < 5000; waited += 100) await sleep(100)
  assert.equal(isAlive(child), false, 'the inference child still runs')
})

/** A zombie nobody reaps (a container without init) has ended too. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

test('gives the median and the nearest-rank 95th percentile', () => {
  const milliseconds = Array.from({ length: 20 }, (_, i) => 20 - i)
  const latency = summarizeLatency({ milliseconds, warmupRuns: 3, cpuMilliseconds: 40 })
  assert.deepEqual(latency, { medianMs: 10.5, p95Ms: 19, runs: 20, warmupRuns: 3, cpuMeanMs: 2 })
})
