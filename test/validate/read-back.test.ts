import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import type { PlanRow } from '../../src/jobs/protocol.ts'
import { readBack } from '../../src/validate/read-back.ts'
import { validateArtifact } from '../../src/validate/validate-artifact.ts'
import { buildSafetensors, f32Bytes, type TestTensor } from '../support/build-safetensors.ts'
import { tempFolder, writeFiles } from '../support/temp-folder.ts'
import { validateSpec } from '../support/validate-spec.ts'

function f32(name: string, shape: number[], values: number[]): TestTensor {
  return { name, dtype: 'F32', shape, data: f32Bytes(values) }
}

function row(name: string, action: 'keep' | 'compress'): PlanRow {
  return {
    name,
    dtype: 'f32',
    shape: [],
    roles: [],
    action,
    reason: null,
    detail: '',
    steps: [],
    prune: null,
    encode: { kind: 'dense' },
    outputs: [],
    bytesBefore: 0,
    bytesAfter: 0,
  }
}

const BIAS = f32('bias', [2], [0.5, -0.5])

/** Writes both files and reads the second back against the first. */
async function compare(
  folder: string,
  original: TestTensor[],
  artifact: TestTensor[],
  plan: PlanRow[] | null = null,
  metadata: { before?: Record<string, string>; after?: Record<string, string> } = {},
) {
  const [a, b] = writeFiles(folder, {
    'a.safetensors': buildSafetensors(original, metadata.before),
    'b.safetensors': buildSafetensors(artifact, metadata.after),
  })
  return readBack([a!], [b!], plan, () => {})
}

async function refused(action: Promise<unknown>, pattern: RegExp): Promise<void> {
  await assert.rejects(action, (error) => {
    assert.ok(error instanceof AppError)
    assert.equal(error.code, 'validation_failed')
    assert.match(error.detail, pattern)
    return true
  })
}

test('finds untouched tensors identical', async (t) => {
  const weight = f32('w', [2, 2], [1, 2, 3, 4])
  const result = await compare(tempFolder(t), [weight, BIAS], [weight, BIAS], [row('w', 'keep'), row('bias', 'keep')])
  assert.equal(result.identicalTensors, 2)
  assert.equal(result.identicalBytes, 24)
  assert.equal(result.changedTensors, 0)
  assert.equal(result.mse, 0)
})

test('dequantizes int8 with a scale per row: hand-worked errors', async (t) => {
  // row 0: 127 * 0.01 = 1.27 and -50 * 0.01 = -0.5; row 1: 3 * 0.5 = 1.5 and 0.
  const artifact: TestTensor[] = [
    { name: 'w', dtype: 'I8', shape: [2, 2], data: Uint8Array.of(127, 256 - 50, 3, 0) },
    f32('w.scale', [2], [0.01, 0.5]),
    BIAS,
  ]
  const plan = [row('w', 'compress'), row('bias', 'keep')]
  const result = await compare(tempFolder(t), [f32('w', [2, 2], [1.27, -0.5, 1.5, 0.25]), BIAS], artifact, plan)
  const changed = result.tensors.find(({ name }) => name === 'w')
  assert.equal(changed?.storedAs, 'i8 + scale per row')
  assert.ok(Math.abs(changed!.maxAbsError! - 0.25) < 1e-6)
  assert.ok(Math.abs(changed!.mse! - 0.0625 / 4) < 1e-6)
  assert.deepEqual(result.worst?.name, 'w')
})

test('dequantizes unsigned int8 with zero points, per tensor', async (t) => {
  const artifact: TestTensor[] = [
    { name: 'w', dtype: 'U8', shape: [4], data: Uint8Array.of(0, 10, 12, 255) },
    f32('w.scale', [1], [0.5]),
    { name: 'w.zero_point', dtype: 'U8', shape: [1], data: Uint8Array.of(10) },
  ]
  const result = await compare(tempFolder(t), [f32('w', [4], [-5, 0, 1, 122.5])], artifact)
  assert.equal(result.tensors[0]?.mse, 0)
  assert.equal(result.tensors[0]?.storedAs, 'u8 + scale per tensor + zero point')
  assert.equal(result.changedTensors, 1)
})

test('dequantizes packed int4 blocks, low nibble first, offset 8', async (t) => {
  // one row of 32 in two blocks of 16; codes 0..15 twice; scales 1 and 2: values code - 8 and (code - 8) * 2.
  const codes = Array.from({ length: 32 }, (_, i) => i % 16)
  const packed = Uint8Array.from({ length: 16 }, (_, i) => codes[2 * i]! | (codes[2 * i + 1]! << 4))
  const values = codes.map((code, i) => (code - 8) * (i < 16 ? 1 : 2))
  const artifact: TestTensor[] = [
    { name: 'l.weight_packed', dtype: 'I32', shape: [1, 4], data: packed },
    f32('l.weight_scale', [1, 2], [1, 2]),
    { name: 'l.weight_shape', dtype: 'I64', shape: [2], data: new Uint8Array(BigInt64Array.of(1n, 32n).buffer) },
  ]
  const original = [f32('l.weight', [1, 32], values)]
  const plan = [row('l.weight', 'compress')]
  const result = await compare(tempFolder(t), original, artifact, plan)
  assert.equal(result.tensors[0]?.mse, 0)
  assert.equal(result.tensors[0]?.storedAs, 'int4 in blocks of 16')
  // asymmetric: zero points 3 and 5 in one word per block, row 0 in its low bits.
  const zeros = {
    name: 'l.weight_zero_point',
    dtype: 'I32',
    shape: [1, 2],
    data: Uint8Array.of(3, 0, 0, 0, 5, 0, 0, 0),
  }
  const shifted = codes.map((code, i) => (i < 16 ? code - 3 : (code - 5) * 2))
  const second = await compare(tempFolder(t), [f32('l.weight', [1, 32], shifted)], [...artifact, zeros], plan)
  assert.equal(second.tensors[0]?.mse, 0)
})

test('compares bf16 and f16 by value', async (t) => {
  const artifact: TestTensor[] = [
    { name: 'b', dtype: 'BF16', shape: [2], data: Uint8Array.of(0x80, 0x3f, 0x00, 0xc0) },
    { name: 'h', dtype: 'F16', shape: [2], data: Uint8Array.of(0x00, 0x3c, 0x00, 0xc0) },
  ]
  const result = await compare(tempFolder(t), [f32('b', [2], [1, -2]), f32('h', [2], [1, -2])], artifact)
  assert.equal(result.mse, 0)
  assert.equal(result.changedTensors, 2)
})

test('refuses a kept tensor that changed, moved to another dtype, or is gone', async (t) => {
  const plan = [row('bias', 'keep')]
  const folder = tempFolder(t)
  await refused(compare(folder, [BIAS], [f32('bias', [2], [0.5, 0.5])], plan), /'bias'.*has other bytes/)
  const half: TestTensor = { name: 'bias', dtype: 'F16', shape: [2], data: new Uint8Array(4) }
  await refused(compare(folder, [BIAS], [half], plan), /'bias'.*is f16 \[2\] in the artifact/)
  await refused(compare(folder, [BIAS], [f32('other', [1], [1])], plan), /'bias'.*is missing/)
})

test('refuses a compressed tensor without its parts, and tensors that nobody explains', async (t) => {
  const folder = tempFolder(t)
  const original = [f32('w', [2], [1, 2])]
  const plan = [row('w', 'compress')]
  const lonely: TestTensor = { name: 'w', dtype: 'I8', shape: [2], data: Uint8Array.of(1, 2) }
  await refused(compare(folder, original, [lonely], plan), /'w'.*no readable form/)
  await refused(compare(folder, original, [lonely, f32('w.scale', [3], [1, 1, 1])], plan), /cannot be dequantized/)
  const stranger = f32('extra', [1], [1])
  await refused(compare(folder, original, [...original, stranger], plan), /1 tensors .*'extra'/)
})

test('refuses lost metadata, and a file that cannot be read', async (t) => {
  const folder = tempFolder(t)
  await refused(compare(folder, [BIAS], [BIAS], null, { before: { author: 'me' } }), /metadata entry 'author'/)
  const [a, b] = writeFiles(folder, { 'a.safetensors': buildSafetensors([BIAS]), 'c.safetensors': 'not a model' })
  await refused(
    readBack([a!], [b!], null, () => {}),
    /cannot be read back/,
  )
})

test('reads a safetensors artifact back through its own child process', async (t) => {
  const [a, b] = writeFiles(tempFolder(t), {
    'a.safetensors': buildSafetensors([f32('w', [2], [3, 4])]),
    'b.safetensors': buildSafetensors([f32('w', [2], [3, 3])]),
  })
  const result = await validateArtifact(validateSpec(a!.path, b!.path))
  assert.equal(result.kind, 'read-back')
  assert.equal(result.kind === 'read-back' && result.mse, 0.5)
})
