import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CompressionResult, TensorOutcome } from '../../src/jobs/protocol.ts'
import { buildReport, type ReportInput } from '../../src/validate/report.ts'
import { readVersions } from '../../src/validate/versions.ts'
import { sampleReportInput } from '../support/sample-report.ts'
import { outputComparison, readBackValidation, runValidation } from '../support/sample-validation.ts'

function input(more: Partial<ReportInput> = {}, compression: Partial<CompressionResult> = {}): ReportInput {
  const base = sampleReportInput()
  return { ...base, requirements: [], ...more, compression: { ...base.compression, ...compression } }
}

function tensor(more: Partial<TensorOutcome>): TensorOutcome {
  return { ...sampleReportInput().compression.tensors[0]!, ...more }
}

test('gives sizes before and after, raw and after zstd, as ratios', () => {
  const { sizes } = buildReport(input())
  assert.deepEqual(sizes.original, { rawBytes: 1200, zstdBytes: 1100, zstdSampled: false })
  assert.deepEqual(sizes.artifact, { rawBytes: 500, zstdBytes: 450, zstdSampled: false })
  assert.equal(sizes.rawRatio, 500 / 1200)
  assert.equal(sizes.zstdRatio, 450 / 1100)
  assert.deepEqual(sizes.tensors, { compressedBefore: 1024, compressedAfter: 320, keptBytes: 0 })
})

test('says that pruning a dense file pays only after zstd', () => {
  const pruned = tensor({
    prune: { kind: 'sparsity', sparsity: 0.5 },
    encode: { kind: 'dense' },
    bytesBefore: 1024,
    bytesAfter: 1024,
  })
  const { sizes } = buildReport(input({}, { tensors: [pruned], rawBytes: 1200, zstdBytes: 660 }))
  assert.match(sizes.sentences[0]!, /not smaller raw \(100\.0 %\); after zstd it is 60\.0 %/)
})

test('says that an artifact grew, that nothing was compressed, and that zstd was sampled', () => {
  const kept = tensor({ action: 'keep', reason: 'too_small' })
  const files = [{ ...sampleReportInput().compression.files[0]!, zstdSampled: true }]
  const { sizes, tensorCounts } = buildReport(input({}, { tensors: [kept], rawBytes: 1300, files }))
  assert.match(sizes.sentences.join('\n'), /No tensor was compressed/)
  assert.match(sizes.sentences.join('\n'), /100 bytes larger than the original/)
  assert.match(sizes.sentences.join('\n'), /sample/)
  assert.deepEqual(tensorCounts, { total: 1, compressed: 0, kept: 1, byReason: { too_small: 1 } })
})

test('does not let dropped bytes pass as compression', () => {
  const junk = { files: [], rawBytes: 100_000, zstdBytes: null, zstdSampled: false }
  const { sizes } = buildReport(input({}, { input: junk, rawBytes: 40_000, zstdBytes: null }))
  // 60,000 bytes fewer, of which tensors account for 1024 - 320 = 704.
  assert.match(sizes.sentences.join('\n'), /59296 bytes of the difference are not tensors/)
})

test('judges: met, not met, validated without requirement, new NaN, not validated', () => {
  const validation = runValidation({ top1: { before: 0.98, after: 0.97 } })
  const outcome = (more: Partial<ReportInput>) => buildReport(input(more)).verdict.outcome
  assert.equal(outcome({ validation, requirements: [{ metric: 'top1', maxDrop: 0.02 }] }), 'requirement_met')
  assert.equal(outcome({ validation, requirements: [{ metric: 'top1', maxDrop: 0.001 }] }), 'requirement_not_met')
  assert.equal(outcome({ validation }), 'validated')
  const broken = runValidation({ outputs: [outputComparison({ nonFiniteIntroduced: 3 })] })
  assert.equal(outcome({ validation: broken }), 'attention')
  assert.equal(outcome({ validation: null }), 'not_validated')
  assert.equal(outcome({ validation: readBackValidation({ cosine: 1, sqnrDb: 40, mse: 0 }) }), 'validated')
})

test('lists the figures that a requirement can name, where they exist', () => {
  const labelled = buildReport(input({ validation: runValidation({ top1: { before: 0.98, after: 0.97 } }) }))
  assert.deepEqual(Object.keys(labelled.metrics), ['top1', 'f1_macro', 'cosine', 'sqnr_db', 'mse'])
  assert.equal(labelled.metrics.top1?.after, 0.97)
  assert.deepEqual(buildReport(input()).metrics, {})
})

test('warns of the reference device, of NaN weights and of a model that was compressed before', () => {
  const device = { ...sampleReportInput().compression.device, kind: 'reference' as const }
  const tensors = [tensor({ name: 'bad', action: 'keep', reason: 'non_finite', nonFinite: 7 })]
  const base = input({}, { device, tensors })
  base.model = { ...base.model, summary: { ...base.model.summary, alreadyCompressed: ['fp16'] } }
  const { warnings } = buildReport(base)
  assert.match(warnings.join('\n'), /reference device/)
  assert.match(warnings.join('\n'), /7 NaN or infinite weights in 1 tensors \(bad\)/)
  assert.match(warnings.join('\n'), /already compressed in part: fp16/)
})

test('gives the command that makes the same bytes, safe for a shell', () => {
  const base = input()
  base.model = { ...base.model, fileName: "my model's.onnx" }
  base.output = { ...base.output, externalData: true }
  const { command } = buildReport(base).reproduce
  assert.ok(command.startsWith(`tensorpress compress 'my model'\\''s.onnx' --recipe '{"version":1,`), command)
  assert.match(command, /"output":\{"externalData":true\}/)
  assert.ok(command.endsWith('-o net.int8.onnx'))
})

test('is plain JSON', () => {
  const report = buildReport(input({ validation: runValidation({ top1: { before: 0.98, after: 0.97 } }) }))
  assert.deepEqual(JSON.parse(JSON.stringify(report)), report)
})

test('reads versions without loading anything native', () => {
  const versions = readVersions()
  assert.match(versions.tensorpress, /^\d+\.\d+\.\d+/)
  assert.match(versions.webgpu ?? '', /^\d+\.\d+/)
  assert.match(versions.onnxruntime ?? '', /^\d+\.\d+/)
})
