import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { floatTensor, node, onnxBytes, onnxModel, value } from '../support/build-onnx.ts'
import { tempFolder } from '../support/temp-folder.ts'

const RUNTIME = join(import.meta.dirname, '../../src/runtime')

/** Loads a model in a process of its own, with a temporary folder of its own; returns what is left in that folder. */
function leftAfterLoading(test: TestContext, importLine: string): string[] {
  const folder = tempFolder(test)
  const left = join(folder, 'tmp')
  mkdirSync(left)
  const model = join(folder, 'm.onnx')
  const parts = {
    nodes: [node('MatMul', ['x', 'w'], ['y'])],
    initializers: [floatTensor('w', [4, 4], 1)],
    inputs: [value('x', [1, 4])],
    outputs: [value('y', [1, 4])],
  }
  writeFileSync(model, onnxBytes(onnxModel(parts)))
  const script = `${importLine}
    const { InferenceSession } = (await import('onnxruntime-node')).default
    await InferenceSession.create(${JSON.stringify(model)})`
  // onnxruntime keeps its telemetry off where CI is set: both are taken away, so that the file itself is what is tested.
  const { NODE_TEST_CONTEXT: _, ORT_DISABLE_TELEMETRY: __, CI: ___, ...env } = process.env
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: join(import.meta.dirname, '../..'),
    env: { ...env, TMPDIR: left },
    encoding: 'utf8',
  })
  assert.equal(run.status, 0, run.stderr)
  return readdirSync(left)
}

test('onnxruntime starts no telemetry and leaves no file where a model was loaded', (t) => {
  assert.deepEqual(leftAfterLoading(t, `import ${JSON.stringify(join(RUNTIME, 'ort-session.ts'))}`), [])
})

test('without the variable this onnxruntime leaves a telemetry log, so the check above can fail', (t) => {
  const left = leftAfterLoading(t, '')
  assert.ok(
    left.some((name) => /^mat-debug-\d+\.log$/.test(name)),
    `left: ${left.join(', ')}`,
  )
})
