import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { EXIT_CODES, exitCodeOf } from '../../src/cli/exit-codes.ts'
import { AppError, type ErrorCode } from '../../src/errors.ts'

const codeOf = (code: ErrorCode) => exitCodeOf(new AppError(code, ''))

test('usage, bad recipes and unsupported combinations exit with 2', () => {
  assert.deepEqual(
    (['usage', 'recipe_invalid', 'request_invalid', 'feature_unsupported', 'conflict'] as const).map(codeOf),
    [2, 2, 2, 2, 2],
  )
})

test('bad files and bad data exit with 3', () => {
  const codes = [
    'not_found',
    'format_unrecognised',
    'format_truncated',
    'format_invalid',
    'external_data_invalid',
    'dtype_unsupported',
    'opset_unsupported',
    'dataset_invalid',
    'limit_exceeded',
  ] as const
  assert.deepEqual([...new Set(codes.map(codeOf))], [3])
})

test('an unmet requirement and an artifact that fails validation exit with 4', () => {
  assert.deepEqual((['requirement_not_met', 'validation_failed'] as const).map(codeOf), [4, 4])
})

test('an original that onnxruntime refuses is a bad file, an artifact that it refuses a failure', () => {
  const refused = (model: string) => exitCodeOf(new AppError('validation_failed', '', { model }))
  assert.equal(refused('original'), 3)
  assert.equal(refused('artifact'), 4)
})

test('failures of the machine and bugs exit with 1', () => {
  const codes = ['device_lost', 'worker_crashed', 'disk_full', 'store_failed', 'internal'] as const
  assert.deepEqual([...new Set(codes.map(codeOf))], [1])
})

test('docs/cli.md shows the same table of exit codes', () => {
  const text = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^\| (\d+) \| ([^|]+) \|$/gm)].map((match) => [match[1], match[2]!.trim()])
  assert.deepEqual(Object.fromEntries(rows), EXIT_CODES)
})
