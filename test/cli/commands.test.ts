// The commands as processes, on small models built here: what they print, what they leave on disk, how they exit.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import type { ModelDescription, PlanDocument } from '../../src/jobs/protocol.ts'
import type { Report } from '../../src/validate/report.ts'
import { externalTensor, floatTensor, node, onnxBytes, onnxModel, value, weightValues } from '../support/build-onnx.ts'
import { buildSafetensors, f32Bytes } from '../support/build-safetensors.ts'
import { type CliResult, runCli, startCli } from '../support/run-cli.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { f4, i8, writeNpz } from '../support/write-npz.ts'

const K = 64
const N = 4

/** x[batch, 64] -> MatMul with w[64, 4] -> y. */
function linearModel(weight = floatTensor('w', [K, N], 7)): Uint8Array {
  return onnxBytes(
    onnxModel({
      nodes: [node('MatMul', ['x', 'w'], ['y'])],
      inputs: [value('x', ['batch', K])],
      outputs: [value('y', ['batch', N])],
      initializers: [weight],
    }),
  )
}

let folder = ''
before((context) => {
  assert('after' in context)
  folder = tempFolder(context as Parameters<typeof tempFolder>[0])
  writeFileSync(join(folder, 'm.onnx'), linearModel())
  const samples = 40
  const x = [...weightValues(samples * K, 3)]
  writeNpz(join(folder, 'labelled.npz'), {
    x: f4([samples, K], x),
    labels: i8(
      [samples],
      Array.from({ length: samples }, (_, index) => index % N),
    ),
  })
  writeFileSync(
    join(folder, 'm.safetensors'),
    buildSafetensors([
      { name: 'a.weight', dtype: 'F32', shape: [16, 32], data: f32Bytes([...weightValues(512, 5)]) },
      { name: 'a.bias', dtype: 'F32', shape: [16], data: f32Bytes([...weightValues(16, 6)]) },
    ]),
  )
})

const oneLine = (text: string) => text.trimEnd().split('\n').length === 1

function assertFails(result: CliResult, status: number, pattern: RegExp): void {
  assert.equal(result.status, status, result.stderr)
  assert.match(result.stderr, pattern)
  assert.equal(result.stdout, '')
  assert(oneLine(result.stderr), `more than one line: ${result.stderr}`)
}

test('--help of every command and of the program print to standard output and exit with 0', async () => {
  for (const name of ['serve', 'inspect', 'plan', 'compress', 'validate', 'bench', 'gc', 'backup', 'doctor']) {
    const result = await runCli(folder, name, '--help')
    assert.equal(result.status, 0, result.stderr)
    assert.match(result.stdout, new RegExp(`^Usage: tensorpress ${name} `))
  }
  assert.match((await runCli(folder, '--help')).stdout, /Commands:/)
})

test('without a command the help goes to standard error and the status is 2', async () => {
  const result = await runCli(folder)
  assert.equal(result.status, 2)
  assert.match(result.stderr, /Usage: tensorpress COMMAND/)
})

test('unknown commands and options are refused in one line', async () => {
  assertFails(
    await runCli(folder, 'inspct', 'm.onnx'),
    2,
    /unknown command "inspct"; did you mean "inspect"\? \[usage\]/,
  )
  assertFails(await runCli(folder, 'plan', 'm.onnx', '--recip', 'int8'), 2, /did you mean --recipe\?/)
})

test('inspect shows the tensors, and with --json a document', async () => {
  const text = await runCli(folder, 'inspect', 'm.onnx')
  assert.equal(text.status, 0, text.stderr)
  assert.match(text.stdout, /^format {4}ONNX, opset 17, IR 8$/m)
  assert.match(text.stdout, /^w {7}f32 {4}64x4 {3}1\.0 KiB {2}MatMul$/m)
  const json = await runCli(folder, 'inspect', 'm.safetensors', '--json')
  const description = JSON.parse(json.stdout) as ModelDescription
  assert.deepEqual([description.summary.format, description.parameterCount], ['safetensors', 528])
})

test('plan says what happens to each tensor and why, and writes nothing', async () => {
  const before = readdirSync(folder)
  const json = await runCli(folder, 'plan', 'm.safetensors', '-r', 'int8', '--json')
  const plan = JSON.parse(json.stdout) as PlanDocument
  assert.deepEqual(
    plan.tensors.map(({ name, action, reason }) => [name, action, reason]),
    [
      ['a.weight', 'compress', null],
      ['a.bias', 'keep', 'bias'],
    ],
  )
  assert.match((await runCli(folder, 'plan', 'm.onnx', '-r', 'int4')).stdout, /1 of 1 tensors are compressed/)
  assert.deepEqual(readdirSync(folder), before)
})

test('compress writes the artifact, the report and a summary', async (context) => {
  const out = tempFolder(context)
  const report = join(out, 'r.json')
  const result = await runCli(
    folder,
    ...['compress', 'm.onnx', '-r', 'int8', '-o', out, '--dataset', 'labelled.npz', '--report', report],
  )
  assert.equal(result.status, 0, result.stderr)
  assert.match(result.stdout, /^top1 .* \(n = 40\)$/m)
  assert.deepEqual(readdirSync(out).sort(), ['m.int8.onnx', 'r.json'])
  const written = JSON.parse(readFileSync(report, 'utf8')) as Report
  assert.equal(written.tensorCounts.compressed, 1)
  assert.match(result.stdout, new RegExp(`m\\.int8\\.onnx \\(sha256 ${written.artifact.files[0]?.sha256}\\)`))
})

test('the same bytes come out on the reference device, and --json prints one document', async (context) => {
  const out = tempFolder(context)
  const hashes: (string | null)[] = []
  for (const device of ['auto', 'reference']) {
    const result = await runCli(
      folder,
      ...['compress', 'm.onnx', '-r', 'prune-50+int4', '-o', join(out, `${device}.onnx`), '--device', device, '--json'],
    )
    assert.equal(result.stderr, '')
    const { written, report } = JSON.parse(result.stdout) as { written: string[]; report: Report }
    assert.deepEqual(written, [join(out, `${device}.onnx`)])
    hashes.push(report.artifact.files[0]!.sha256)
  }
  assert.equal(hashes[0], hashes[1])
  assert.deepEqual(readFileSync(join(out, 'auto.onnx')), readFileSync(join(out, 'reference.onnx')))
})

test('an unmet requirement exits with 4, writes the report and no artifact', async (context) => {
  const out = tempFolder(context)
  const result = await runCli(
    folder,
    ...['compress', 'm.onnx', '-r', 'int8', '-o', join(out, 'made', 'm.onnx'), '--report', join(out, 'r.html')],
    ...['--require', 'maxSizeRatio=0.01', '--json'],
  )
  assert.equal(result.status, 4)
  assert.match(result.stderr, /above the limit of 0\.01\. Nothing was written\. \[requirement_not_met\]/)
  assert.deepEqual(readdirSync(out), ['r.html'])
  assert.match(readFileSync(join(out, 'r.html'), 'utf8'), /^<!doctype html>/i)
})

test('an existing output is left alone unless --force is given', async (context) => {
  const out = tempFolder(context)
  const target = join(out, 'm.onnx')
  writeFileSync(target, 'precious')
  const args = ['compress', 'm.onnx', '-r', 'fp16', '-o', target, '--no-validate']
  assertFails(await runCli(folder, ...args), 2, /exists already; use --force to replace it/)
  assert.equal(readFileSync(target, 'utf8'), 'precious')
  assert.equal((await runCli(folder, ...args, '--force')).status, 0)
  assert.notEqual(readFileSync(target, 'utf8'), 'precious')
  assert.deepEqual(readdirSync(out), ['m.onnx'])
})

test('files that are no models exit with 3 in one line and leave nothing', async (context) => {
  const out = tempFolder(context)
  const bad = tempFolder(context)
  writeFileSync(join(bad, 'empty.onnx'), '')
  writeFileSync(join(bad, 'page.onnx'), '<!doctype html><html></html>')
  writeFileSync(join(bad, 'cut.onnx'), linearModel().subarray(0, 100))
  writeFileSync(join(bad, 'cut.safetensors'), readFileSync(join(folder, 'm.safetensors')).subarray(0, 500))
  for (const [name, pattern] of [
    ['empty.onnx', /"empty\.onnx" is empty/],
    ['page.onnx', /an HTML page/],
    ['cut.onnx', /cut\.onnx/],
    ['cut.safetensors', /cut\.safetensors/],
    ['absent.onnx', /"[^"]*absent\.onnx" does not exist/],
  ] as const) {
    const result = await runCli(out, 'compress', join(bad, name), '-r', 'int8')
    assertFails(result, 3, pattern)
  }
  assert.deepEqual(readdirSync(out), [])
})

test('external data beside the model is found, and its absence is named', async (context) => {
  const out = tempFolder(context)
  const weight = externalTensor('w', [K, N], { location: 'weights.bin', offset: '0', length: String(4 * K * N) })
  writeFileSync(join(out, 'm.onnx'), linearModel(weight))
  assertFails(await runCli(out, 'compress', 'm.onnx', '-r', 'int8'), 3, /weights\.bin/)
  writeFileSync(join(out, 'weights.bin'), f32Bytes([...weightValues(K * N, 9)]))
  const result = await runCli(out, 'compress', 'm.onnx', '-r', 'int8', '-o', 'small/')
  assert.equal(result.status, 0, result.stderr)
  const files = readdirSync(join(out, 'small'))
  assert(files.includes('m.int8.onnx'), files.join())
  assert.equal((await runCli(out, 'validate', 'm.onnx', join('small', 'm.int8.onnx'))).status, 0)
})

test('a folder of shards becomes a folder of shards with its index and config', async (context) => {
  const out = tempFolder(context)
  const shard = (name: string, seed: number) =>
    buildSafetensors([{ name, dtype: 'F32', shape: [16, 32], data: f32Bytes([...weightValues(512, seed)]) }])
  mkdirSync(join(out, 'llm'))
  writeFileSync(join(out, 'llm', 'model-00001-of-00002.safetensors'), shard('a.weight', 1))
  writeFileSync(join(out, 'llm', 'model-00002-of-00002.safetensors'), shard('b.weight', 2))
  const index = {
    metadata: { total_size: 4096 },
    weight_map: { 'a.weight': 'model-00001-of-00002.safetensors', 'b.weight': 'model-00002-of-00002.safetensors' },
  }
  writeFileSync(join(out, 'llm', 'model.safetensors.index.json'), JSON.stringify(index))
  writeFileSync(join(out, 'llm', 'config.json'), '{"model_type": "tiny"}')
  const result = await runCli(out, 'compress', 'llm', '-r', 'int4')
  assert.equal(result.status, 0, result.stderr)
  const made = readdirSync(join(out, 'llm.int4')).sort()
  assert(made.includes('model.safetensors.index.json') && made.includes('config.json'), made.join())
  assert.equal(made.filter((name) => name.endsWith('.safetensors')).length, 2)
  const config = JSON.parse(readFileSync(join(out, 'llm.int4', 'config.json'), 'utf8')) as Record<string, unknown>
  assert.equal(config['model_type'], 'tiny')
  assert('quantization_config' in config)
  assert.equal((await runCli(out, 'validate', 'llm', 'llm.int4')).status, 0)
  assertFails(await runCli(out, 'compress', 'llm', '-r', 'int4'), 2, /exists already/)
})

test('bad recipes name the key, bad datasets and requirements are refused before any work', async (context) => {
  const out = tempFolder(context)
  writeFileSync(join(out, 'r.yaml'), 'steps:\n  - method: quantize\n    bitz: 8\n')
  const model = join(folder, 'm.onnx')
  assertFails(await runCli(out, 'compress', model, '-r', 'r.yaml'), 2, /r\.yaml: steps\[0\]\.bitz: unknown key/)
  assertFails(await runCli(out, 'compress', model, '-r', 'int88'), 2, /did you mean int8\?/)
  assertFails(await runCli(out, 'compress', model, '-r', 'int8', '--require', 'metric=top9'), 2, /require\.metric/)
  assertFails(await runCli(out, 'compress', model, '-r', 'int8', '--dataset', 'no.npz'), 3, /"no\.npz" is not a file/)
  const notNpz = await runCli(out, 'compress', model, '-r', 'int8', '--dataset', 'r.yaml')
  assertFails(notNpz, 3, /not a readable \.npz/)
  assert.deepEqual(readdirSync(out), ['r.yaml'])
})

test('the model itself is never replaced, not even by force or through a link', async (context) => {
  const out = tempFolder(context)
  const bytes = linearModel()
  writeFileSync(join(out, 'm.onnx'), bytes)
  symlinkSync('m.onnx', join(out, 'link.onnx'))
  for (const target of ['m.onnx', './m.onnx', 'link.onnx']) {
    const result = await runCli(out, 'compress', 'm.onnx', '-r', 'int8', '--no-validate', '--force', '-o', target)
    assertFails(result, 2, /is a file of the model itself/)
  }
  assert.deepEqual(readFileSync(join(out, 'm.onnx')), Buffer.from(bytes))
  assert.deepEqual(readdirSync(out).sort(), ['link.onnx', 'm.onnx'])
})

test('a dataset that does not match the model is one line, before any work', async (context) => {
  const out = tempFolder(context)
  const model = join(folder, 'm.onnx')
  const x = f4([2, K], [...weightValues(2 * K, 3)])
  writeNpz(join(out, 'named.npz'), { y: x })
  writeNpz(join(out, 'shaped.npz'), { x: f4([2, 3], [1, 2, 3, 4, 5, 6]) })
  writeNpz(join(out, 'typed.npz'), { x: i8([2, K], Array(2 * K).fill(1)) })
  writeNpz(join(out, 'labels.npz'), { x, labels: i8([2], [0, N]) })
  const expected = /Expected: 'x' f32 \[batch, 64\]/
  const compress = (name: string) => runCli(out, 'compress', model, '-r', 'int8', '--dataset', name)
  assertFails(await compress('named.npz'), 3, expected)
  assertFails(await compress('shaped.npz'), 3, expected)
  assertFails(await compress('typed.npz'), 3, /'x' is i64, the input f32: save it as float32/)
  assertFails(await compress('labels.npz'), 3, /label 4 at position 1 is out of range: the model has 4 classes/)
  assertFails(await runCli(out, 'validate', model, model, '--dataset', 'named.npz'), 3, expected)
  const tensors = join(folder, 'm.safetensors')
  assertFails(await runCli(out, 'compress', tensors, '-r', 'int8', '--dataset', 'named.npz'), 3, /has no inputs/)
  assert.deepEqual(readdirSync(out).sort(), ['labels.npz', 'named.npz', 'shaped.npz', 'typed.npz'])
})

test('validate compares two models and judges a requirement', async (context) => {
  const out = tempFolder(context)
  const small = join(out, 'm.fp16.onnx')
  assert.equal((await runCli(folder, 'compress', 'm.onnx', '-r', 'fp16', '-o', small, '--no-validate')).status, 0)
  const good = await runCli(folder, 'validate', 'm.onnx', small, '--require', 'metric=cosine,min=0.999')
  assert.equal(good.status, 0, good.stderr)
  assert.match(good.stdout, /^met {7}cosine is 1; at least the required 0\.999\.$/m)
  const bad = await runCli(folder, 'validate', 'm.onnx', small, '--require', 'metric=sqnr_db,min=200', '--json')
  assert.equal(bad.status, 4)
  assert.equal((JSON.parse(bad.stdout) as { requirement: { met: boolean } }).requirement.met, false)
  const mixed = await runCli(folder, 'validate', 'm.onnx', 'm.safetensors')
  assertFails(mixed, 2, /models of different formats cannot be compared/)
  const other = onnxModel({
    nodes: [node('Relu', ['image'], ['y'])],
    inputs: [value('image', ['batch', 3, 8, 8])],
    outputs: [value('y', ['batch', 3, 8, 8])],
  })
  writeFileSync(join(out, 'other.onnx'), onnxBytes(other))
  assertFails(
    await runCli(folder, 'validate', 'm.onnx', join(out, 'other.onnx')),
    2,
    /take different inputs and cannot be compared: "m\.onnx" 'x' of rank 2; "other\.onnx" 'image' of rank 4/,
  )
})

test('doctor names the device that jobs use and onnxruntime', async () => {
  const result = await runCli(folder, 'doctor', '--device', 'reference', '--json')
  assert.equal(result.status, 0, result.stdout)
  const found = JSON.parse(result.stdout) as { worker: { kind: string }; onnxruntime: { works: boolean } }
  assert.deepEqual([found.worker.kind, found.onnxruntime.works], ['reference', true])
})

test('Ctrl-C in mid-job exits with 130 and leaves nothing', async (context) => {
  const out = tempFolder(context)
  const side = 1024
  const data = f32Bytes([...weightValues(side * side, 1)])
  const tensors = ['a', 'b', 'c'].map((name) => ({ name, dtype: 'F32', shape: [side, side], data }))
  writeFileSync(join(out, 'big.safetensors'), buildSafetensors(tensors))
  const run = startCli(out, 'compress', 'big.safetensors', '-r', 'int4', '--device', 'reference')
  const deadline = Date.now() + 20_000
  while (!/encoding|opening/.test(run.stderrSoFar())) {
    assert(Date.now() < deadline, 'it never started to work')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  const signalled = Date.now()
  run.child.kill('SIGINT')
  const result = await run.result
  assert.equal(result.status, 130, result.stderr)
  assert(Date.now() - signalled < 5000, 'took longer than five seconds')
  assert.match(result.stderr, /interrupted; nothing was written \[cancelled\]/)
  assert.deepEqual(readdirSync(out), ['big.safetensors'])
})
